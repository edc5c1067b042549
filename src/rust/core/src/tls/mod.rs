//! TLS, by rustls: what certificates and keys are used, handshakes, and the streams that come of them.

mod client;
mod files;
mod server;
mod stream;

pub use client::{ClientTls, Peer};
pub use server::{Refusal, Refused, ServerTls, TlsSettings};
pub use stream::TlsStream;

use std::sync::Arc;

use rustls::crypto::{ring, CryptoProvider};

/// What all here encrypt with. Set nowhere for the whole process: an R session may load other packages that use rustls.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
