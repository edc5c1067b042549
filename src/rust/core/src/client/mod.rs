//! Requests to agents, proxies and functions, as a client makes them: one connection for each, over TCP, a Unix socket or TLS.
//!
//! A [`Client`] sends a request on whatever runtime it is awaited; an [`Exchange`] is one on a thread of its own, for those who
//! have no runtime and look at it from time to time.

mod address;
mod body;
mod error;
mod exchange;
mod send;
#[cfg(test)]
mod tests;

pub use address::ServerAddress;
pub use body::RequestBody;
pub use error::ClientError;
pub(crate) use error::{told, unfit};
pub use exchange::{Exchange, ExchangeLimits, Head, Polled};
pub use send::{Answer, Client, Outgoing};
