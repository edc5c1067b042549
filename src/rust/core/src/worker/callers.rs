//! Connections that a machine has dialled which cannot be dialled: whoever wants one to it takes one of these, and it dials
//! another.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::atomic::{self, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::io::ReadBuf;
use tokio::sync::Notify;

use crate::client_stream::ClientStream;
use crate::descriptors::Descriptor;

/// So many wait at most; for one more, the oldest is closed. A machine keeps far fewer.
const MOST: usize = 64;

/// Counts them, so that none is taken for one before it whose machine had the same name.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct Waiting {
    connections: VecDeque<(ClientStream, Descriptor)>,
    /// No more come.
    over: bool,
}

/// The connections of one machine that nothing was sent on yet.
#[derive(Clone)]
pub struct Callers(Arc<Inner>);

struct Inner {
    number: u64,
    name: Arc<str>,
    waiting: Mutex<Waiting>,
    came: Notify,
}

impl Callers {
    /// None yet, of a machine by this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(Inner {
            number: NUMBERS.fetch_add(1, atomic::Ordering::Relaxed),
            name: name.into(),
            waiting: Mutex::default(),
            came: Notify::new(),
        }))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Waiting) -> T) -> T {
        look(
            &mut self
                .0
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// One more waits, unless this is [over](Self::end). The descriptor is its own.
    pub fn push(&self, stream: ClientStream, descriptor: Descriptor) {
        let unused = self.with(|waiting| {
            if waiting.over {
                return Some((stream, descriptor));
            }
            waiting.connections.push_back((stream, descriptor));
            match waiting.connections.len() > MOST {
                true => waiting.connections.pop_front(),
                false => None,
            }
        });
        drop(unused);
        self.0.came.notify_one();
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.with(|waiting| waiting.connections.len())
    }

    /// Closes those that wait, and takes no more: the machine is done with. What was taken goes on.
    pub fn end(&self) {
        let unused = self.with(|waiting| {
            waiting.over = true;
            std::mem::take(&mut waiting.connections)
        });
        drop(unused);
        self.0.came.notify_waiters();
    }

    /// The one that came last, or the next that comes: there is no limit to that here. What was closed meanwhile is passed over.
    ///
    /// # Errors
    /// None comes any more.
    pub(crate) async fn take(&self) -> io::Result<ClientStream> {
        loop {
            let came = self.0.came.notified();
            tokio::pin!(came);
            // Before the look, so that an end between look and wait is not missed.
            came.as_mut().enable();
            while let Some((stream, _)) = self.with(|waiting| waiting.connections.pop_back()) {
                if !is_over(&stream).await {
                    if self.count() > 0 {
                        // Others may wait who were not told of each.
                        self.0.came.notify_one();
                    }
                    return Ok(stream);
                }
            }
            if self.with(|waiting| waiting.over) {
                return Err(io::ErrorKind::NotConnected.into());
            }
            came.await;
        }
    }
}

/// Whether the other side has closed it, or speaks without being asked.
async fn is_over(stream: &ClientStream) -> bool {
    std::future::poll_fn(|cx| {
        let mut byte = [0];
        let read = stream.poll_read_shared(cx, &mut ReadBuf::new(&mut byte));
        Poll::Ready(read.map(|_: io::Result<()>| ()).is_ready())
    })
    .await
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callers({})", self.0.name)
    }
}

impl fmt::Display for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl PartialEq for Callers {
    fn eq(&self, other: &Self) -> bool {
        self.0.number == other.0.number
    }
}

impl Eq for Callers {}

impl PartialOrd for Callers {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Callers {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.number.cmp(&other.0.number)
    }
}

impl Hash for Callers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.number.hash(state);
    }
}
