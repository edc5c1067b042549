//! What is sent with a request: nothing, bytes, a file, or what is made meanwhile.

use std::fs::File;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};

use super::FedBody;
use crate::environment::SystemError;

/// How much of a file is read at a time, in bytes.
const CHUNK: usize = 64 * 1024;

/// A request's body. Its length is known beforehand, but for one that is fed.
pub enum RequestBody {
    Bytes(Bytes),
    File(FileBody),
    Fed(FedBody),
}

/// A file, as long as it was when it was opened: that length was promised to the server.
pub struct FileBody {
    file: Source,
    left: u64,
    buffer: Vec<u8>,
}

enum Source {
    /// Until there is a runtime that reads it.
    Closed(Option<File>),
    Open(tokio::fs::File),
}

impl RequestBody {
    pub fn empty() -> Self {
        Self::Bytes(Bytes::new())
    }

    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// Of a regular file.
    ///
    /// # Errors
    /// It cannot be opened, or is none.
    pub fn file(path: &Path) -> io::Result<Self> {
        // A pipe could hold the caller for ever.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let file = File::open(path)?;
        let left = file.metadata()?.len();
        Ok(Self::File(FileBody {
            file: Source::Closed(Some(file)),
            left,
            buffer: Vec::new(),
        }))
    }
}

impl FileBody {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if let Source::Closed(file) = &mut self.file {
            let file = file.take().ok_or_else(|| io::Error::other("it was read"))?;
            self.file = Source::Open(tokio::fs::File::from_std(file));
        }
        let Source::Open(file) = &mut self.file else {
            return Poll::Ready(Err(io::Error::other("it is not open")));
        };
        let size = usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK));
        self.buffer.resize(size, 0);
        let mut buffer = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(file).poll_read(cx, &mut buffer))?;
        let chunk = Bytes::copy_from_slice(buffer.filled());
        if chunk.is_empty() {
            let message = "the file has become shorter meanwhile";
            return Poll::Ready(Err(io::Error::other(message)));
        }
        self.left -= chunk.len() as u64;
        Poll::Ready(Ok(chunk))
    }
}

/// What becomes of what cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Unreadable;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unreadable>>> {
        match self.get_mut() {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::File(file) if file.left == 0 => Poll::Ready(None),
            Self::File(file) => {
                let chunk = ready!(file.poll_chunk(cx));
                let chunk = chunk.map_err(|error| Unreadable(SystemError(&error).to_string()));
                Poll::Ready(Some(chunk.map(Frame::data)))
            }
            Self::Fed(body) => {
                let piece = ready!(body.poll_piece(cx));
                Poll::Ready(piece.map(|piece| piece.map(Frame::data).map_err(Unreadable)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::File(file) => SizeHint::with_exact(file.left),
            Self::Fed(_) => SizeHint::default(),
        }
    }
}
