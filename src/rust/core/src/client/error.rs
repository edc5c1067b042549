//! Why there is no answer to a request of ours.

use std::io;
use std::time::Duration;

use crate::environment::SystemError;

/// Each message is a sentence without its subject, the server's address: "cannot be reached: ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent.
    #[error("cannot be reached: {0}")]
    Connect(String),
    #[error("has not answered completely within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("has not answered properly: {0}")]
    Answer(String),
    #[error("has answered with more than {0} bytes")]
    TooLarge(u64),
    /// Of what is sent.
    #[error("was not sent all: {0}")]
    File(String),
    /// Of the answer.
    #[error("has answered what cannot be written: {0}")]
    Output(String),
    /// Whoever was to read the answer has left.
    #[error("has answered, and nobody reads it")]
    Unread,
}

impl ClientError {
    /// The R condition's class, after `faucet_error_`.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Timeout(_) => "timeout",
            Self::Answer(_) | Self::TooLarge(_) => "answer",
            Self::File(_) => "file",
            Self::Output(_) => "output",
            Self::Unread => "unread",
        }
    }
}

/// Why a connection could not be had, within a sentence.
pub(crate) fn told(error: &io::Error) -> String {
    SystemError(error).to_string().to_lowercase()
}

/// Why there is no answer on it, within a sentence.
pub(crate) fn unfit(error: &hyper::Error) -> String {
    if error.is_parse() {
        "it does not speak HTTP".to_owned()
    } else {
        "it has closed the connection".to_owned()
    }
}
