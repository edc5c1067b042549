//! Why something that was asked of a source failed.

const RELOADING: &str = "A reload is under way already.";

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

    /// For a reload while another one is under way.
    pub fn reloading() -> Self {
        Self::new("reload", RELOADING)
    }

    /// Whether it is that.
    pub fn is_reloading(&self) -> bool {
        self.class == "reload" && self.message == RELOADING
    }

    /// For what is asked of a server that is about to end.
    pub fn stopping() -> Self {
        Self::new("stopped", "The server is stopping.")
    }

    /// Nobody wants any more what is being started.
    pub fn unwanted() -> Self {
        Self::new("unwanted", "It is not wanted any more.")
    }

    /// The line that says why, where there is room for one: R prints more behind it.
    pub fn reason(&self) -> &str {
        let trace = self
            .lines
            .iter()
            .rposition(|line| line.trim() == "Backtrace:");
        let before = &self.lines[..trace.unwrap_or(self.lines.len())];
        let says = |line: &&str| {
            !line.is_empty() && *line != "Execution halted" && !line.starts_with("Calls: ")
        };
        let mut lines = before.iter().rev().map(|line| line.trim());
        lines.find(says).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_not_what_r_prints_behind_it() {
        let reason = |lines: &[&str]| {
            let mut failure = Failure::new("boot", "");
            failure.lines = lines.iter().map(|line| (*line).to_owned()).collect();
            failure.reason().to_owned()
        };
        let error = "Error: no database";
        assert_eq!(reason(&["loads", error]), error);
        let calls = "Calls: local ... source -> connect";
        assert_eq!(reason(&[error, calls, "Execution halted", ""]), error);
        let cause = "! no database";
        let trace = [
            "Error in `connect()`:",
            cause,
            "Backtrace:",
            "    \u{2586}",
            " 1. connect()",
            "Execution halted",
        ];
        assert_eq!(reason(&trace), cause);
        assert_eq!(reason(&[]), "");
        assert_eq!(reason(&["Execution halted"]), "");
    }
}
