//! A request's body that comes while its handler works, read by a thread that may block.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use tokio::sync::Notify;

/// How much may wait to be read, in bytes; beyond that, whoever sends waits.
const ROOM: usize = 256 * 1024;

/// A piece from this size on, in bytes, is most likely one of many: those that follow at once are handed on with it, as whoever reads
/// is woken for what is handed on. Smaller ones go on alone.
const BULK: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Complete,
    /// It broke off.
    Broken,
}

struct State {
    chunks: VecDeque<Bytes>,
    waiting: usize,
    /// Whoever sends waits until there is room for half of what may wait: it is not woken for each piece that is read.
    full: bool,
    /// A thread waits for more: telling one that does not would be a system call for nothing.
    blocked: bool,
    end: End,
    /// Nobody reads any more.
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Something came, for whoever blocks.
    arrived: Condvar,
    /// The same, for whoever awaits it.
    came: Notify,
    /// Something was read, or nobody reads any more.
    taken: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let blocked = {
            let mut state = self.lock();
            change(&mut state);
            std::mem::take(&mut state.blocked)
        };
        if blocked {
            self.arrived.notify_one();
        }
        self.came.notify_one();
    }

    /// Resolves when there is room for more; false if nobody wants any.
    async fn room(&self) -> bool {
        loop {
            {
                let mut state = self.lock();
                if state.closed {
                    return false;
                }
                if state.waiting < ROOM {
                    return true;
                }
                state.full = true;
            }
            self.taken.notified().await;
        }
    }
}

/// What became of a wish to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// One piece or more, in order.
    Some(Vec<Bytes>),
    /// Nothing yet.
    None,
    /// All has been read.
    End,
    /// The rest does not come.
    Broken,
}

/// The reader's end.
pub struct Inlet(Arc<Shared>);

impl Inlet {
    /// Begins to read a body. Inside a runtime, which goes on with it.
    pub(super) fn new(body: Incoming) -> Self {
        let (shared, inlet) = Self::empty();
        tokio::spawn(pump(body, shared));
        inlet
    }

    fn empty() -> (Arc<Shared>, Self) {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                waiting: 0,
                full: false,
                blocked: false,
                end: End::Open,
                closed: false,
            }),
            arrived: Condvar::new(),
            came: Notify::new(),
            taken: Notify::new(),
        });
        (shared.clone(), Self(shared))
    }

    /// The next bytes, all that are there but `most` of them at most; waits for some no longer than `patience`.
    pub fn read(&self, most: usize, patience: Duration) -> Read {
        let nothing = |state: &mut State| {
            state.blocked = state.chunks.is_empty() && state.end == End::Open;
            state.blocked
        };
        let state = self.0.lock();
        let (mut state, _) = self
            .0
            .arrived
            .wait_timeout_while(state, patience, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        state.blocked = false;
        self.take(&mut state, most)
    }

    /// The next bytes, all that are there.
    pub async fn next(&self) -> Read {
        loop {
            let read = self.take(&mut self.0.lock(), usize::MAX);
            if read != Read::None {
                return read;
            }
            self.0.came.notified().await;
        }
    }

    fn take(&self, state: &mut State, most: usize) -> Read {
        if state.chunks.is_empty() {
            return match state.end {
                End::Open => Read::None,
                End::Complete => Read::End,
                End::Broken => Read::Broken,
            };
        }
        let (mut taken, mut left) = (Vec::with_capacity(state.chunks.len()), most);
        while left > 0 {
            let Some(mut chunk) = state.chunks.pop_front() else {
                break;
            };
            if chunk.len() > left {
                state.chunks.push_front(chunk.split_off(left));
            }
            left -= chunk.len();
            taken.push(chunk);
        }
        state.waiting -= most - left;
        if state.full && state.waiting <= ROOM / 2 {
            state.full = false;
            self.0.taken.notify_one();
        }
        Read::Some(taken)
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.chunks.clear();
        drop(state);
        self.0.taken.notify_one();
    }
}

/// Hands a body on, up to its end. What nobody wants is read all the same: a connection that is closed with something unread is
/// reset, and its answer would be lost. Whoever has that closes it.
async fn pump(mut body: Incoming, shared: Arc<Shared>) {
    hand_on(&mut body, &shared).await;
    while let Some(Ok(_)) = body.frame().await {}
}

