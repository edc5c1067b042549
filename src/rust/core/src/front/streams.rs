//! The streams of one HTTP/2 connection, each with a clock of its own: what is there for a client to take is not there
//! for ever.
//!
//! A client takes a response by opening its windows. What it takes, hyper asks our bodies for, in pieces; what is in
//! h2's buffers then shows on the wire alone.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use super::frames::Frames;
use super::record::Call;

/// How long more streams must seem to be held up than are being served, in milliseconds: between two polls, what a
/// response has just handed over may not have been written.
const SETTLED: u64 = 500;

/// Finished tasks are kept up to here before they are looked for: between two looks at the clocks.
const UNSWEPT: usize = 256;

#[derive(Default)]
struct State {
    frames: Frames,
    /// What the next task serves.
    next: Option<Arc<Call>>,
    tasks: Vec<(Arc<Call>, AbortHandle)>,
    /// Since when bytes are held up that nobody here holds any more; 0 if none are.
    held_up: u64,
}

/// Shared by a connection's IO, its service, its executor and its clock.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<State>>);

/// What a look at the clocks has found.
pub enum Found {
    /// Nothing, and nothing will be before this moment.
    Nothing(Option<u64>),
    /// A response that has been handed over completely is not taken: nobody can end that stream but with its connection.
    HeldUp,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What travels.
    pub fn frames<T>(&self, with: impl FnOnce(&mut Frames) -> T) -> T {
        with(&mut self.lock().frames)
    }

    /// The next task is this one's.
    pub fn serve_next(&self, call: Arc<Call>) {
        self.lock().next = Some(call);
    }

    /// Ends the streams on which a client has taken nothing for `patience` milliseconds, though there was something:
    /// dropped, hyper's task has h2 send `RST_STREAM` (`CANCEL`). `live`: how many requests are being served here.
    pub fn look(&self, patience: u64, now: u64, live: usize) -> Found {
        let since = now.saturating_sub(patience);
        let mut state = self.lock();
        let mut next: Option<u64> = None;
        state.tasks.retain(|(call, task)| {
            if task.is_finished() {
                return false;
            }
            match call.offered() {
                0 => {}
                offered if offered <= since => {
                    task.abort();
                    return false;
                }
                offered => next = Some(next.map_or(offered, |next| next.min(offered))),
            }
            true
        });
        // Each request that is served may be one that has nothing to send yet.
        if state.frames.unmoved(since) <= live {
            state.held_up = 0;
        } else if state.held_up == 0 {
            state.held_up = now;
        } else if now >= state.held_up + SETTLED {
            return Found::HeldUp;
        }
        Found::Nothing(next.map(|offered| offered + patience))
    }
}

/// Runs hyper's task of each stream.
impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        let task = tokio::spawn(work);
        let mut state = self.lock();
        let Some(call) = state.next.take() else {
            return;
        };
        if state.tasks.len() >= UNSWEPT {
            state.tasks.retain(|(_, task)| !task.is_finished());
        }
        state.tasks.push((call, task.abort_handle()));
    }
}
