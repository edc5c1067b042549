//! Why something that was asked of a source failed.

/// Why an operation on the workers failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The condition class that R raises, without its prefix.
    pub class: &'static str,
    pub message: String,
    /// The last lines that the worker printed.
    pub lines: Vec<String>,
}

impl Failure {
    /// Without lines of a worker.
    pub fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            lines: Vec::new(),
        }
    }

    /// For what is asked of a server that is about to end.
    pub fn stopping() -> Self {
        Self::new("stopped", "The server is stopping.")
    }
}
