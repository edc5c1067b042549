//! A complete body, read before a worker is asked for, and read again if the request is sent twice.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::backing::Backing;
use super::pieces::Pieces;
use super::spool::Abort;
use super::store::{Charge, Store};

/// Less than this is not written to a file by itself, in bytes: each write is a job for another thread.
const WRITE_SIZE: usize = 64 * 1024;

/// Why a body could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("no byte of the body came for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    #[error("the body broke off: {0}")]
    Broken(String),
    #[error("the body could not be kept: {0}")]
    Storage(#[from] io::Error),
}

impl From<Abort> for BufferError {
    fn from(why: Abort) -> Self {
        Self::Broken(why.to_string())
    }
}

/// A complete body. Cheap to clone; each clone can be sent.
#[derive(Clone, Default)]
pub struct Buffered {
    pieces: Option<Arc<Pieces>>,
    in_memory: u64,
    file: Option<Backing>,
    in_file: u64,
}

impl Buffered {
    /// Reads `body` to its end: at most `memory` bytes stay in memory, and no more than `store` has; the rest goes to a
    /// file. Trailers are dropped, as RFC 9110 (6.5.1) allows whoever changes the framing.
    ///
    /// # Errors
    /// [`BufferError::TooLarge`] as soon as `max` is passed (at once, if the length is declared),
    /// [`BufferError::Stalled`] when nothing arrives for `patience`, [`BufferError::Storage`] when a file is needed that
    /// cannot be had.
    pub async fn read_from<B>(
        mut body: B,
        store: &Store,
        memory: u64,
        max: u64,
        patience: Option<Duration>,
    ) -> Result<Self, BufferError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        if body.is_end_stream() {
            return Ok(Self::default());
        }
        if body.size_hint().lower() > max {
            return Err(BufferError::TooLarge(max));
        }
        let mut arriving = Arriving::new(store, memory);
        loop {
            let next = match patience {
                None => body.frame().await,
                Some(patience) => tokio::time::timeout(patience, body.frame())
                    .await
                    .map_err(|_| BufferError::Stalled(patience))?,
            };
            let Some(frame) = next else {
                return Ok(arriving.finish().await?);
            };
            let frame = frame.map_err(|error| BufferError::Broken(error.to_string()))?;
            if let Ok(chunk) = frame.into_data() {
                if arriving.len() + chunk.len() as u64 > max {
                    return Err(BufferError::TooLarge(max));
                }
                arriving.push(chunk).await?;
            }
        }
    }

    /// One piece, which stays in memory.
    pub(super) fn of_piece(piece: Bytes, store: &Store) -> Self {
        let in_memory = piece.len() as u64;
        let mut pieces = Pieces::default();
        pieces.force(piece, store);
        Self {
            pieces: Some(Arc::new(pieces)),
            in_memory,
            ..Self::default()
        }
    }

    /// The length in bytes.
    pub fn len(&self) -> u64 {
        self.in_memory + self.in_file
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the first `length` bytes of a file, which nobody changes. Only to a body that is in memory.
    pub fn append_file(&mut self, file: std::fs::File, length: u64, store: &Store) {
        debug_assert!(self.file.is_none());
        self.file = Some(Backing::of(file, None, store));
        self.in_file = length;
    }

    /// Copies bytes from `at` on, as many as there are and as fit; returns how many. Blocks.
    pub fn copy_to(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut copied = 0;
        let mut begin = 0;
        for chunk in (0..).map_while(|index| self.piece(index)) {
            let end = begin + chunk.len() as u64;
            let from = at + copied as u64;
            if from < end && copied < buffer.len() {
                let rest = &chunk[(from - begin) as usize..];
                let count = rest.len().min(buffer.len() - copied);
                buffer[copied..copied + count].copy_from_slice(&rest[..count]);
                copied += count;
            }
            begin = end;
        }
        let from = (at + copied as u64).saturating_sub(self.in_memory);
        if let Some(file) = self.file.as_ref().filter(|_| from < self.in_file) {
            let rest = buffer.len() - copied;
            let count = rest.min(usize::try_from(self.in_file - from).unwrap_or(rest));
            file.read_now(from, &mut buffer[copied..copied + count])?;
            copied += count;
        }
        Ok(copied)
    }

    fn piece(&self, index: usize) -> Option<&Bytes> {
        self.pieces.as_ref()?.get(index)
    }

    /// A body to send, from the beginning.
    pub fn body(&self) -> BufferedBody {
        self.first(self.len())
    }

    /// What is in memory of it, to send to whoever finds the [rest](Self::rest) by itself.
    pub fn beginning(&self) -> BufferedBody {
        self.first(self.in_memory)
    }

    /// What is in a file of it, if others can open that.
    pub fn rest(&self) -> Option<Rest> {
        let file = self.file.clone().filter(|_| cfg!(target_os = "linux"))?;
        Some(Rest {
            file,
            length: self.in_file,
        })
    }

    /// The first `length` bytes: all, or what is in memory.
    fn first(&self, length: u64) -> BufferedBody {
        BufferedBody {
            rest: length,
            from: self.clone(),
            chunk: 0,
            offset: 0,
            reading: None,
        }
    }
}

