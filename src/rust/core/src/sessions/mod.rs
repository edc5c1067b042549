//! Sessions: clients that stay with one worker, for pools whose apps keep what they know of a client in their process.
//!
//! A session takes a slot of its worker in the lock table for as long as it lasts, so that there are at most `slots` on
//! each. A signed cookie names it ([`Signer`]). It lasts while it has a request or a tunnel, and for `timeout` after that; it
//! ends with its worker.

mod cookie;
mod hold;
mod signer;
#[cfg(test)]
mod tests;

pub use cookie::{cookie_name, cookie_values, new_cookie, take_cookies};
pub use hold::Hold;
pub use signer::{SessionId, Signer};

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::coarse_millis;
use crate::lock::{Lease, MemberId, Standing, Table};
use crate::worker::Worker;

/// How long a session stays reserved whose client has not come back with its cookie: it may be one that keeps none, and makes
/// a new session with each request.
const UNRETURNED: Duration = Duration::from_secs(15);

/// Requests at a time that are sent to a worker that takes several: a browser has six connections, and httpuv answers static
/// files beside R's work. What is more waits in the queue.
const CONCURRENT: u32 = 32;

/// What a pool says of its sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionLimits {
    /// Sessions for each worker.
    pub slots: u32,
    /// How long a session without request and tunnel stays reserved.
    pub timeout: Duration,
    /// How long a worker that leaves waits for its sessions; `None` for ever.
    pub drain_timeout: Option<Duration>,
}

/// One session.
struct Session {
    slot: Lease<Worker>,
    requests: u32,
    tunnels: u32,
    /// When it last had one of these, on the coarse clock.
    since: u64,
    /// Its client keeps cookies.
    returned: bool,
    /// Its client has another one by now.
    replaced: bool,
    /// The page that it began with.
    page: Option<Page>,
}

/// Which page a browser asks for, told from others by a hash of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page(u64);

