//! The worker's own side: an HTTP/1.1 server that hands requests to whatever handles them, one at a
//! time.
//!
//! One thread ([`Server`]) speaks HTTP over a Unix socket; another, R's, asks the [`Dispatcher`] between
//! them for the next request, works, and answers there. What the front wants to tell of a request in
//! flight comes by the control socket (see [`crate::worker::native`]).

mod answer;
mod compress;
mod control;
mod dispatcher;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod handler;
mod inlet;
mod listening;
mod pipe;
mod request;
mod server;
mod service;

pub use answer::{Answer, Content};
pub use dispatcher::{Dispatcher, Finished};
pub(crate) use dispatcher::{Outcome, Why};
pub(crate) use handler::Handler;
pub use inlet::{Inlet, Read};
pub(crate) use listening::{Listening, Terms};
pub use pipe::{pipe, PipeReader, PipeWriter, Written};
pub use request::Request;
pub use server::{Server, Settings};

#[cfg(test)]
mod tests;
