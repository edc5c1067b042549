//! A file as the body of a response: read at the client's pace, without a worker.

use std::fs::OpenOptions;
use std::future::Future;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use nix::fcntl::OFlag;

use super::backing::Backing;
use super::{Abort, Store};

/// An open file, as long as it was when it was opened: that length was promised to the client.
pub struct FileBody {
    file: Backing,
    at: u64,
    end: u64,
    reading: Option<Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + Sync>>>,
}

impl FileBody {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened, its path is relative (to whose folder?), it is no regular file, it is not `owner`'s, or no descriptor
    /// is left for it.
    pub async fn open(path: PathBuf, owner: Option<u32>, store: &Store) -> io::Result<Self> {
        let descriptor = store.descriptor()?;
        let inner = store.clone();
        let opened = store.run(move || {
            if !path.is_absolute() {
                return Err(io::Error::other("the path is not absolute"));
            }
            let file = OpenOptions::new()
                .read(true)
                // A pipe that nobody writes to must not hold the opening thread for ever.
                .custom_flags(OFlag::O_NONBLOCK.bits())
                .open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            if owner.is_some_and(|owner| owner != metadata.uid()) {
                return Err(io::Error::other("it is not the worker's own"));
            }
            Ok(Self {
                file: Backing::of(file, Some(descriptor), &inner),
                at: 0,
                end: metadata.len(),
                reading: None,
            })
        });
        opened.await
    }

    /// How many bytes are left to read.
    pub fn rest(&self) -> u64 {
        self.end - self.at
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let this = &mut *self;
        if this.rest() == 0 {
            return Poll::Ready(None);
        }
        let reading = this.reading.get_or_insert_with(|| {
            let file = this.file.clone();
            Box::pin(file.read(this.at, this.end))
        });
        let read = ready!(reading.as_mut().poll(cx));
        this.reading = None;
        // It has become shorter, at most: whatever it is, the promised length cannot be kept.
        let chunk = read.map_err(|_| Abort::File);
        if let Ok(chunk) = &chunk {
            this.at += chunk.len() as u64;
        }
        Poll::Ready(Some(chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest())
    }
}
