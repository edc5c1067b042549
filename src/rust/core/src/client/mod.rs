//! Requests to agents, proxies and functions, as a client makes them: one connection for each, over TCP, a Unix socket or TLS.
//!
//! A [`Client`] sends a request on whatever runtime it is awaited; an [`Exchange`] is one on a thread of its own, for those who
//! have no runtime and look at it from time to time. Its body may come from a [`Feed`] while it is sent, and a [`Pour`] writes
//! its answer out as it comes.

mod address;
mod body;
mod error;
mod exchange;
mod feed;
mod input;
mod pour;
mod send;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;

pub use address::ServerAddress;
pub use body::RequestBody;
pub use error::ClientError;
pub(crate) use error::{told, unfit};
pub use exchange::{Exchange, ExchangeLimits, Head, Polled};
pub use feed::{feed, FedBody, Feed, Offered};
pub use input::feed_from;
pub use pour::Pour;
pub use send::{Answer, Client, Outgoing};
