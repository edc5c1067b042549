//! Calls that nobody waits for: kept on disk with their input, run when there is room, their results kept for a while.
//!
//! A call has one task from its beginning to its end, which alone runs it; whoever ends it first, its task, its caller who cancels
//! it, or its deadline, does so under the lock of the state. What is in the state goes to the disk after each change, one change
//! of a call after the other. Before a call is run it is written down that it runs: one that was running when the server ended is
//! `lost`, unless it may be begun again.

mod answer;
mod ask;
mod call;
mod callback;
mod deliver;
mod expire;
mod id;
mod settings;
mod store;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use serde_json::{json, Value};
use tokio::sync::{watch, Notify, Semaphore};

pub use self::ask::{is_for, Ask, Begin};
pub use self::call::{Call, Callback, Delivery, Outcome, State, MOST_RUNS};
pub use self::callback::CallbackUrl;
pub use self::id::CallId;
pub use self::settings::Settings;
pub use self::task::{Answered, Input, Runner};

use self::store::Store;
use crate::body::{self, Buffered};
use crate::environment::SystemError;
use crate::functions::Broken;
use crate::tls::ClientTls;
use crate::token::Token;

/// So many run at a time: each of them may wait in its functions' queues.
const AT_ONCE: u32 = 64;

/// So many callbacks are on their way at a time.
const DELIVERIES: usize = 16;

/// A call in memory.
struct Kept {
    call: Call,
    /// Of its input and its result on disk.
    bytes: u64,
    /// Set when it has ended.
    ended: watch::Sender<bool>,
    /// Held by whoever writes its record, or removes it.
    saving: Arc<tokio::sync::Mutex<()>>,
}

impl Kept {
    fn new(call: Call) -> Self {
        let result = match &call.state {
            State::Done(done) if !call.expired => done.length,
            _ => 0,
        };
        let has_ended = call.state.has_ended();
        Self {
            bytes: if has_ended { result } else { call.input },
            ended: watch::channel(has_ended).0,
            saving: Arc::default(),
            call,
        }
    }
}

/// All that are known.
#[derive(Default)]
struct Known {
    calls: BTreeMap<CallId, Kept>,
    /// Of all of them on disk.
    bytes: u64,
}

impl Known {
    /// Takes room for a call's bytes, if there is.
    fn grow(&mut self, id: CallId, more: u64, most: u64) -> bool {
        let Some(kept) = self.calls.get_mut(&id) else {
            return false;
        };
        let fits = self.bytes.checked_add(more).is_some_and(|sum| sum <= most);
        if fits {
            self.bytes += more;
            kept.bytes += more;
        }
        fits
    }

    /// Has so many of its bytes on disk now.
    fn set_bytes(&mut self, id: CallId, bytes: u64) {
        if let Some(kept) = self.calls.get_mut(&id) {
            let before = std::mem::replace(&mut kept.bytes, bytes);
            self.bytes = self.bytes.saturating_sub(before).saturating_add(bytes);
        }
    }
}

/// How the server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Serving,
    /// It is about to end: what runs may finish.
    Closing,
    /// What runs is cut off.
    Cut,
}

/// What they need of the server.
struct Running {
    runner: Arc<dyn Runner>,
    bodies: body::Store,
    /// When it was started.
    since: SystemTime,
}

/// The calls of one server that nobody waits for.
pub struct Calls {
    settings: Settings,
    store: Store,
    /// For callbacks.
    tls: Option<Arc<ClientTls>>,
    /// What functions are to be shown.
    token: Option<Token>,
    known: Mutex<Known>,
    places: Semaphore,
    deliveries: Semaphore,
    /// Rings when something is to expire.
    news: Notify,
    ending: watch::Sender<Ending>,
    running: OnceLock<Running>,
}

