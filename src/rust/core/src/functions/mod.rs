//! Functions: what they are called, what is deployed, what a call of one holds, and what is kept of them.

mod bundle;
mod definition;
mod fields;
pub mod fleet;
pub mod management;
mod name;
mod options;
mod pack;
mod records;
mod secrets;
mod signature;

pub use bundle::{unpack, BadBundle, UnpackLimits};
pub use definition::{Code, Definition};
pub use fields::BadDefinition;
pub use name::{BadName, Name};
pub use options::{BadOption, Options};
pub use pack::{pack, Unpackable};
pub use records::{Broken, Records};
pub use secrets::{BadSecret, Secret, Secrets};
pub use signature::{Mismatch, Parameter, Signature, Type};
