//! Who is let in, and how many clients may be connected.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};

use super::cause::Cause;
use super::connection::{self, speaks_http2};
use super::connection_state::{ConnectionState, Phase, Shutdown};
use super::frames::REFUSED;
use super::listening::{Last, Listener};
use super::redirects::Redirects;
use super::Front;
use crate::client_address::ClientAddress;
use crate::client_stream::ClientStream;
use crate::descriptors::Descriptor;
use crate::environment::SystemError;
use crate::ops::News;
use crate::tls::ServerTls;

/// After an accept error that is not the client's fault (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How long a client may take to hear that there are too many, and how many may be listening to that.
const TURN_AWAY: Duration = Duration::from_secs(1);
const MOST_TURNED_AWAY: usize = 64;

/// How long the first bytes of a client that is turned away may take, which show how to tell it.
const FIRST_WORD: Duration = Duration::from_millis(100);

/// When there are too many connections, this part of them (1 / n), those that have waited longest, makes room at
/// once: looking for one at a time would make a flood expensive.
const EVICT_PART: usize = 64;

/// How many connections may be closing, beyond what there may be, before newcomers are turned away all the same.
const CLOSING: usize = 32;

/// The client connections of one front.
pub struct Connections {
    open: Mutex<Vec<Arc<ConnectionState>>>,
    /// Places for clients that are being told why they are not served; the others are just closed.
    turned_away: Arc<Semaphore>,
    /// What was said to all, newcomers included.
    shutdown: Mutex<Shutdown>,
    /// Tells the listeners to take no more.
    closing: Notify,
    closed: AtomicBool,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            turned_away: Arc::new(Semaphore::new(MOST_TURNED_AWAY)),
            shutdown: Mutex::new(Shutdown::None),
            closing: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }
}

/// A connection on the list, until it is closed.
pub struct Entered {
    pub front: Arc<Front>,
    pub connection: Arc<ConnectionState>,
    /// Where there is what it comes for, and nothing else.
    pub redirects: Option<Arc<Redirects>>,
    _descriptor: Descriptor,
}

/// What clients shake hands with, if they are to speak TLS.
fn tls_of(front: &Front, redirects: Option<&Arc<Redirects>>) -> Option<Arc<ServerTls>> {
    match redirects {
        Some(redirects) => redirects.tls().cloned(),
        None => front.tls.clone(),
    }
}