async fn hand_on(body: &mut Incoming, shared: &Shared) {
    while shared.room().await {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            // Before its end, only by whoever has left.
            () = shared.taken.notified() => continue,
        };
        let (mut pieces, mut length) = (Vec::new(), 0);
        let end = match take(frame, &mut pieces, &mut length) {
            End::Open if length >= BULK => follow(body, &mut pieces, &mut length).await,
            end => end,
        };
        if end == End::Open && pieces.is_empty() {
            continue;
        }
        shared.change(|state| {
            state.waiting += length;
            state.chunks.extend(pieces);
            state.end = end;
        });
        if end != End::Open {
            return;
        }
    }
}

/// Takes what comes at once, until that is enough.
async fn follow(body: &mut Incoming, pieces: &mut Vec<Bytes>, length: &mut usize) -> End {
    while *length < ROOM {
        // Whoever reads the connection does so meanwhile.
        tokio::task::yield_now().await;
        let mut next = body.frame();
        let polled = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut next).poll(cx)));
        let Poll::Ready(frame) = polled.await else {
            break;
        };
        match take(frame, pieces, length) {
            End::Open => {}
            end => return end,
        }
    }
    End::Open
}

/// Takes the data of what came. Whether it was the end.
fn take(
    frame: Option<hyper::Result<Frame<Bytes>>>,
    pieces: &mut Vec<Bytes>,
    length: &mut usize,
) -> End {
    match frame {
        None => End::Complete,
        Some(Err(_)) => End::Broken,
        Some(Ok(frame)) => {
            if let Some(piece) = frame.into_data().ok().filter(|piece| !piece.is_empty()) {
                *length += piece.len();
                pieces.push(piece);
            }
            End::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    fn push(shared: &Shared, text: &'static str) {
        shared.change(|state| {
            state.waiting += text.len();
            state.chunks.push_back(Bytes::from_static(text.as_bytes()));
        });
    }

    fn some(pieces: &[&'static str]) -> Read {
        let bytes = |text: &&'static str| Bytes::from_static(text.as_bytes());
        Read::Some(pieces.iter().map(bytes).collect())
    }

    #[tokio::test]
    async fn pieces_are_read_as_they_are_wanted_up_to_the_end() {
        let (shared, inlet) = Inlet::empty();
        assert_eq!(inlet.read(10, SHORT), Read::None);
        push(&shared, "abc");
        assert_eq!(inlet.read(2, SHORT), some(&["ab"]));
        assert_eq!(inlet.next().await, some(&["c"]));
        for text in ["de", "f", "ghi"] {
            push(&shared, text);
        }
        assert_eq!(inlet.read(4, SHORT), some(&["de", "f", "g"]));
        assert_eq!(inlet.read(4, SHORT), some(&["hi"]));
        shared.change(|state| state.end = End::Complete);
        assert_eq!(inlet.read(2, SHORT), Read::End);
        assert_eq!(inlet.next().await, Read::End);
    }

    #[tokio::test]
    async fn what_broke_off_is_no_end() {
        let (shared, inlet) = Inlet::empty();
        push(&shared, "a");
        shared.change(|state| state.end = End::Broken);
        assert_eq!(inlet.read(2, SHORT), some(&["a"]));
        assert_eq!(inlet.read(2, SHORT), Read::Broken);
    }

    #[test]
    fn a_thread_that_waits_gets_what_comes() {
        let (shared, inlet) = Inlet::empty();
        let reader = std::thread::spawn(move || {
            let read = inlet.read(10, Duration::from_secs(3600));
            (read, inlet.read(10, Duration::from_secs(3600)))
        });
        push(&shared, "a");
        while !shared.lock().blocked {
            std::thread::yield_now();
        }
        shared.change(|state| state.end = End::Complete);
        let read = reader.join().expect("no panic");
        assert_eq!(read, (some(&["a"]), Read::End));
    }

    #[tokio::test]
    async fn whoever_waits_for_room_gets_it_when_half_of_what_waits_is_read() {
        let (shared, inlet) = Inlet::empty();
        let quarter = Bytes::from(vec![0; ROOM / 4]);
        for _ in 0..4 {
            shared.change(|state| {
                state.waiting += quarter.len();
                state.chunks.push_back(quarter.clone());
            });
        }
        let mut room = Box::pin(shared.room());
        for _ in 0..2 {
            let polled = std::future::poll_fn(|cx| Poll::Ready(room.as_mut().poll(cx)));
            assert!(polled.await.is_pending());
            assert!(matches!(inlet.read(ROOM / 4, SHORT), Read::Some(_)));
        }
        assert!(room.await);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_hears_that_nobody_reads() {
        let (shared, inlet) = Inlet::empty();
        shared.change(|state| state.waiting = ROOM);
        let (room, ()) = tokio::join!(shared.room(), async { drop(inlet) });
        assert!(!room);
    }
}
