//! The slots of this machine's workers, offered to hubs that it dials.

mod settings;

pub use settings::{HubAddress, OffersSettings, RedirectSettings};