impl Entered {
    /// What its client is to shake hands with.
    pub fn tls(&self) -> Option<Arc<ServerTls>> {
        tls_of(&self.front, self.redirects.as_ref())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.front.connections.leave(&self.connection);
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<ConnectionState>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn enter(&self, connection: &Arc<ConnectionState>) {
        let mut open = self.lock();
        connection.set_place(open.len());
        open.push(connection.clone());
        drop(open);
        connection.shut_down(self.requested_shutdown());
    }

    fn requested_shutdown(&self) -> Shutdown {
        *self.shutdown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, connection: &ConnectionState) {
        let mut open = self.lock();
        let place = connection.place();
        open.swap_remove(place);
        if let Some(moved) = open.get(place) {
            moved.set_place(place);
        }
    }

    /// Whether a request is being served on any of them, or its answer still being sent.
    pub fn any_busy(&self) -> bool {
        self.lock().iter().any(|connection| connection.is_busy())
    }

    /// Whether a request may still come on any of them from a client that could not know better.
    pub fn any_awaited(&self, patience: Duration) -> bool {
        self.lock()
            .iter()
            .any(|connection| connection.is_awaited(patience))
    }

    /// Whether a hub may not have heard yet that a slot was taken back: a request of its may be on its way.
    pub fn any_parting(&self) -> bool {
        let lingering = self.turned_away.available_permits() < MOST_TURNED_AWAY;
        let dialled = |connection: &Arc<ConnectionState>| {
            connection.is_dialled() && connection.phase() != Phase::Tunnel
        };
        lingering || self.lock().iter().any(dialled)
    }

    /// Closes the listeners, once whoever has connected by now is let in.
    pub fn close_door(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.closing.notify_waiters();
    }

    /// Resolves when the door is closed.
    pub async fn closed(&self) {
        let mut closing = pin!(self.closing.notified());
        // Before the look, so that nothing is missed between look and wait.
        closing.as_mut().enable();
        if !self.is_closed() {
            closing.await;
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Shuts all down, and whoever still comes in.
    pub fn shut_down_all(&self, stage: Shutdown) {
        *self.shutdown.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        let all: Vec<_> = self.lock().clone();
        for connection in all {
            connection.shut_down(stage);
        }
    }

    /// Closes the connections that have had [no complete request](ConnectionState::incomplete_since) for longest, at least `least`
    /// of them. Whether there were any.
    pub fn evict(&self, least: usize) -> bool {
        let mut incomplete: Vec<(u64, Arc<ConnectionState>)> = self
            .lock()
            .iter()
            .filter(|connection| connection.shutdown() != Shutdown::Immediate)
            .filter_map(|connection| Some((connection.incomplete_since()?, connection.clone())))
            .collect();
        let count = (incomplete.len() / EVICT_PART).max(least);
        incomplete.sort_unstable_by_key(|(since, _)| *since);
        for (_, connection) in incomplete.iter().take(count) {
            connection.evict();
        }
        !incomplete.is_empty()
    }
}

/// Accepts clients until the [door is closed](Connections::close_door). Nothing that a client or the system does ends
/// this loop.
pub async fn accept(front: Arc<Front>, listener: impl Into<Listener>) {
    accept_for(front, listener.into(), None).await;
}

/// The same for those who come for an answer that waits. They are let in for as long as the server is there: what waits is not
/// lost because the door is closed to others.
pub async fn accept_fetchers(front: Arc<Front>, listener: Listener, redirects: Arc<Redirects>) {
    accept_for(front, listener, Some(redirects)).await;
}

async fn accept_for(front: Arc<Front>, listener: Listener, redirects: Option<Arc<Redirects>>) {
    let door = front.clone();
    let mut closing = pin!(door.connections.closed());
    let news = News::default();
    while redirects.is_some() || !door.connections.is_closed() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.as_mut(), if redirects.is_none() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                if let_in(&front, stream, address, redirects.as_ref()) == Room::Made {
                    // Whoever makes room closes now, before the next one comes.
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if is_the_other_sides(&error) => {}
            Err(error) => {
                if news.due().is_some() {
                    tracing::warn!("cannot accept connections: {}", SystemError(&error));
                }
                front.connections.evict(1);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // A runtime that has no more room for it closes it.
    if let Ok(Some(last)) = listener.into_last() {
        let_in_the_last(&front, &last);
    }
}

/// Takes the connections that the system has completed and nobody has accepted: closing the listener would reset them,
/// with what their clients may have sent.
fn let_in_the_last(front: &Arc<Front>, last: &Last) {
    loop {
        match last.accept() {
            Ok((stream, address)) => {
                let _ = let_in(front, stream, address, None);
            }
            Err(error) if is_the_other_sides(&error) => {}
            // Nobody is left, or there is no room for them.
            Err(_) => return,
        }
    }
}

/// Enters a connection that this machine has dialled on the list; none if there are too few descriptors.
pub fn enter_dialled(front: &Arc<Front>) -> Option<Entered> {
    let descriptor = front.store.descriptors().take()?;
    let connection = Arc::new(ConnectionState::dialled());
    front.connections.enter(&connection);
    Some(Entered {
        front: front.clone(),
        connection,
        redirects: None,
        _descriptor: descriptor,
    })
}

/// Whether there is room for a newcomer.
#[derive(PartialEq, Eq)]
enum Room {
    Left,
    /// Others go for it.
    Made,
    None,
}

/// Begins to serve a client, or turns it away when there are too many.
fn let_in(
    front: &Arc<Front>,
    stream: ClientStream,
    address: ClientAddress,
    redirects: Option<&Arc<Redirects>>,
) -> Room {
    let connections = &front.connections;
    let descriptors = front.store.descriptors();
    let most = descriptors.room_for_connections(front.limits.max_connections);
    let left = (connections.count() < most)
        .then(|| descriptors.take())
        .flatten();
    let (room, descriptor) = match left {
        Some(descriptor) => (Room::Left, descriptor),
        None if connections.evict(1) && descriptors.overdrawn() < CLOSING => {
            (Room::Made, descriptors.take_anyway())
        }
        None => {
            let response = front.reject(Cause::TooManyConnections, address);
            if let Ok(place) = connections.turned_away.clone().try_acquire_owned() {
                let tls = tls_of(front, redirects);
                tokio::spawn(async move {
                    let _place = place;
                    // Best effort: the client is turned away either way.
                    let _ = tokio::time::timeout(TURN_AWAY, async {
                        let (stream, http2) = match (stream, tls) {
                            (ClientStream::Tcp(socket), Some(tls)) => {
                                let stream = tls.accept(socket).await?;
                                let http2 = stream.has_agreed_on_http2();
                                (stream, http2)
                            }
                            (stream, _) => {
                                let first =
                                    tokio::time::timeout(FIRST_WORD, speaks_http2(&stream)).await;
                                (stream, matches!(first, Ok(Ok(true))))
                            }
                        };
                        turn_away(stream, if http2 { REFUSED.into() } else { response }).await
                    })
                    .await;
                });
            }
            return Room::None;
        }
    };
    let connection = Arc::new(match redirects {
        Some(_) => ConnectionState::fetching(),
        None => ConnectionState::default(),
    });
    connections.enter(&connection);
    let entered = Entered {
        front: front.clone(),
        connection,
        redirects: redirects.cloned(),
        _descriptor: descriptor,
    };
    tokio::spawn(connection::welcome(stream, address, entered));
    room
}

/// Says why, and waits for the client to have heard it: closing at once, with its request unread, would
/// reset the connection and take the answer back.
async fn turn_away(mut stream: ClientStream, response: Vec<u8>) -> io::Result<()> {
    stream.write_all(&response).await?;
    stream.shutdown().await?;
    let mut unread = [0u8; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// Closes a connection on which the last word was said, in the same way: waits for the client to have heard it, if
/// not too many others have to.
pub fn linger(connections: &Connections, stream: ClientStream) {
    part_with(connections, stream, Vec::new());
}

/// The same with a last word still to be said.
pub fn part_with(connections: &Connections, stream: ClientStream, word: Vec<u8>) {
    let place = connections.turned_away.clone().try_acquire_owned();
    // Outside a runtime (it is being shut down) there is nobody left to wait.
    if let (Ok(place), Ok(runtime)) = (place, tokio::runtime::Handle::try_current()) {
        runtime.spawn(async move {
            let _place = place;
            let _ = tokio::time::timeout(TURN_AWAY, turn_away(stream, word)).await;
        });
    }
}

/// The connection was gone before it was accepted.
pub fn is_the_other_sides(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
