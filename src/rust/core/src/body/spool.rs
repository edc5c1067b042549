//! A response body between a worker that writes it and a client that reads it, each at its own pace.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{ready, Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::HeaderMap;

use super::backing::Backing;
use super::pieces::Pieces;
use super::store::Store;
use crate::descriptors::Descriptor;

/// Why a response breaks off after its head was sent. The client sees an incomplete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abort {
    #[error("the worker died")]
    WorkerDied,
    #[error("the worker broke it off")]
    BrokenOff,
    #[error("the deadline passed")]
    Timeout,
    #[error("the response could not be kept")]
    Storage,
    #[error("the file could not be read to its end")]
    File,
}

/// `Open` while the worker writes; then how it ended.
enum End {
    Open,
    Complete(Option<HeaderMap>),
    /// Once told, the reader has had the time to send what it had before.
    Aborted {
        why: Abort,
        told: bool,
    },
}

struct State {
    /// Not yet read, oldest first; all of it is older than what the file holds.
    pieces: Pieces,
    file: Option<Backing>,
    written: u64,
    read: u64,
    end: End,
    reader: Option<Waker>,
    reader_gone: bool,
    /// It went while there was more for it to read.
    reader_left: bool,
    /// Who wants to know that the reader has left.
    left: Option<Waker>,
    /// Who wants to know that the writer has ended.
    ended: Option<Waker>,
    /// Who waits for the reader to take something.
    room: Option<Waker>,
}

