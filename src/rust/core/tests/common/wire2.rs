//! A client that writes and reads HTTP/2 by hand, one frame at a time.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// The first word of a graceful end.
pub const NO_STREAM_YET: u32 = 0x7fff_ffff;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.as_ref().to_vec(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = (self.payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// A number of 32 bits in the payload: a code, or a stream.
    pub fn word(&self, at: usize) -> u32 {
        let bytes = self.payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes)
    }

    /// The status that a response begins with, if it is one of those in HPACK's static table.
    pub fn status(&self) -> Option<u16> {
        assert_eq!(self.kind, HEADERS, "{self:?}");
        let statuses = [200, 204, 206, 304, 400, 404, 500];
        let index = usize::from(self.payload[0]).checked_sub(0x88)?;
        statuses.get(index).copied()
    }

    /// A `SETTINGS` with one value.
    pub fn setting(id: u16, value: u32) -> Self {
        let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat();
        Self::new(SETTINGS, 0, 0, payload)
    }

    pub fn window_update(stream: u32, bytes: u32) -> Self {
        Self::new(WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
    }

    /// A request that is complete with its head. `fields`: name and value of each, without the pseudo headers that
    /// every request has.
    pub fn get(stream: u32, path: &str, fields: &[(&str, &str)]) -> Self {
        // GET and http, from the static table.
        let mut block = vec![0x82, 0x86];
        literal(&mut block, ":path", path);
        for (name, value) in fields {
            literal(&mut block, name, value);
        }
        Self::new(HEADERS, END_STREAM | END_HEADERS, stream, block)
    }
}

/// Neither indexed nor compressed (RFC 7541, 6.2.2).
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        assert!(text.len() < 127);
        block.push(text.len() as u8);
        block.extend(text.as_bytes());
    }
}

pub struct Wire2 {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire2 {
    /// Connects and gives `window` to each stream.
    pub async fn connect(address: SocketAddr, window: u32) -> Self {
        let stream = within("connecting", TcpStream::connect(address))
            .await
            .expect("the front listens");
        stream.set_nodelay(true).expect("a live socket");
        let mut wire = Self {
            stream,
            unread: Vec::new(),
        };
        wire.send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        wire.send(Frame::setting(4, window)).await;
        wire
    }

    pub async fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        within("sending", self.stream.write_all(bytes.as_ref()))
            .await
            .expect("the front reads");
    }

    pub async fn send(&mut self, frame: Frame) {
        self.send_raw(frame.bytes()).await;
    }

    pub async fn get(&mut self, stream: u32, path: &str) {
        self.send(Frame::get(stream, path, &[(":authority", "a")]))
            .await;
    }

    /// The next frame, as it comes; none when the other side has closed. A broken connection is none that was closed.
    async fn any(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.unread.get(..9) {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if self.unread.len() >= 9 + length {
                    let bytes: Vec<u8> = self.unread.drain(..9 + length).collect();
                    let id = bytes[5..9].try_into().expect("four bytes");
                    return Some(Frame::new(
                        bytes[3],
                        bytes[4],
                        u32::from_be_bytes(id),
                        &bytes[9..],
                    ));
                }
            }
            let read = self.stream.read_buf(&mut self.unread).await;
            if read.expect("not reset") == 0 {
                assert!(self.unread.is_empty(), "half a frame");
                return None;
            }
        }
    }

    /// The next frame that is about the client's own affairs; what the protocol asks for is done.
    pub async fn next(&mut self) -> Option<Frame> {
        // However much is said meanwhile that is not.
        within("a frame", self.next_of_all()).await
    }

    async fn next_of_all(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any().await?;
            let answer = frame.flags & ACK == 0;
            match frame.kind {
                SETTINGS if answer => self.try_send(Frame::new(SETTINGS, ACK, 0, b"")).await,
                PING if answer => {
                    self.try_send(Frame::new(PING, ACK, 0, &frame.payload))
                        .await
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    async fn try_send(&mut self, frame: Frame) {
        // The other side may have closed.
        let _ = self.stream.write_all(&frame.bytes()).await;
    }

    /// Both sides have said how they are set.
    pub async fn settle(&mut self) {
        let mut acknowledged = false;
        let mut told = false;
        while !(acknowledged && told) {
            let frame = within("settings", self.any()).await.expect("a frame");
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                self.send(Frame::new(SETTINGS, ACK, 0, b"")).await;
                told = true;
            }
            acknowledged |= frame.kind == SETTINGS && frame.flags & ACK != 0;
        }
    }

    /// The next frame, which is of this kind and on this stream.
    pub async fn expect(&mut self, kind: u8, stream: u32) -> Frame {
        let frame = self.next().await.expect("a frame");
        assert_eq!((frame.kind, frame.stream), (kind, stream), "{frame:?}");
        frame
    }

    /// Reads one response to its end: its head, and the bytes of its body.
    pub async fn response(&mut self, stream: u32) -> (Frame, Vec<u8>) {
        let head = self.expect(HEADERS, stream).await;
        let mut body = Vec::new();
        let mut ended = head.flags & END_STREAM != 0;
        while !ended {
            let frame = self.expect(DATA, stream).await;
            body.extend(&frame.payload);
            ended = frame.flags & END_STREAM != 0;
        }
        (head, body)
    }

    /// The last `GOAWAY` before the other side closes the connection, which it does next: which stream was the last,
    /// and the code.
    pub async fn goodbye(&mut self) -> (u32, u32) {
        let mut last = None;
        while let Some(frame) = self.next().await {
            assert_eq!(frame.kind, GOAWAY, "{frame:?}");
            last = Some((frame.word(0), frame.word(4)));
        }
        last.expect("a GOAWAY before the end")
    }
}
