//! A slot that a worker has dialled in with: its one connection, which is watched while nothing is sent on it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;

use super::connection::Connection;
use crate::client_stream::ClientStream;
use crate::descriptors::Descriptor;

/// What becomes of the connection of a slot.
///
/// ```text
/// Fresh -> InUse <-> Idle
///    \       |       /
///     v      v      v
///          Gone
/// ```
enum Standing {
    /// Nothing was sent on it yet: it is a socket, and no more.
    Fresh(ClientStream),
    /// Between requests.
    Idle(Box<Connection>),
    /// A lease's holder has it.
    InUse,
    /// The worker has taken it back, or it was lost or used up.
    Gone,
}

struct State {
    standing: Standing,
    /// Whether it is not kept any more when it comes back from its use.
    closing: bool,
    /// Who waits for its end.
    watcher: Option<Waker>,
}

/// One slot of a worker that dials in.
pub struct Dialled {
    /// What the worker calls itself.
    pub name: Arc<str>,
    pub peer: SocketAddr,
    /// Whether it takes one request only.
    once: bool,
    state: Mutex<State>,
    /// Of the socket.
    _descriptor: Descriptor,
}

impl Dialled {
    pub fn new(
        name: Arc<str>,
        peer: SocketAddr,
        stream: ClientStream,
        once: bool,
        descriptor: Descriptor,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            peer,
            once,
            state: Mutex::new(State {
                standing: Standing::Fresh(stream),
                closing: false,
                watcher: None,
            }),
            _descriptor: descriptor,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its connection, for the first request.
    ///
    /// # Errors
    /// There is none any more.
    pub(super) async fn open(self: &Arc<Self>) -> io::Result<Connection> {
        let stream = {
            let mut state = self.lock();
            match std::mem::replace(&mut state.standing, Standing::InUse) {
                Standing::Fresh(stream) => stream,
                other => {
                    state.standing = other;
                    return Err(io::ErrorKind::NotConnected.into());
                }
            }
        };
        Connection::dialled(stream, InUse(self.clone())).await
    }

    /// Its connection, for one more request.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.standing, Standing::InUse) {
            Standing::Idle(connection) => Some(*connection),
            other => {
                state.standing = other;
                None
            }
        }
    }

    /// Keeps the connection for the next request, if it is for more than one.
    pub(super) fn keep(&self, mut connection: Connection) {
        if self.once {
            return;
        }
        let mut state = self.lock();
        if state.closing || !matches!(state.standing, Standing::InUse) {
            drop(state);
            return;
        }
        // From now on whoever watches hears of its end.
        let over = match &state.watcher {
            Some(watcher) => connection.poll_over(&mut Context::from_waker(watcher)),
            None => Poll::Pending,
        };
        if over.is_pending() {
            state.standing = Standing::Idle(Box::new(connection));
        } else {
            drop(state);
            // Its end is told by whoever has it in use.
            drop(connection);
        }
    }

    /// Resolves when there is no connection any more.
    pub async fn gone(&self) {
        std::future::poll_fn(|cx| self.poll_gone(cx)).await;
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let over = match &mut state.standing {
            Standing::Fresh(stream) => poll_spoken(stream, cx),
            Standing::Idle(connection) => connection.poll_over(cx),
            Standing::InUse => Poll::Pending,
            Standing::Gone => return Poll::Ready(()),
        };
        if over.is_ready() {
            let before = std::mem::replace(&mut state.standing, Standing::Gone);
            drop(state);
            drop(before);
            return Poll::Ready(());
        }
        match &mut state.watcher {
            Some(watcher) => watcher.clone_from(cx.waker()),
            None => state.watcher = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    pub fn is_gone(&self) -> bool {
        matches!(self.lock().standing, Standing::Gone)
    }

    /// Whether a request may be sent on it now.
    pub fn is_offered(&self) -> bool {
        matches!(self.lock().standing, Standing::Fresh(_) | Standing::Idle(_))
    }

    /// Closes it, or, if it is in use, does so afterwards.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        if matches!(state.standing, Standing::Fresh(_) | Standing::Idle(_)) {
            self.end(state);
        }
    }

    /// There is no connection from now on.
    fn end(&self, mut state: MutexGuard<'_, State>) {
        let before = std::mem::replace(&mut state.standing, Standing::Gone);
        let watcher = state.watcher.take();
        // What is dropped here may come back to this lock.
        drop(state);
        drop(before);
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }
}

/// Whether a worker has closed the connection, or speaks without being asked.
fn poll_spoken(stream: &ClientStream, cx: &mut Context<'_>) -> Poll<()> {
    let mut byte = [0];
    // Whatever is read, the slot is gone: nobody misses it.
    stream
        .poll_read_shared(cx, &mut ReadBuf::new(&mut byte))
        .map(|_| ())
}

/// A slot's connection in use. Dropped with it, unless it is kept, the slot is gone.
pub(super) struct InUse(Arc<Dialled>);

impl Drop for InUse {
    fn drop(&mut self) {
        let state = self.0.lock();
        if matches!(state.standing, Standing::InUse) {
            self.0.end(state);
        }
    }
}
