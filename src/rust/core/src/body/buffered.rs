//! A complete body, read before a worker is asked for, and read again if the request is sent twice.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::backing::Backing;

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

/// A complete body. Cheap to clone; each clone can be sent.
#[derive(Clone, Default)]
pub struct Buffered {
    chunks: Vec<Bytes>,
    in_memory: u64,
    file: Option<Backing>,
    in_file: u64,
}

impl Buffered {
    /// Reads `body` to its end: at most `memory` bytes stay in memory, the rest goes to a file.
    /// Trailers are dropped, as RFC 9110 (6.5.1) allows whoever changes the framing.
    ///
    /// # Errors
    /// [`BufferError::TooLarge`] as soon as `max` is passed (at once, if the length is declared),
    /// [`BufferError::Stalled`] when nothing arrives for `patience`.
    pub async fn read_from<B>(
        mut body: B,
        memory: u64,
        max: u64,
        patience: Option<Duration>,
    ) -> Result<Self, BufferError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut buffered = Self::default();
        if body.is_end_stream() {
            return Ok(buffered);
        }
        if body.size_hint().lower() > max {
            return Err(BufferError::TooLarge(max));
        }
        loop {
            let next = match patience {
                None => body.frame().await,
                Some(patience) => tokio::time::timeout(patience, body.frame())
                    .await
                    .map_err(|_| BufferError::Stalled(patience))?,
            };
            let Some(frame) = next else {
                return Ok(buffered);
            };
            let frame = frame.map_err(|error| BufferError::Broken(error.to_string()))?;
            if let Ok(chunk) = frame.into_data() {
                if buffered.len() + chunk.len() as u64 > max {
                    return Err(BufferError::TooLarge(max));
                }
                buffered.push(chunk, memory).await?;
            }
        }
    }

    async fn push(&mut self, chunk: Bytes, memory: u64) -> io::Result<()> {
        if self.file.is_none() && self.in_memory + chunk.len() as u64 <= memory {
            self.in_memory += chunk.len() as u64;
            self.chunks.push(chunk);
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(Backing::create().await?),
        };
        let len = chunk.len() as u64;
        file.write(chunk, self.in_file).await?;
        self.in_file += len;
        Ok(())
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
    pub fn append_file(&mut self, file: std::fs::File, length: u64) {
        debug_assert!(self.file.is_none());
        self.file = Some(Backing::from(file));
        self.in_file = length;
    }

    /// Copies bytes from `at` on, as many as there are and as fit; returns how many. Blocks.
    pub fn copy_to(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut copied = 0;
        let mut begin = 0;
        for chunk in &self.chunks {
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
        let chunk = if let Some(chunk) = this.from.chunks.get_mut(this.chunk) {
            this.chunk += 1;
            // This clone of the body is not read again: what was sent may go.
            std::mem::take(chunk)
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
    use http_body_util::{Full, StreamBody};

    async fn text(buffered: &Buffered) -> Bytes {
        buffered
            .body()
            .collect()
            .await
            .expect("a body at rest can be read")
            .to_bytes()
    }

    #[tokio::test]
    async fn a_body_larger_than_memory_comes_back_whole_and_twice() {
        let whole: Bytes = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
        let body = Full::new(whole.clone());
        let buffered = Buffered::read_from(body, 1_000, u64::MAX, None)
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

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let body = Full::new(Bytes::from_static(b"12345"));
        assert!(matches!(
            Buffered::read_from(body, 10, 4, None).await,
            Err(BufferError::TooLarge(4))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_is_given_up() {
        let never = StreamBody::new(Never);
        assert!(matches!(
            Buffered::read_from(never, 10, 10, Some(Duration::from_secs(1))).await,
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
