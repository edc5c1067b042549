//! What the process's environment holds, as it was when someone looked who may.
//!
//! R's code changes the environment whenever it likes (`Sys.setenv()`), and C locks nothing meanwhile: who reads it on another
//! thread may follow a pointer into memory that is free. So it is read here and nowhere else, on R's own thread, and handed
//! on; `clippy.toml` bans all else that reads it.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

/// Names and values.
pub type Variables = Vec<(OsString, OsString)>;

/// A look at the environment. Clones share it.
#[derive(Clone, Debug)]
pub struct Environment {
    variables: Arc<Mutex<Arc<Variables>>>,
    temporary: PathBuf,
}

impl Environment {
    /// Looks. To be called on the thread that changes the environment, if any does: R's.
    #[allow(clippy::disallowed_methods)]
    pub fn read() -> Self {
        Self {
            variables: Arc::new(Mutex::new(Arc::new(std::env::vars_os().collect()))),
            temporary: std::env::temp_dir(),
        }
    }

    /// Looks again, for the processes that are started from now on. On the same thread.
    #[allow(clippy::disallowed_methods)]
    pub fn refresh(&self) {
        let now = Arc::new(std::env::vars_os().collect());
        *self
            .variables
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// All variables, for a process.
    pub fn variables(&self) -> Arc<Variables> {
        self.variables
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The value of a variable, as it was at the last look; none if it is no text.
    pub fn text(&self, name: &str) -> Option<String> {
        let variables = self.variables();
        let mut named = variables.iter().filter(|(known, _)| known == name);
        named
            .next()
            .and_then(|(_, value)| value.to_str().map(str::to_owned))
    }

    /// Where temporary files go: `TMPDIR`, or the system's own place.
    pub fn temporary_directory(&self) -> &Path {
        &self.temporary
    }
}

/// What the system says of a failure, in English. C's own words are in the user's language, which is looked for in the
/// environment.
pub struct SystemError<'a>(pub &'a io::Error);

impl fmt::Display for SystemError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.raw_os_error() {
            Some(code) => f.write_str(match Errno::from_raw(code) {
                // "Try again", which nobody but a program can.
                Errno::EAGAIN => "Resource temporarily unavailable",
                code => code.desc(),
            }),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_said_plainly() {
        let said = |code: Errno| SystemError(&io::Error::from(code)).to_string();
        assert_eq!(said(Errno::EAGAIN), "Resource temporarily unavailable");
        assert_eq!(said(Errno::ENOSPC), "No space left on device");
    }
}
