//! The slots of this machine's workers, offered to hubs that it dials.

mod address;
mod settings;

pub use address::is_loopback;
pub use settings::{HubAddress, OffersSettings, RedirectSettings};
