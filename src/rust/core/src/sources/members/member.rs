//! One member: an address, how it stands, and what is being done about it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::AbortHandle;

use crate::lock::MemberId;
use crate::ops::status::State;
use crate::sources::{backoff, Entry};
use crate::worker::{Address, Worker};

/// Between two looks at a member that cannot be reached.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long the death of a process takes: the system may close its connections before it stops listening, and a look in
/// between would find it well. The next request would be lost, too.
const DEATH: Duration = Duration::from_millis(100);

/// ```text
/// Joining -> Serving <-> Occupied, Lost, Stuck
///    |                |
///    v                v
///  (gone) <-------- Leaving
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Found, but it does not accept connections yet.
    Joining,
    Serving,
    /// Others use it: a turn has been asked for.
    Occupied,
    /// It cannot be reached: looked at again and again.
    Lost,
    /// It has not answered in time, and may still do so.
    Stuck,
    /// Not found any more: finishes what is in flight.
    Leaving,
}

impl Standing {
    fn state(self) -> State {
        match self {
            Self::Joining => State::Starting,
            Self::Serving | Self::Occupied => State::Ready,
            Self::Lost | Self::Stuck => State::Suspended,
            Self::Leaving => State::Draining,
        }
    }
}

/// Whether a worker's next answer is news: it tells that the worker is well again. Shared with whoever reports
/// answers, of which there may be a hundred thousand a second.
#[derive(Clone, Default)]
pub struct Doubt(Arc<AtomicBool>);

impl Doubt {
    fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether there was doubt; there is none any more.
    pub fn settle(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// One member.
pub struct Member {
    pub id: u32,
    pub address: Address,
    pub worker: Arc<Worker>,
    /// Absent until it has joined.
    pub place: Option<MemberId>,
    pub standing: Standing,
    /// Whether the log tells of its joining.
    pub announced: bool,
    /// Attempts to reach or use it that failed since it last answered a request.
    pub failures: u32,
    /// How often it came back.
    returns: u32,
    found: (SystemTime, Instant),
    /// How long after it was found it joined.
    joined: Option<Duration>,
    doubt: Doubt,
    /// A look at it, or a turn there, that is under way.
    task: Option<AbortHandle>,
}

impl Member {
    pub fn new(id: u32, address: Address, worker: Arc<Worker>, doubt: Doubt) -> Self {
        Self {
            id,
            address,
            worker,
            place: None,
            standing: Standing::Joining,
            announced: false,
            failures: 0,
            returns: 0,
            found: (SystemTime::now(), Instant::now()),
            joined: None,
            doubt,
            task: None,
        }
    }

    /// It is in the lock table now.
    pub fn enter(&mut self, place: MemberId) {
        self.place = Some(place);
        self.standing = Standing::Serving;
        self.joined = Some(self.found.1.elapsed());
        self.task = None;
    }

    /// It can be reached again.
    pub fn came_back(&mut self) {
        self.standing = Standing::Serving;
        self.returns += 1;
        self.task = None;
    }

    /// Something went wrong with it; only an answer to a request makes that good.
    pub fn fail(&mut self) {
        self.failures += 1;
        self.doubt.raise();
    }

    /// Its next answer is to be reported, though nothing went wrong with the connection.
    pub fn watch(&self) {
        self.doubt.raise();
    }

    /// How long to leave it alone now.
    pub fn pause(&self) -> Duration {
        let pause = backoff::pause(self.failures, LONGEST_PAUSE, backoff::jitter());
        match self.standing {
            Standing::Lost => pause.max(DEATH),
            _ => pause,
        }
    }

    /// Whether something is being done about it.
    pub fn is_looked_after(&self) -> bool {
        self.task.is_some()
    }

    /// Something is being done about it; what was under way ends.
    pub fn busy_with(&mut self, task: AbortHandle) {
        self.give_up();
        self.task = Some(task);
    }

    /// Ends what is under way.
    pub fn give_up(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// What others are told of it.
    pub fn entry(&self) -> Entry {
        Entry {
            id: self.id,
            generation: self.worker.generation,
            pid: None,
            state: self.standing.state(),
            restarts: self.returns,
            started: Some(self.found.0),
            next_try: None,
            boot: self.joined,
            worker: Some(self.worker.clone()),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.give_up();
    }
}
