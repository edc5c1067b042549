//! A response written bit by bit: bounded, so that the writer waits for a slow reader.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};

/// Bytes that may wait for the reader before the writer has to. Large pieces then do not make both wait for each other in turns.
const ROOM: usize = 256 * 1024;

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is on its way.
    Done,
    /// The reader has not made room in time: try again.
    Full,
    /// The reader is gone.
    Closed,
}

/// `Open` until the writer says how it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Complete,
    Broken,
    /// The reader has had the time to send what it had before.
    Told,
}

struct State {
    chunks: VecDeque<Bytes>,
    waiting: usize,
    end: End,
    reader_gone: bool,
    reader: Option<Waker>,
    /// The writer waits, until there is room for half of what may wait: it is not woken for each chunk that is taken.
    blocked: bool,
}

struct Shared {
    state: Mutex<State>,
    /// There is room, or the reader is gone.
    moved: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handler's end. Dropping it without [`finish`](Self::finish) breaks the response off.
pub struct PipeWriter(Arc<Shared>);

/// The connection's end.
pub struct PipeReader(Arc<Shared>);

/// A new pipe.
pub fn pipe() -> (PipeWriter, PipeReader) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            chunks: VecDeque::new(),
            waiting: 0,
            end: End::Open,
            reader_gone: false,
            reader: None,
            blocked: false,
        }),
        moved: Condvar::new(),
    });
    (PipeWriter(shared.clone()), PipeReader(shared))
}

impl PipeWriter {
    /// Hands over a copy of a chunk; waits at most `patience` for room. A chunk of any size fits an empty pipe.
    pub fn write(&self, chunk: &[u8], patience: Duration) -> Written {
        // Nobody else writes: what room there is does not get less meanwhile.
        let room = self.room(patience);
        // In chunked coding an empty one would be the end.
        if room != Written::Done || chunk.is_empty() {
            return room;
        }
        let chunk = Bytes::copy_from_slice(chunk);
        let mut state = self.0.lock();
        if state.reader_gone {
            return Written::Closed;
        }
        state.waiting += chunk.len();
        state.chunks.push_back(chunk);
        let waker = state.reader.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Written::Done
    }

    fn room(&self, patience: Duration) -> Written {
        let full = |state: &mut State| {
            state.blocked = state.waiting >= ROOM && !state.reader_gone;
            state.blocked
        };
        let state = self.0.lock();
        let (mut state, _) = self
            .0
            .moved
            .wait_timeout_while(state, patience, full)
            .unwrap_or_else(PoisonError::into_inner);
        if state.reader_gone {
            Written::Closed
        } else if std::mem::take(&mut state.blocked) {
            Written::Full
        } else {
            Written::Done
        }
    }

    /// Whether somebody still reads.
    pub fn is_open(&self) -> bool {
        !self.0.lock().reader_gone
    }

    /// The response is complete.
    pub fn finish(self) {
        self.end(End::Complete);
    }

    fn end(&self, end: End) {
        let mut state = self.0.lock();
        if state.end == End::Open {
            state.end = end;
        }
        let waker = state.reader.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.end(End::Broken);
    }
}

impl Body for PipeReader {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut state = self.0.lock();
        if let Some(chunk) = state.chunks.pop_front() {
            state.waiting -= chunk.len();
            let wanted = state.waiting <= ROOM / 2 && std::mem::take(&mut state.blocked);
            drop(state);
            if wanted {
                self.0.moved.notify_one();
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match state.end {
            End::Complete => Poll::Ready(None),
            End::Broken => {
                // Whoever gets the error drops what it has not yet sent.
                state.end = End::Told;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            End::Told => Poll::Ready(Some(Err(io::Error::other("the stream's handler failed")))),
            End::Open => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.reader_gone = true;
        state.chunks.clear();
        drop(state);
        self.0.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn what_is_written_is_read_in_order() {
        let (writer, reader) = pipe();
        for text in ["a", "", "bc"] {
            assert_eq!(writer.write(text.as_bytes(), SHORT), Written::Done);
        }
        writer.finish();
        let read = reader.collect().await.expect("complete").to_bytes();
        assert_eq!(read, "abc");
    }

    #[tokio::test]
    async fn a_writer_waits_for_a_slow_reader() {
        let (writer, mut reader) = pipe();
        let chunk = vec![0; ROOM];
        assert_eq!(writer.write(&chunk, SHORT), Written::Done);
        assert_eq!(writer.write(&chunk, SHORT), Written::Full);
        assert!(reader.frame().await.is_some());
        assert_eq!(writer.write(&chunk, SHORT), Written::Done);
    }

    #[test]
    fn a_reader_that_leaves_wakes_a_waiting_writer() {
        let (writer, reader) = pipe();
        let chunk = vec![0; ROOM];
        assert_eq!(writer.write(&chunk, SHORT), Written::Done);
        let waiting = std::thread::spawn(move || writer.write(&chunk, Duration::from_secs(3600)));
        drop(reader);
        assert_eq!(waiting.join().expect("no panic"), Written::Closed);
    }

    #[tokio::test]
    async fn a_writer_that_fails_breaks_the_response_off() {
        let (writer, reader) = pipe();
        assert_eq!(writer.write(b"half", SHORT), Written::Done);
        drop(writer);
        assert!(reader.collect().await.is_err());
    }
}
