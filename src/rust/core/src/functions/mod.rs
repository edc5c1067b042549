//! Functions: what they are called, what is deployed, what a call of one holds, and what is kept of them.

mod bundle;
pub mod calls;
mod chain;
mod definition;
mod fields;
pub mod fleet;
pub mod management;
mod media;
mod name;
mod options;
mod pack;
mod records;
mod secrets;
mod services;
mod signature;

pub use bundle::{unpack, BadBundle, UnpackLimits};
#[cfg(any(test, feature = "fuzz"))]
pub use chain::fuzz;
pub use chain::{Chain, ChainError, Stage};
pub use definition::{Code, Definition};
pub use fields::BadDefinition;
pub use media::{negotiate, Media};
pub use name::{BadName, Name};
pub use options::{query_of, BadOption, Options};
pub use pack::{pack, Unpackable};
pub use records::{Broken, Records};
pub use secrets::{BadSecret, Secret, Secrets};
pub use services::{check_services, check_services_among, ServiceTaken};
pub use signature::{Mismatch, Parameter, Signature, Type};
