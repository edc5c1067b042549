//! What flows between two stages of a chain goes from agent to agent, and not through the proxy that runs the chain.
//!
//! 1. The proxy asks the agent of a stage that is not the last to keep what it streams ([`KEEP`](remote::KEEP)). The agent answers
//!    with its head, with a token ([`KEPT`](remote::KEPT)), and with a body of no bytes, the *control*: it ends when the worker has
//!    written all and somebody has the bytes, or wants no more of them, and breaks off when the worker does. Whoever drops it before
//!    drops the bytes. So the proxy learns of all that becomes of the stage's worker, and has its say, as if the bytes came to it.
//! 2. Once the next stage has its lease, and with it an agent, that agent is sent the control as the request's body, and told where
//!    the bytes are ([`SOURCE`](remote::SOURCE)). It takes them from there, by a GET, or from itself, and never takes them for
//!    complete before both, they and the control, have come to an end.
//! 3. If it cannot have them it says so before anything has run, and the proxy takes the bytes itself and passes them on. It does so
//!    as well when a stage has to take in what comes while others have all workers: see [`invoke`](super::invoke).

mod fetched;
mod give;
mod handover;
mod input;
mod joined;
mod kept;
mod source;
mod trust;
mod unreached;

use std::path::PathBuf;
use std::sync::Arc;

use crate::environment::Environment;
use kept::Kept;
use trust::Trust;
use unreached::Unreached;

pub use give::{give, is_for};
pub use handover::{Handover, Stage};
pub use input::{Elsewhere, Input};
pub use kept::KeptProgress;

/// What a server keeps for others, what it knows of them, and whom it believes.
#[derive(Default)]
pub struct Direct {
    kept: Arc<Kept>,
    unreached: Unreached,
    trust: Trust,
}

impl Direct {
    /// Others that speak TLS are believed if they have a certificate by one of `ca` (PEM), or by one of the system's.
    pub fn new(ca: Option<PathBuf>, environment: Environment) -> Self {
        Self {
            trust: Trust::new(ca, environment),
            ..Self::default()
        }
    }
}