/// All of it in memory.
impl From<Pieces> for Buffered {
    fn from(mut pieces: Pieces) -> Self {
        pieces.finish();
        let in_memory = pieces.len();
        Self {
            pieces: (in_memory > 0).then(|| Arc::new(pieces)),
            in_memory,
            ..Self::default()
        }
    }
}

/// A body of which more may come.
pub(super) struct Arriving<'a> {
    store: &'a Store,
    /// How much may be in memory, in bytes.
    memory: u64,
    pieces: Pieces,
    file: Option<Backing>,
    in_file: u64,
    /// Small pieces on their way to the file.
    unwritten: BytesMut,
    /// For these, once there were some.
    charge: Option<Charge>,
}

impl<'a> Arriving<'a> {
    pub(super) fn new(store: &'a Store, memory: u64) -> Self {
        Self {
            store,
            memory,
            pieces: Pieces::default(),
            file: None,
            in_file: 0,
            unwritten: BytesMut::new(),
            charge: None,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.pieces.len() + self.in_file + self.unwritten.len() as u64
    }

    pub(super) async fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        // All that is in memory is older than what is in the file.
        let chunk = if self.file.is_some() {
            chunk
        } else {
            match self.pieces.push(chunk, self.memory, self.store) {
                Ok(()) => return Ok(()),
                Err(chunk) => chunk,
            }
        };
        if self.file.is_none() {
            let descriptor = self.store.descriptor()?;
            self.file = Some(Backing::create(self.store, descriptor).await?);
        }
        let large = chunk.len() > WRITE_SIZE / 2;
        if large || self.unwritten.len() + chunk.len() > WRITE_SIZE {
            self.write_all().await?;
        }
        if large {
            return self.write(chunk).await;
        }
        if self.unwritten.is_empty() {
            self.charge.get_or_insert_with(|| {
                let mut charge = self.store.charge();
                charge.force(WRITE_SIZE as u64);
                charge
            });
            // What was written before is free again.
            self.unwritten.reserve(WRITE_SIZE);
        }
        self.unwritten.extend_from_slice(&chunk);
        Ok(())
    }

    async fn write_all(&mut self) -> io::Result<()> {
        let unwritten = self.unwritten.split().freeze();
        self.write(unwritten).await
    }

    async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        if let (Some(file), false) = (&self.file, chunk.is_empty()) {
            let length = chunk.len() as u64;
            file.write(chunk, self.in_file).await?;
            self.in_file += length;
        }
        Ok(())
    }

    pub(super) async fn finish(mut self) -> io::Result<Buffered> {
        self.write_all().await?;
        Ok(Buffered {
            file: self.file,
            in_file: self.in_file,
            ..Buffered::from(self.pieces)
        })
    }
}

/// The part of a [`Buffered`] that is in a file. Another process can read it for as long as this exists.
#[derive(Clone)]
pub struct Rest {
    file: Backing,
    length: u64,
}

impl std::fmt::Display for Rest {
    /// The number of bytes, a space, and the path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.file.path_for_others();
        write!(f, "{} {}", self.length, path.display())
    }
}

/// A [`Buffered`] on its way.
pub struct BufferedBody {
    from: Buffered,
    rest: u64,
    chunk: usize,
    offset: u64,
    reading: Option<Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + Sync>>>,
}

