//! The threads on which files are opened, written and read: started with the server, never later.
//!
//! A runtime's own would be started when the first file is needed, and panic if there can be none then.

use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::environment::SystemError;
use crate::signals;

/// What a thread of ours needs: system calls and little else.
const STACK: usize = 256 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads. They end when the last clone is dropped.
#[derive(Clone)]
pub(super) struct FileThreads(Sender<Job>);

impl FileThreads {
    /// Starts `count` threads, or as many as the system allows.
    ///
    /// # Errors
    /// It allows none at all.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for started in 0..count {
            let queue = queue.clone();
            // A write beyond a limit of the file's size is an error, not a signal, as signals are blocked.
            let thread = signals::start_thread("faucet-files", STACK, move || work(&queue));
            match thread {
                Ok(_) => {}
                Err(error) if started == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        "{started} threads for files instead of {count}: {}",
                        SystemError(&error)
                    );
                    break;
                }
            }
        }
        Ok(Self(jobs))
    }

    /// Does something on one of the threads. It is done even if nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (reply, done) = oneshot::channel();
        let job = Box::new(move || drop(reply.send(work())));
        let gone = || io::Error::other("the threads for files are gone");
        self.0.send(job).map_err(|_| gone())?;
        // Without an answer, the work has panicked.
        done.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            // Whoever waits for it sees that there is no answer.
            Ok(job) => drop(catch_unwind(AssertUnwindSafe(job))),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_no_thread() {
        let threads = FileThreads::start(1).expect("a thread");
        let failed = threads.run(|| -> io::Result<()> { panic!("on purpose") });
        assert!(failed.await.is_err());
        assert_eq!(threads.run(|| Ok(3)).await.ok(), Some(3));
    }

    #[tokio::test]
    async fn a_signal_that_files_can_cause_is_blocked() {
        let threads = FileThreads::start(1).expect("a thread");
        let mask = threads.run(|| {
            let mut mask = nix::sys::signal::SigSet::empty();
            nix::sys::signal::pthread_sigmask(
                nix::sys::signal::SigmaskHow::SIG_BLOCK,
                None,
                Some(&mut mask),
            )?;
            Ok(mask)
        });
        let mask = mask.await.expect("known");
        assert!(mask.contains(nix::sys::signal::Signal::SIGXFSZ));
    }
}