impl State {
    /// Everything written has been read: the end, or more to come.
    fn end_or_wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        match &mut self.end {
            End::Open => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            End::Complete(trailers) => {
                Poll::Ready(trailers.take().map(|map| Ok(Frame::trailers(map))))
            }
            End::Aborted { why, told: true } => Poll::Ready(Some(Err(*why))),
            End::Aborted { told, .. } => {
                // Whoever gets the error drops what it has not yet sent.
                *told = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.lock();
            change(&mut state);
            let ended = match state.end {
                End::Open => None,
                _ => state.ended.take(),
            };
            [state.reader.take(), ended]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// A pipe that never makes its writer wait for its reader, unless it [wants to](SpoolWriter::room): what the reader has not taken is kept,
/// up to `memory` bytes in memory, and no more than `store` has, the rest in a temporary file. `length` is the declared length.
pub fn spool(store: &Store, memory: u64, length: Option<u64>) -> (SpoolWriter, SpoolReader) {
    let shared = Shared(Arc::new(Mutex::new(State {
        pieces: Pieces::default(),
        file: None,
        written: 0,
        read: 0,
        end: End::Open,
        reader: None,
        reader_gone: false,
        reader_left: false,
        left: None,
        ended: None,
        room: None,
    })));
    let writer = SpoolWriter {
        shared: shared.clone(),
        store: store.clone(),
        memory,
        descriptor: Mutex::default(),
    };
    let reader = SpoolReader {
        shared,
        reading: None,
        rest: length,
    };
    (writer, reader)
}

/// The worker's end. Dropping it without [`finish`](Self::finish) tells the reader that the worker died.
pub struct SpoolWriter {
    shared: Shared,
    store: Store,
    memory: u64,
    /// For the file, until there is one.
    descriptor: Mutex<Option<Descriptor>>,
}

impl SpoolWriter {
    /// Makes sure that there can be a file, before the response's head is sent.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn prepare_file(&self) -> io::Result<()> {
        *self.descriptor() = Some(self.store.descriptor()?);
        Ok(())
    }

    fn descriptor(&self) -> MutexGuard<'_, Option<Descriptor>> {
        self.descriptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn create_file(&self) -> io::Result<Backing> {
        let prepared = self.descriptor().take();
        let descriptor = prepared.map_or_else(|| self.store.descriptor(), Ok)?;
        Backing::create(&self.store, descriptor).await
    }

    /// Keeps a chunk. Chunks for a reader that has gone are dropped: the worker is read to its end all the same.
    pub async fn push(&self, mut chunk: Bytes) -> io::Result<()> {
        let (file, at) = {
            let mut state = self.shared.lock();
            // After an abort nothing more of it is read.
            if state.reader_gone || !matches!(state.end, End::Open) || chunk.is_empty() {
                return Ok(());
            }
            let behind = state.read < state.written;
            let kept = if behind {
                Err(chunk)
            } else {
                state.pieces.push(chunk, self.memory, &self.store)
            };
            match kept {
                Ok(()) => {
                    let waker = state.reader.take();
                    drop(state);
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                    return Ok(());
                }
                Err(back) => chunk = back,
            }
            (state.file.clone(), state.written)
        };
        let file = match file {
            Some(file) => file,
            None => self.create_file().await?,
        };
        let len = chunk.len() as u64;
        file.write(chunk, at).await?;
        self.shared.change(|state| {
            state.file = Some(file);
            state.written = at + len;
        });
        Ok(())
    }

    /// Hands a chunk to the reader, which is awaited in [`room`](Self::room): no file is needed.
    pub fn hand_over(&self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.shared.change(|state| {
            if !state.reader_gone {
                state.pieces.force(chunk, &self.store);
            }
        });
    }

    /// Resolves when there is no more unread than may be in memory, or nobody reads any more. While the store is full,
    /// nothing may.
    pub async fn room(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            let unread = state.pieces.len();
            let most = if self.store.is_full() { 0 } else { self.memory };
            if state.reader_gone || unread <= most {
                return Poll::Ready(());
            }
            state.room = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Resolves when the reader has left before it had everything.
    pub async fn left(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.reader_left {
                return Poll::Ready(());
            }
            state.left = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The response is complete.
    pub fn finish(self, trailers: Option<HeaderMap>) {
        self.shared
            .change(|state| state.end = End::Complete(trailers));
    }

    /// The response breaks off here.
    pub fn abort(&self, why: Abort) {
        self.shared.change(|state| {
            if matches!(state.end, End::Open) {
                state.end = End::Aborted { why, told: false };
            }
        });
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        self.abort(Abort::WorkerDied);
    }
}

/// The client's end.
pub struct SpoolReader {
    shared: Shared,
    reading: Option<Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + Sync>>>,
    rest: Option<u64>,
}

/// Tells how far a writer is, to whoever is neither end.
#[derive(Clone)]
pub struct SpoolProgress(Weak<Mutex<State>>);

impl SpoolProgress {
    /// Whether more is to be written.
    pub fn is_open(&self) -> bool {
        self.0.upgrade().is_some_and(|state| {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            matches!(state.end, End::Open)
        })
    }

    /// Resolves when all is written, or no more will be, though nobody has read it; for one who asks. What neither end has any more is
    /// taken to have broken off.
    pub fn poll_end(&self, cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        let Some(state) = self.0.upgrade() else {
            return Poll::Ready(Err(Abort::BrokenOff));
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.end {
            End::Open => {
                state.ended = Some(cx.waker().clone());
                Poll::Pending
            }
            End::Complete(_) => Poll::Ready(Ok(())),
            End::Aborted { why, .. } => Poll::Ready(Err(why)),
        }
    }
}

impl SpoolReader {
    pub fn progress(&self) -> SpoolProgress {
        SpoolProgress(Arc::downgrade(&self.shared.0))
    }

    fn took(&mut self, chunk: Bytes) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        if let Some(rest) = &mut self.rest {
            *rest = rest.saturating_sub(chunk.len() as u64);
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

impl Body for SpoolReader {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let this = &mut *self;
        if this.reading.is_none() {
            let mut state = this.shared.lock();
            if let Some(chunk) = state.pieces.pop() {
                let waker = state.room.take();
                drop(state);
                if let Some(waker) = waker {
                    waker.wake();
                }
                return this.took(chunk);
            }
            let behind = state.read < state.written;
            match state.file.clone().filter(|_| behind) {
                Some(file) => {
                    this.reading = Some(Box::pin(file.read(state.read, state.written)));
                }
                None => return state.end_or_wait(cx),
            }
        }
        let Some(reading) = &mut this.reading else {
            return Poll::Pending;
        };
        let read = ready!(reading.as_mut().poll(cx));
        this.reading = None;
        match read {
            Ok(chunk) => {
                this.shared.lock().read += chunk.len() as u64;
                this.took(chunk)
            }
            Err(_) => Poll::Ready(Some(Err(Abort::Storage))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.rest
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for SpoolReader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.reader_gone = true;
        state.pieces.clear();
        // Whoever knows the length does not wait for the end.
        state.reader_left = matches!(state.end, End::Open) && self.rest != Some(0);
        let left = state.left.take().filter(|_| state.reader_left);
        let room = state.room.take();
        drop(state);
        left.into_iter().chain(room).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_slow_reader_gets_every_byte_in_order() {
        let (writer, reader) = spool(&Store::default(), 10, None);
        let mut whole = Vec::new();
        for number in 0..100u8 {
            let chunk = vec![number; usize::from(number)];
            whole.extend_from_slice(&chunk);
            writer.push(chunk.into()).await.expect("a file can be had");
        }
        writer.finish(None);
        let read = reader.collect().await.expect("complete").to_bytes();
        assert_eq!(read, whole);
    }

    #[tokio::test]
    async fn reading_while_writing_keeps_the_order_across_memory_and_file() {
        let (writer, mut reader) = spool(&Store::default(), 4, None);
        let mut read = Vec::new();
        let mut whole = Vec::new();
        for number in 0..50u8 {
            for _ in 0..3 {
                writer.push(vec![number; 3].into()).await.expect("kept");
                whole.extend_from_slice(&[number; 3]);
            }
            let frame = reader.frame().await.expect("more").expect("no abort");
            read.extend_from_slice(&frame.into_data().expect("data"));
        }
        writer.finish(None);
        read.extend_from_slice(&reader.collect().await.expect("complete").to_bytes());
        assert_eq!(read, whole);
    }

    #[tokio::test]
    async fn a_writer_that_vanishes_is_seen_as_a_dead_worker() {
        let (writer, reader) = spool(&Store::default(), 100, None);
        writer
            .push(Bytes::from_static(b"half"))
            .await
            .expect("kept");
        drop(writer);
        assert_eq!(reader.collect().await.err(), Some(Abort::WorkerDied));
    }

    #[tokio::test]
    async fn a_writer_that_waits_for_room_needs_no_file() {
        let (writer, mut reader) = spool(&Store::default(), 10, None);
        let write = async {
            for number in 0..100u8 {
                writer.room().await;
                assert!(writer.shared.lock().pieces.len() <= 10);
                writer.hand_over(vec![number; 7].into());
            }
            assert!(writer.shared.lock().file.is_none());
            writer.finish(None);
        };
        let read = async {
            let mut read = Vec::new();
            while let Some(frame) = reader.frame().await {
                tokio::task::yield_now().await;
                let frame = frame.expect("no abort");
                read.extend_from_slice(&frame.into_data().expect("data"));
            }
            read
        };
        let ((), read) = tokio::join!(write, read);
        let whole: Vec<u8> = (0..100u8).flat_map(|number| [number; 7]).collect();
        assert_eq!(read, whole);

        let (writer, reader) = spool(&Store::default(), 1, None);
        writer.hand_over(Bytes::from_static(b"more"));
        let wait = async { writer.room().await };
        let leave = async { drop(reader) };
        tokio::join!(wait, leave);
    }

    #[tokio::test]
    async fn the_writer_hears_of_a_reader_that_leaves_but_not_of_one_that_has_everything() {
        let (writer, reader) = spool(&Store::default(), 100, Some(4));
        let mut left = Box::pin(writer.left());
        let first = std::future::poll_fn(|cx| Poll::Ready(left.as_mut().poll(cx))).await;
        assert!(first.is_pending());
        drop(reader);
        left.await;

        let (writer, mut reader) = spool(&Store::default(), 100, Some(4));
        writer
            .push(Bytes::from_static(b"four"))
            .await
            .expect("kept");
        reader.frame().await.expect("data").expect("no abort");
        drop(reader);
        assert!(!writer.shared.lock().reader_left);
    }

    #[tokio::test]
    async fn a_reader_that_leaves_does_not_stop_the_writer() {
        let (writer, reader) = spool(&Store::default(), 1, None);
        drop(reader);
        for _ in 0..10 {
            writer
                .push(Bytes::from_static(b"more"))
                .await
                .expect("dropped");
        }
        assert!(writer.shared.lock().file.is_none());
    }
}