impl Page {
    pub fn at(path: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Session {
    fn is_quiet(&self) -> bool {
        self.requests == 0 && self.tunnels == 0
    }

    /// Whether a request that opens `page` may go elsewhere, from a worker that leaves: if it is for the session's own page,
    /// loaded anew, and not for what that links to or holds; and if no other page of this browser needs the worker. The one that
    /// is loaded anew still has its tunnel.
    fn may_move(&self, page: Option<Page>) -> bool {
        page.is_some() && page == self.page && self.requests == 0 && self.tunnels <= 1
    }
}

/// Which sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// All, for as long as they last.
    None,
    /// The pool leaves: those with a request or a tunnel.
    Pool,
    /// The server stops: those with a request.
    Server,
}

struct State {
    open: BTreeMap<SessionId, Session>,
    ending: Ending,
}

impl State {
    /// Whether there is no more reason to keep a session.
    fn is_over(&self, session: &Session) -> bool {
        let ending = if session.replaced {
            self.ending.max(Ending::Pool)
        } else {
            self.ending
        };
        match ending {
            Ending::None => false,
            Ending::Pool => session.is_quiet(),
            Ending::Server => session.requests == 0,
        }
    }
}

/// The sessions of one pool.
pub struct Sessions {
    limits: SessionLimits,
    signer: Signer,
    table: Arc<Table<Worker>>,
    state: Mutex<State>,
    next: AtomicU64,
}

impl Sessions {
    /// No sessions yet, of workers in `table`.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new(limits: SessionLimits, table: Arc<Table<Worker>>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            limits,
            signer: Signer::new()?,
            table,
            state: Mutex::new(State {
                open: BTreeMap::new(),
                ending: Ending::None,
            }),
            next: AtomicU64::new(0),
        }))
    }

    /// How long a worker that leaves waits for its sessions.
    pub fn drain_timeout(&self) -> Option<Duration> {
        self.limits.drain_timeout
    }

    /// Adds a worker to the lock table: with a slot for each session, and with as many requests at a time as it takes.
    pub fn add_worker(&self, worker: Arc<Worker>) -> MemberId {
        let requests = if worker.is_concurrent() {
            CONCURRENT
        } else {
            1
        };
        self.table.add_sticky(worker, self.limits.slots, requests)
    }

    /// A new session on the worker of `slot`, and its first request, which opens `page`, if it is a browser's that opens one.
    pub fn begin(self: &Arc<Self>, slot: Lease<Worker>, page: Option<Page>) -> Hold {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = SessionId {
            generation: slot.generation,
            number,
        };
        let member = slot.member();
        let session = Session {
            slot,
            requests: 1,
            tunnels: 0,
            since: coarse_millis(),
            returned: false,
            replaced: false,
            page,
        };
        self.lock().open.insert(id, session);
        Hold::new(self.clone(), id, member)
    }

    /// The session that a cookie names, with one more request. One whose time was over goes on if its worker has room.
    /// `page` as for [`begin`](Self::begin). None: it has to have a new session.
    pub fn resume(self: &Arc<Self>, cookie: &str, page: Option<Page>) -> Option<Hold> {
        let id = self.signer.verify(cookie)?;
        self.resume_open(id, page)
            .unwrap_or_else(|| self.reopen(id, page))
    }

    /// Whether a request with this cookie is for this pool, which leaves: one of an open session that does not go on
    /// elsewhere. `page` as for [`begin`](Self::begin).
    pub fn keeps(&self, cookie: &str, page: Option<Page>) -> bool {
        let Some(id) = self.signer.verify(cookie) else {
            return false;
        };
        let mut state = self.lock();
        match state.open.get(&id) {
            None => false,
            Some(session) if session.may_move(page) => {
                let ended = replace(&mut state, id);
                drop(state);
                drop(ended);
                false
            }
            Some(_) => true,
        }
    }

    /// None if it is not open.
    fn resume_open(self: &Arc<Self>, id: SessionId, page: Option<Page>) -> Option<Option<Hold>> {
        let mut state = self.lock();
        let session = state.open.get_mut(&id)?;
        let member = session.slot.member();
        let leaves =
            session.may_move(page) && self.table.standing(member) == Some(Standing::Draining);
        if !leaves {
            session.requests += 1;
            session.returned = true;
            session.page = session.page.or(page);
            return Some(Some(Hold::new(self.clone(), id, member)));
        }
        let ended = replace(&mut state, id);
        drop(state);
        drop(ended);
        Some(None)
    }

    fn reopen(self: &Arc<Self>, id: SessionId, page: Option<Page>) -> Option<Hold> {
        if self.lock().ending != Ending::None {
            return None;
        }
        let member = self
            .table
            .find(|worker| worker.generation == id.generation)?;
        let slot = self.table.acquire_slot_of(member)?;
        let session = Session {
            slot,
            requests: 1,
            tunnels: 0,
            since: coarse_millis(),
            returned: true,
            replaced: false,
            page,
        };
        let surplus = match self.lock().open.entry(id) {
            // Another request of its has come first.
            Entry::Occupied(mut known) => {
                known.get_mut().requests += 1;
                Some(session)
            }
            Entry::Vacant(place) => {
                place.insert(session);
                None
            }
        };
        // Its slot goes back to the table, which is not asked while the sessions are locked.
        drop(surplus);
        Some(Hold::new(self.clone(), id, member))
    }

    /// The value of its cookie.
    pub fn token(&self, id: SessionId) -> String {
        self.signer.sign(id)
    }

    /// Ends a session that its client has never heard of.
    pub fn forget(&self, id: SessionId) {
        let ended = self.lock().open.remove(&id);
        drop(ended);
    }

    /// Ends the sessions on a worker that is gone, or whose time is over; how many there were. Their tunnels are the
    /// worker's to end.
    pub fn end_of_worker(&self, generation: u64) -> usize {
        let number = |number| SessionId { generation, number };
        let ids = number(0)..=number(u64::MAX);
        let mut state = self.lock();
        let ids: Vec<SessionId> = state.open.range(ids).map(|(id, _)| *id).collect();
        let ended: Vec<_> = ids.iter().map(|id| state.open.remove(id)).collect();
        drop(state);
        ended.len()
    }

    /// The pool leaves, or the server stops: ends those that are not kept for that, and the others when they need not be any
    /// more.
    pub fn end(&self, ending: Ending) {
        let mut state = self.lock();
        state.ending = state.ending.max(ending);
        let over: Vec<SessionId> = state
            .open
            .iter()
            .filter(|(_, session)| state.is_over(session))
            .map(|(id, _)| *id)
            .collect();
        let ended: Vec<_> = over.iter().map(|id| state.open.remove(id)).collect();
        drop(state);
        drop(ended);
    }

    /// Ends those whose time is over; how long until the next one's may be.
    pub fn expire(&self) -> Duration {
        let timeout = millis(self.limits.timeout);
        let unreturned = timeout.min(millis(UNRETURNED));
        let now = coarse_millis();
        let mut next = unreturned;
        let mut state = self.lock();
        let mut over = Vec::new();
        for (id, session) in &state.open {
            let patience = if session.returned {
                timeout
            } else {
                unreturned
            };
            if session.is_quiet() {
                match (session.since + patience).checked_sub(now) {
                    None | Some(0) => over.push(*id),
                    Some(left) => next = next.min(left),
                }
            }
        }
        let ended: Vec<_> = over.iter().map(|id| state.open.remove(id)).collect();
        drop(state);
        drop(ended);
        Duration::from_millis(next)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client of a session has another one: it ends with what it has. Returns it if that is now, to be dropped outside the lock.
fn replace(state: &mut State, id: SessionId) -> Option<Session> {
    let session = state.open.get_mut(&id)?;
    session.replaced = true;
    if session.is_quiet() {
        state.open.remove(&id)
    } else {
        None
    }
}

/// In milliseconds, one more than it may be on a coarse clock; a time that is nearly endless stays so.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).map_or(u64::MAX / 4, |millis| millis.min(u64::MAX / 4)) + 1
}