impl Body for BufferedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let chunk = if let Some(chunk) = this.from.piece(this.chunk) {
            this.chunk += 1;
            chunk.clone()
        } else if this.rest > 0 {
            let Some(file) = this.from.file.clone() else {
                return Poll::Ready(None);
            };
            let (at, end) = (this.offset, this.from.in_file);
            let reading = this
                .reading
                .get_or_insert_with(|| Box::pin(file.read(at, end)));
            let read = ready!(reading.as_mut().poll(cx));
            this.reading = None;
            let chunk = read?;
            this.offset += chunk.len() as u64;
            chunk
        } else {
            return Poll::Ready(None);
        };
        this.rest -= chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::is_shortage;
    use crate::descriptors::Descriptors;
    use http_body_util::{Full, StreamBody};

    async fn text(buffered: &Buffered) -> Bytes {
        let all = buffered.body().collect().await;
        all.expect("a body at rest can be read").to_bytes()
    }

    #[tokio::test]
    async fn a_body_larger_than_memory_comes_back_whole_and_twice() {
        let whole: Bytes = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
        let body = Full::new(whole.clone());
        let buffered = Buffered::read_from(body, &Store::default(), 1_000, u64::MAX, None)
            .await
            .expect("no limit");
        assert!(buffered.file.is_some());
        assert_eq!(text(&buffered).await, whole);
        assert_eq!(text(&buffered).await, whole);
    }

    #[tokio::test]
    async fn a_body_can_be_copied_from_anywhere_across_memory_and_file() {
        let whole: Vec<u8> = (0..=255).collect();
        let chunks = whole
            .chunks(7)
            .map(|chunk| Ok::<_, io::Error>(Frame::data(Bytes::copy_from_slice(chunk))));
        let mut body = Buffered::read_from(
            http_body_util::StreamBody::new(Chunks(chunks.collect::<Vec<_>>().into_iter())),
            &Store::default(),
            100,
            1000,
            None,
        )
        .await
        .expect("it fits");
        assert!(body.in_file > 0);
        for (at, length) in [(0, 256), (0, 10), (95, 20), (3, 200), (200, 100), (256, 5)] {
            let mut buffer = vec![0; length];
            let count = body.copy_to(at, &mut buffer).expect("readable");
            let end = (at as usize + length).min(256);
            assert_eq!(
                buffer[..count],
                whole[at as usize..end],
                "{length} from {at}"
            );
        }
        body = Buffered::default();
        let mut buffer = [0; 4];
        assert_eq!(body.copy_to(0, &mut buffer).ok(), Some(0));
    }

    struct Chunks(std::vec::IntoIter<Result<Frame<Bytes>, io::Error>>);

    impl futures_core::Stream for Chunks {
        type Item = Result<Frame<Bytes>, io::Error>;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.next())
        }
    }

    fn single_bytes(count: usize) -> StreamBody<Chunks> {
        let bytes = (0..count).map(|number| Ok(Frame::data(vec![number as u8].into())));
        StreamBody::new(Chunks(bytes.collect::<Vec<_>>().into_iter()))
    }

    #[tokio::test]
    async fn single_bytes_are_joined_in_memory_and_on_their_way_to_the_file() {
        let whole: Vec<u8> = (0..300_000).map(|number| number as u8).collect();
        let store = Store::default();
        for memory in [0, 100, 100_000, 1_000_000] {
            let body = single_bytes(whole.len());
            let buffered = Buffered::read_from(body, &store, memory, u64::MAX, None);
            let buffered = buffered.await.expect("kept");
            assert_eq!(buffered.in_memory, memory.min(300_000));
            assert!(store.used() <= buffered.in_memory * 3 / 2 + 16 * 1024);
            assert!(text(&buffered).await == whole, "differs");
        }
        assert_eq!(store.used(), 0);
        assert_eq!(store.descriptors().in_use(), 0);
    }

    #[tokio::test]
    async fn pieces_of_all_sizes_come_back_in_their_order() {
        let sizes = [
            1, 40_000, 3, 70_000, 20_000, 20_000, 20_000, 7, 33_000, 2, 64_000, 9,
        ];
        let pieces: Vec<Vec<u8>> = (0..60)
            .map(|number| vec![number as u8; sizes[number % sizes.len()]])
            .collect();
        for memory in [0, 10, 50_000, 400_000] {
            let frames = pieces
                .iter()
                .map(|piece| Ok(Frame::data(piece.clone().into())));
            let body = StreamBody::new(Chunks(frames.collect::<Vec<_>>().into_iter()));
            let buffered =
                Buffered::read_from(body, &Store::default(), memory, u64::MAX, None).await;
            assert!(
                text(&buffered.expect("kept")).await == pieces.concat(),
                "differs"
            );
        }
    }

    #[tokio::test]
    async fn beyond_what_all_may_have_together_bodies_go_to_files_at_once() {
        let store = Store::new(100_000, Descriptors::new(8), 1).expect("a thread");
        let read = || {
            let body = Full::new(Bytes::from(vec![7; 40_000]));
            Buffered::read_from(body, &store, 1 << 20, u64::MAX, None)
        };
        let (first, second) = (read().await.expect("kept"), read().await.expect("kept"));
        assert!(first.file.is_none() && second.file.is_none());
        let third = read().await.expect("kept");
        assert_eq!((third.in_memory, third.in_file), (0, 40_000));
        assert!(text(&third).await == text(&first).await, "differs");
        drop(first);
        assert!(read().await.expect("kept").file.is_none());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_had_is_said() {
        let store = Store::new(0, Descriptors::new(1), 1).expect("a thread");
        let _taken = store.descriptors().take();
        let body = Full::new(Bytes::from_static(b"12345"));
        let read = Buffered::read_from(body, &store, 10, 10, None).await;
        assert!(matches!(read, Err(BufferError::Storage(error)) if is_shortage(&error)));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let body = Full::new(Bytes::from_static(b"12345"));
        assert!(matches!(
            Buffered::read_from(body, &Store::default(), 10, 4, None).await,
            Err(BufferError::TooLarge(4))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_is_given_up() {
        let never = StreamBody::new(Never);
        assert!(matches!(
            Buffered::read_from(
                never,
                &Store::default(),
                10,
                10,
                Some(Duration::from_secs(1))
            )
            .await,
            Err(BufferError::Stalled(_))
        ));
    }

    struct Never;

    impl futures_core::Stream for Never {
        type Item = Result<Frame<Bytes>, io::Error>;
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Pending
        }
    }
}