impl Calls {
    /// Opens what is kept. `token` is what callers of functions have to show here, `tls` for callbacks. Reads files.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(
        folder: PathBuf,
        settings: Settings,
        token: Option<Token>,
        tls: Option<Arc<ClientTls>>,
    ) -> io::Result<(Arc<Self>, Vec<Broken>)> {
        let (store, calls, broken) = Store::open(folder)?;
        let mut known = Known::default();
        for call in calls {
            let kept = Kept::new(call);
            known.bytes = known.bytes.saturating_add(kept.bytes);
            known.calls.insert(kept.call.id, kept);
        }
        let calls = Self {
            settings,
            store,
            tls,
            token,
            known: Mutex::new(known),
            places: Semaphore::new(AT_ONCE as usize),
            deliveries: Semaphore::new(DELIVERIES),
            news: Notify::new(),
            ending: watch::channel(Ending::Serving).0,
            running: OnceLock::new(),
        };
        Ok((Arc::new(calls), broken))
    }

    /// Runs what waits, and takes what comes. `bodies` is where the server keeps what is on its way. To be called in the runtime.
    pub fn start(self: &Arc<Self>, runner: Arc<dyn Runner>, bodies: body::Store) {
        let now = SystemTime::now();
        // Set once.
        let _ = self.running.set(Running {
            runner,
            bodies,
            since: now,
        });
        let (mut lost, mut pending) = (Vec::new(), Vec::new());
        for (id, kept) in &mut self.known().calls {
            let call = &mut kept.call;
            if call.state == State::Running {
                call.state = if call.retry && call.runs < MOST_RUNS {
                    State::Queued
                } else {
                    lost.push(*id);
                    call.ended = Some(now);
                    kept.ended.send_replace(true);
                    State::Lost(error(
                        "the server ended while this call was running",
                        "lost",
                        *id,
                    ))
                };
            }
            if !call.state.has_ended() || call.is_to_be_told() {
                pending.push((call.created, *id));
            }
        }
        if !lost.is_empty() {
            let count = lost.len();
            tracing::warn!("calls that were running when the server ended are lost: {count}");
        }
        // First come, first served, as before.
        pending.sort_unstable();
        let calls = self.clone();
        tokio::spawn(async move {
            for id in lost {
                calls.settle(id).await;
            }
            for (_, id) in pending {
                tokio::spawn(calls.clone().attend(id));
            }
        });
        tokio::spawn(self.clone().expire());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No new ones, and none that waits begins any more.
    pub fn close(&self) {
        self.end_as(Ending::Closing);
    }

    /// Those that run are lost, or begun again at the next start: their workers are ended now.
    pub fn cut(&self) {
        self.end_as(Ending::Cut);
    }

    fn end_as(&self, ending: Ending) {
        self.ending.send_modify(|now| *now = ending.max(*now));
    }

    fn is_closing(&self) -> bool {
        *self.ending.borrow() >= Ending::Closing
    }

    /// Resolves when the server stands so, or is further.
    async fn until(&self, ending: Ending) {
        let mut now = self.ending.subscribe();
        let _ = now.wait_for(|now| *now >= ending).await;
    }

    /// Resolves when none runs. To be awaited after [`close`](Self::close).
    pub async fn idle(&self) {
        // Those that wait for a place give up, so that all of them can be had.
        drop(self.places.acquire_many(AT_ONCE).await);
    }

    /// What the input of a call may have, in bytes.
    pub fn max_input(&self) -> u64 {
        self.settings.max_results
    }

    /// Whether there is room for a call; it is known then.
    fn admit(&self, call: Call) -> bool {
        let mut known = self.known();
        let held = known
            .calls
            .values()
            .filter(|kept| !kept.call.expired)
            .count();
        let sum = known.bytes.checked_add(call.input);
        let fits = sum.is_some_and(|sum| sum <= self.settings.max_results);
        if held >= self.settings.max_calls || !fits {
            return false;
        }
        known.bytes += call.input;
        known.calls.insert(call.id, Kept::new(call));
        true
    }

    /// Has its input and its record on disk.
    async fn keep(self: &Arc<Self>, id: CallId, body: Buffered) -> io::Result<()> {
        let calls = self.clone();
        blocking(move || calls.store.keep_input(id, &body)).await?;
        self.save(id).await
    }

    /// Writes down how it stands with a call, unless it was forgotten.
    ///
    /// # Errors
    /// It cannot be written.
    async fn save(self: &Arc<Self>, id: CallId) -> io::Result<()> {
        let Some(saving) = self.saving(id) else {
            return Ok(());
        };
        let saving = saving.lock_owned().await;
        let calls = self.clone();
        blocking(move || {
            // To its end, though nobody may wait for it.
            let _saving = saving;
            let call = calls.known().calls.get(&id).map(|kept| kept.call.clone());
            call.map_or(Ok(()), |call| calls.store.write(&call))
        })
        .await
    }

    fn saving(&self, id: CallId) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let known = self.known();
        known.calls.get(&id).map(|kept| kept.saving.clone())
    }

    /// Changes a call that has not ended; whether it had not.
    fn change(&self, id: CallId, change: impl FnOnce(&mut Call)) -> bool {
        let mut known = self.known();
        let Some(kept) = known.calls.get_mut(&id) else {
            return false;
        };
        if kept.call.state.has_ended() {
            return false;
        }
        change(&mut kept.call);
        if kept.call.state.has_ended() {
            kept.call.ended = Some(SystemTime::now());
            kept.ended.send_replace(true);
        }
        true
    }

    /// Writes down the end of a call, and gives up what it does not need any more.
    async fn settle(self: &Arc<Self>, id: CallId) {
        if let Err(error) = self.save(id).await {
            let why = SystemError(&error);
            tracing::error!("the end of call {id} cannot be written down: {why}");
        }
        let Some(call) = self.find(id) else {
            return;
        };
        let result = match &call.state {
            State::Done(done) => Some(done.length),
            _ => None,
        };
        let calls = self.clone();
        let _ = blocking(move || {
            calls.store.remove_input(id);
            if result.is_none() {
                calls.store.remove_result(id);
            }
            calls.known().set_bytes(id, result.unwrap_or(0));
            Ok(())
        })
        .await;
        self.news.notify_one();
    }

    /// Has nothing of it any more.
    async fn forget(self: Arc<Self>, id: CallId) {
        let removed = {
            let mut known = self.known();
            let removed = known.calls.remove(&id);
            known.bytes = known
                .bytes
                .saturating_sub(removed.as_ref().map_or(0, |kept| kept.bytes));
            removed
        };
        let Some(kept) = removed else {
            return;
        };
        // Whoever still has it is to know.
        kept.ended.send_replace(true);
        let saving = kept.saving.lock_owned().await;
        let _ = blocking(move || {
            let _saving = saving;
            self.store.forget(id);
            Ok(())
        })
        .await;
    }

    fn find(&self, id: CallId) -> Option<Call> {
        self.known().calls.get(&id).map(|kept| kept.call.clone())
    }

    /// Told when it has ended.
    fn ended(&self, id: CallId) -> Option<watch::Receiver<bool>> {
        let known = self.known();
        known.calls.get(&id).map(|kept| kept.ended.subscribe())
    }
}

/// What is wrong with a call, as it is told of.
fn error(message: &str, cause: &str, id: CallId) -> Value {
    json!({ "error": message, "cause": cause, "call_id": id.to_string() })
}

/// Does something that waits for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}
