//! An upgraded connection between a client and a worker.

use std::io;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::descriptors::Descriptor;
use crate::sessions::Hold;
use crate::worker::TunnelGuard;

/// How long either side may take to close after it was told to.
const GOODBYE: Duration = Duration::from_secs(2);

/// How much a quiet tunnel reads at a time, in bytes, and how much one that has more to move.
const LITTLE: usize = 1024;
const MUCH: usize = 16 * 1024;

/// WebSocket's `1001 Going Away` (RFC 6455, 7.4.1), as servers send it: unmasked.
const CLOSE_TO_CLIENT: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// The opcode of a close.
const CLOSE: u8 = 8;

/// The same, as clients must send it: masked, here with zeros.
const CLOSE_TO_WORKER: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// Moves bytes both ways until one side ends, or the worker drains. Then both get a proper close,
/// at a frame's end; and so does the client of a worker that ends without one. `_descriptor` is that of the worker's side; the
/// client's counts as a connection.
pub async fn run(
    client: OnUpgrade,
    worker: Upgraded,
    _descriptor: Descriptor,
    mut guard: TunnelGuard,
    _session: Option<Hold>,
    patience: Option<Duration>,
) {
    let upgraded = match patience {
        Some(patience) => tokio::time::timeout(patience, client).await.ok(),
        None => Some(client.await),
    };
    let Some(Ok(client)) = upgraded else {
        return;
    };
    let (mut client_in, mut client_out) = tokio::io::split(TokioIo::new(client));
    let (mut worker_in, mut worker_out) = tokio::io::split(TokioIo::new(worker));
    let mut to_worker = Pipe::default();
    let mut to_client = Pipe::default();
    tokio::select! {
        // Either side's end is the tunnel's end.
        _ = to_worker.copy(&mut client_in, &mut worker_out) => {}
        _ = to_client.copy(&mut worker_in, &mut client_out) => {
            // Where no frame can begin, and after the worker's own close, there is no more to say.
            if to_client.pending.is_empty() && to_client.frames.may_close() {
                let goodbye = client_out.write_all(&CLOSE_TO_CLIENT);
                let _ = tokio::time::timeout(GOODBYE, goodbye).await;
            }
        }
        () = guard.drained() => {
            let goodbye = async {
                // Both ways at once: a frame that never ends on one side must not keep the other.
                let _ = tokio::join!(
                    to_client.close(&mut worker_in, &mut client_out, &CLOSE_TO_CLIENT),
                    to_worker.close(&mut client_in, &mut worker_out, &CLOSE_TO_WORKER),
                );
            };
            let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        }
    }
    // Flushes what is buffered and says that there is no more; a peer that is gone does not matter.
    let _ = tokio::time::timeout(GOODBYE, async {
        let _ = tokio::join!(client_out.shutdown(), worker_out.shutdown());
    })
    .await;
}

/// One direction.
#[derive(Default)]
struct Pipe {
    frames: Frames,
    /// Read but not yet written: a copy can be interrupted between the two.
    pending: Vec<u8>,
    written: usize,
    /// Whether the last read got all that there was room for.
    filled: bool,
}

impl Pipe {
    async fn copy(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        loop {
            self.flush(to).await?;
            if !self.fill(from).await? {
                return Ok(());
            }
        }
    }

    /// Reads some bytes; `false` at the end.
    async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        let room = if self.filled { MUCH } else { LITTLE };
        if self.pending.is_empty() {
            // Many tunnels are open and few are busy: a buffer that was large is not kept.
            self.pending.shrink_to(room);
        }
        self.pending.reserve(room);
        let before = self.pending.len();
        let read = from.read_buf(&mut self.pending).await?;
        self.filled = self.pending.len() - before >= room;
        Ok(read > 0)
    }

    async fn flush(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while self.written < self.pending.len() {
            let count = to.write(&self.pending[self.written..]).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.frames
                .pass(&self.pending[self.written..self.written + count]);
            self.written += count;
        }
        self.pending.clear();
        self.written = 0;
        to.flush().await
    }

    /// Completes the frame that is on its way, then sends `close`, unless that was said.
    async fn close(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        close: &[u8],
    ) -> io::Result<()> {
        loop {
            let rest = self.frames.until_boundary(&self.pending[self.written..]);
            if let Some(rest) = rest {
                self.pending.truncate(self.written + rest);
                self.flush(to).await?;
                if self.frames.may_close() {
                    to.write_all(close).await?;
                }
                return to.flush().await;
            }
            self.flush(to).await?;
            if !self.fill(from).await? {
                return Ok(());
            }
        }
    }
}

