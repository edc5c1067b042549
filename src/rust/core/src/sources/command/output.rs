//! What a program writes, on its way to the client.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};
use rustix::io::ioctl_fionread;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use super::call::Call;
use super::pipes::PIPE;

/// What one read takes, in bytes: what a [pipe](super::pipes) holds.
const CHUNK: usize = PIPE;

/// A piece below this is copied, in bytes: it would keep all of the buffer that it was read into.
const SMALL: usize = CHUNK / 2;

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Well,
    /// In words: "exited with status 3".
    Badly(String),
    /// It was told to.
    Unwanted,
}

/// How far the output has come.
enum Stage {
    Open,
    /// The program has ended: so many bytes are still in the pipe. Who may have it open was no child of the program's, or has
    /// left its group, and is none of our business.
    Rest(u64),
    /// All is read.
    Closed,
    /// The reader has had the time to send what it had before.
    Broken,
}

/// The output of one program. Dropped before its end, it ends the program.
pub struct Output {
    stdout: Receiver,
    call: Arc<Call>,
    ended: oneshot::Receiver<Ended>,
    outcome: Option<Ended>,
    stage: Stage,
    /// What was read before the answer began.
    first: Option<Bytes>,
    /// What the next read goes to.
    buffer: BytesMut,
}

impl Output {
    /// `ended` resolves when the program has ended, and its group with it.
    ///
    /// # Errors
    /// The runtime cannot have the pipe.
    pub fn new(
        stdout: OwnedFd,
        call: Arc<Call>,
        ended: oneshot::Receiver<Ended>,
    ) -> io::Result<Self> {
        Ok(Self {
            stdout: Receiver::from_owned_fd(stdout)?,
            call,
            ended,
            outcome: None,
            stage: Stage::Open,
            first: None,
            buffer: BytesMut::new(),
        })
    }

    /// Waits until there is something, or until the program has ended without writing anything: then, how.
    pub async fn begin(&mut self) -> Option<Ended> {
        match std::future::poll_fn(|cx| self.poll_next(cx)).await {
            Some(chunk) => {
                self.first = Some(chunk);
                None
            }
            None => Some(self.outcome.clone().unwrap_or(Ended::Unwanted)),
        }
    }

    /// The next bytes; none after the program's end, which is known then.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.outcome.is_none() {
            if let Poll::Ready(ended) = Pin::new(&mut self.ended).poll(cx) {
                // Without an outcome the server is going down.
                self.outcome = Some(ended.unwrap_or(Ended::Unwanted));
                if let Stage::Open = self.stage {
                    self.stage = Stage::Rest(ioctl_fionread(&self.stdout).unwrap_or(0));
                }
            }
        }
        let most = match self.stage {
            Stage::Open => CHUNK,
            Stage::Rest(0) => {
                self.stage = Stage::Closed;
                0
            }
            Stage::Rest(rest) => usize::try_from(rest).map_or(CHUNK, |rest| rest.min(CHUNK)),
            Stage::Closed | Stage::Broken => 0,
        };
        if most > 0 {
            let chunk = ready!(self.poll_read(cx, most));
            if !chunk.is_empty() {
                if let Stage::Rest(rest) = &mut self.stage {
                    *rest = rest.saturating_sub(chunk.len() as u64);
                }
                return Poll::Ready(Some(chunk));
            }
            self.stage = Stage::Closed;
        }
        match self.outcome {
            Some(_) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Nothing at the end. An error is an end: the other side is gone.
    fn poll_read(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Bytes> {
        loop {
            if ready!(self.stdout.poll_read_ready(cx)).is_err() {
                return Poll::Ready(Bytes::new());
            }
            self.buffer.reserve(most);
            let mut buffer = (&mut self.buffer).limit(most);
            match self.stdout.try_read_buf(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) if count < SMALL => {
                    let chunk = Bytes::copy_from_slice(&self.buffer);
                    self.buffer.clear();
                    return Poll::Ready(chunk);
                }
                Ok(_) => return Poll::Ready(self.buffer.split().freeze()),
                Err(_) => return Poll::Ready(Bytes::new()),
            }
        }
    }
}

impl Body for Output {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(chunk) = ready!(this.poll_next(cx)) {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match (&this.outcome, &this.stage) {
            (Some(Ended::Well), _) => Poll::Ready(None),
            (_, Stage::Broken) => {
                let failed = io::Error::other("the program failed");
                Poll::Ready(Some(Err(failed)))
            }
            _ => {
                // Whoever gets the error drops what it has not yet sent.
                this.stage = Stage::Broken;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.outcome.is_none() {
            // Outside a runtime its process is killed by whoever drops that.
            if tokio::runtime::Handle::try_current().is_ok() {
                self.call.end();
            }
        }
    }
}
