//! The listening socket, and how many clients may be connected.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use super::cause::Cause;
use super::connection;
use super::watch::{Order, Watch};
use super::Front;
use crate::environment::SystemError;

/// Connections that the system may hold for us before they are accepted.
const BACKLOG: i32 = 4096;

/// After an accept error that is not the client's fault (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How long a client may take to hear that there are too many, and how many may be listening to that.
const TURN_AWAY: Duration = Duration::from_secs(1);
const MOST_TURNED_AWAY: usize = 64;

/// When there are too many connections, this part of them (1 / n), the longest unused, makes room at
/// once: looking for one at a time would make a flood expensive.
const EVICT_PART: usize = 64;

/// Listens on `address`, without blocking.
///
/// # Errors
/// What the system says: address in use, not available, or not permitted.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restarted server need not wait for its predecessor's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The client connections of one front.
pub struct Connections {
    open: Mutex<Vec<Arc<Watch>>>,
    /// Places for clients that are being told why they are not served; the others are just closed.
    turned_away: Arc<Semaphore>,
    /// What was said to all, newcomers included.
    order: Mutex<Order>,
    /// Tells the listener to take no more.
    closing: Notify,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            turned_away: Arc::new(Semaphore::new(MOST_TURNED_AWAY)),
            order: Mutex::new(Order::None),
            closing: Notify::new(),
        }
    }
}

/// Takes a connection off the list when its task ends, however it ends.
struct Entered {
    front: Arc<Front>,
    watch: Arc<Watch>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.front.connections.leave(&self.watch);
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Watch>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn enter(&self, watch: &Arc<Watch>) {
        let mut open = self.lock();
        watch.set_place(open.len());
        open.push(watch.clone());
        drop(open);
        watch.give(self.standing_order());
    }

    fn standing_order(&self) -> Order {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, watch: &Watch) {
        let mut open = self.lock();
        let place = watch.place();
        open.swap_remove(place);
        if let Some(moved) = open.get(place) {
            moved.set_place(place);
        }
    }

    /// Whether a request is being served on any of them.
    pub fn any_busy(&self) -> bool {
        self.lock()
            .iter()
            .any(|watch| watch.unused_since().is_none())
    }

    /// Whether a request may still come on any of them from a client that could not know better.
    pub fn any_awaited(&self, patience: Duration) -> bool {
        self.lock().iter().any(|watch| watch.is_awaited(patience))
    }

    /// Closes the listener, once whoever has connected by now is let in.
    pub fn close_door(&self) {
        self.closing.notify_one();
    }

    /// Gives the same order to all, and to whoever still comes in.
    pub fn give_all(&self, order: Order) {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = order;
        let all: Vec<_> = self.lock().clone();
        for watch in all {
            watch.give(order);
        }
    }

    /// Closes the connections on which nothing has been served for longest. Whether there were any.
    fn evict(&self) -> bool {
        let mut unused: Vec<(u64, Arc<Watch>)> = self
            .lock()
            .iter()
            .filter(|watch| watch.order() != Order::Close)
            .filter_map(|watch| Some((watch.unused_since()?, watch.clone())))
            .collect();
        let count = (unused.len() / EVICT_PART).max(1);
        unused.sort_unstable_by_key(|(since, _)| *since);
        for (_, watch) in unused.iter().take(count) {
            watch.give(Order::Close);
        }
        !unused.is_empty()
    }
}

/// Accepts clients until the [door is closed](Connections::close_door). Nothing that a client or the system does ends
/// this loop.
pub async fn accept(front: Arc<Front>, listener: TcpListener) {
    let door = front.clone();
    let mut closing = pin!(door.connections.closing.notified());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.as_mut() => break,
        };
        match accepted {
            Ok((stream, address)) => let_in(&front, stream, address),
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!("cannot accept connections: {}", SystemError(&error));
                front.connections.evict();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // A runtime that has no more room for it closes it.
    if let Ok(listener) = listener.into_std() {
        let_in_the_last(&front, &listener);
    }
}

/// Takes the connections that the system has completed and nobody has accepted: closing the listener would reset them,
/// with what their clients may have sent.
fn let_in_the_last(front: &Arc<Front>, listener: &std::net::TcpListener) {
    loop {
        match listener.accept() {
            Ok((stream, address)) => {
                let stream = stream.set_nonblocking(true).map(|()| stream);
                if let Ok(stream) = stream.and_then(TcpStream::from_std) {
                    let_in(front, stream, address);
                }
            }
            Err(error) if is_the_clients(&error) => {}
            // Nobody is left, or there is no room for them.
            Err(_) => return,
        }
    }
}

/// Begins to serve a client, or turns it away when there are too many.
fn let_in(front: &Arc<Front>, stream: TcpStream, address: SocketAddr) {
    let connections = &front.connections;
    if connections.count() >= front.limits.max_connections && !connections.evict() {
        let response = front.reject(Cause::TooManyConnections, address.ip().to_canonical());
        if let Ok(place) = connections.turned_away.clone().try_acquire_owned() {
            tokio::spawn(async move {
                let _place = place;
                // Best effort: the client is turned away either way.
                let _ = tokio::time::timeout(TURN_AWAY, turn_away(stream, response)).await;
            });
        }
        return;
    }
    let watch = Arc::new(Watch::default());
    connections.enter(&watch);
    let entered = Entered {
        front: front.clone(),
        watch: watch.clone(),
    };
    let front = front.clone();
    tokio::spawn(async move {
        let _entered = entered;
        connection::serve(front, stream, address, watch).await;
    });
}

/// Says why, and waits for the client to have heard it: closing at once, with its request unread, would
/// reset the connection and take the answer back.
async fn turn_away(mut stream: TcpStream, response: Vec<u8>) -> io::Result<()> {
    stream.write_all(&response).await?;
    stream.shutdown().await?;
    let mut unread = [0u8; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// The connection was gone before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Raises the soft limit of open files to the hard one; returns how many clients it leaves room for.
pub fn room_for_connections(wanted: usize) -> usize {
    use nix::sys::resource::{getrlimit, setrlimit, Resource};
    /// For workers, logs, and R's own files.
    const OTHERS: u64 = 256;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return wanted;
    };
    let target = hard.min((wanted as u64).saturating_add(OTHERS)).max(soft);
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, target, hard).is_ok() {
        target
    } else {
        soft
    };
    wanted.min(limit.saturating_sub(OTHERS).max(64) as usize)
}