/// Follows WebSocket frames (RFC 6455, 5.2) just enough to know where one ends.
#[derive(Clone, Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    payload_left: u64,
    /// A frame that closes (RFC 6455, 5.5.1) has begun: there are none after it.
    closes: bool,
}

impl Frames {
    pub(super) fn at_boundary(&self) -> bool {
        self.head.is_empty() && self.payload_left == 0
    }

    /// Whether a close can be sent, and is still to be.
    fn may_close(&self) -> bool {
        self.at_boundary() && !self.closes
    }

    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let step = self.step(bytes);
            bytes = &bytes[step..];
        }
    }

    /// How many of `bytes` complete the current frame: 0 at a boundary, `None` if it does not end in them.
    pub(super) fn until_boundary(&self, bytes: &[u8]) -> Option<usize> {
        let mut ahead = self.clone();
        let mut at = 0;
        while !ahead.at_boundary() {
            if at == bytes.len() {
                return None;
            }
            at += ahead.step(&bytes[at..]);
        }
        Some(at)
    }

    /// Takes some of `bytes`, at least one.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.payload_left > 0 {
            let taken = bytes
                .len()
                .min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
            self.payload_left -= taken as u64;
            return taken;
        }
        self.head.push(bytes[0]);
        if let Some(length) = self.payload_length() {
            self.closes |= self.head[0] & 0x0f == CLOSE;
            self.head.clear();
            self.payload_left = length;
        }
        1
    }

    /// The payload's length once the head is complete.
    fn payload_length(&self) -> Option<u64> {
        let second = *self.head.get(1)?;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 != 0 { 4 } else { 0 };
        if self.head.len() < 2 + extended + mask {
            return None;
        }
        Some(match extended {
            0 => u64::from(second & 0x7f),
            _ => self.head[2..2 + extended]
                .iter()
                .fold(0, |length, byte| (length << 8) | u64::from(*byte)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mut bytes = vec![0x82];
        let mask = if masked { 0x80 } else { 0 };
        match payload {
            0..=125 => bytes.push(mask | payload as u8),
            126..=65535 => {
                bytes.push(mask | 126);
                bytes.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        bytes.extend(std::iter::repeat(7).take(payload + if masked { 4 } else { 0 }));
        bytes
    }

    #[test]
    fn frames_of_all_lengths_end_where_they_end() {
        for payload in [0, 1, 125, 126, 65535, 65536, 100_000] {
            for masked in [false, true] {
                let bytes = frame(payload, masked);
                let mut frames = Frames::default();
                frames.pass(&bytes[..bytes.len() - 1]);
                assert!(
                    !frames.at_boundary() || bytes.len() == 1,
                    "{payload} {masked}"
                );
                let mut two = bytes[bytes.len() - 1..].to_vec();
                two.extend_from_slice(&bytes);
                assert_eq!(frames.until_boundary(&two), Some(1));
                frames.pass(&two);
                assert!(frames.at_boundary());
            }
        }
    }

    #[tokio::test]
    async fn a_close_waits_for_the_frame_on_its_way() {
        let bytes = frame(300, false);
        let mut pipe = Pipe::default();
        let mut out = Vec::new();
        pipe.pending.extend_from_slice(&bytes[..100]);
        pipe.flush(&mut out).await.expect("a vector takes all");
        let mut rest = bytes[100..].to_vec();
        rest.extend_from_slice(&frame(5, false));
        pipe.close(&mut &rest[..], &mut out, &CLOSE_TO_CLIENT)
            .await
            .expect("a vector takes all");
        let mut expected = bytes;
        expected.extend_from_slice(&CLOSE_TO_CLIENT);
        assert_eq!(out, expected);
    }
}
