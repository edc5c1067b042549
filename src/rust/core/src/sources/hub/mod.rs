//! Workers that dial in.

mod settings;

pub use settings::{HubSettings, Token};
