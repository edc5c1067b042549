//! Connections that a machine has dialled which cannot be dialled: whoever wants one to it takes one of these, and it dials
//! another.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::io::ReadBuf;
use tokio::sync::Notify;

use crate::client_stream::ClientStream;
use crate::descriptors::Descriptor;

/// So many wait at most; for one more, the oldest is closed. A machine keeps far fewer.
const MOST: usize = 64;

type Waiting = VecDeque<(ClientStream, Descriptor)>;

/// The connections of one machine that nothing was sent on yet.
#[derive(Clone)]
pub struct Callers(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    waiting: Mutex<Waiting>,
    came: Notify,
}

impl Callers {
    /// None yet, of a machine by this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(Inner {
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

    /// One more waits. The descriptor is its own.
    pub fn push(&self, stream: ClientStream, descriptor: Descriptor) {
        let oldest = self.with(|waiting| {
            waiting.push_back((stream, descriptor));
            (waiting.len() > MOST).then(|| waiting.pop_front())
        });
        drop(oldest);
        self.0.came.notify_one();
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.with(|waiting| waiting.len())
    }

    /// The one that came last, or the next that comes: there is no limit to that here. What was closed meanwhile is passed over.
    pub(crate) async fn take(&self) -> ClientStream {
        loop {
            let came = self.0.came.notified();
            while let Some((stream, _)) = self.with(VecDeque::pop_back) {
                if !is_over(&stream).await {
                    if self.count() > 0 {
                        // Others may wait who were not told of each.
                        self.0.came.notify_one();
                    }
                    return stream;
                }
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

/// Two are the same if their machines have the same name: there is one for each.
impl PartialEq for Callers {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
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
        self.0.name.cmp(&other.0.name)
    }
}

impl Hash for Callers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}
