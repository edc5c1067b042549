//! The raw bytes of heads that arrive, for what hyper's headers do not show.
//!
//! Hyper resolves a request that has both `Transfer-Encoding` and `Content-Length` as RFC 9112 (6.3)
//! allows: it drops the length, and closes the connection afterwards. faucet refuses such requests, so
//! it looks at the bytes.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a body's framing says of the bytes that follow a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes, perhaps none, then the next head.
    Length(u64),
    /// Nobody but hyper knows where the next head begins.
    Chunked,
}

/// Where in the stream of bytes we are.
enum Position {
    /// In a head, or before one, after `skip` more bytes of a body.
    Known { skip: u64 },
    /// Somewhere in a chunked body, or behind one. Known again when the connection has become idle
    /// right after an empty line: then nothing is left of it.
    Lost,
}

struct State {
    bytes: Vec<u8>,
    position: Position,
    tail: [u8; 4],
}

/// One connection's heads.
pub struct RawHead(Mutex<State>);

impl Default for RawHead {
    fn default() -> Self {
        Self(Mutex::new(State {
            bytes: Vec::new(),
            position: Position::Known { skip: 0 },
            tail: [0; 4],
        }))
    }
}

impl RawHead {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes arrived. `idle`: no request was being served or had begun. At most `limit` are kept.
    pub fn append(&self, read: &[u8], idle: bool, limit: usize) {
        let mut state = self.lock();
        if idle && matches!(state.position, Position::Lost) && state.tail == *b"\r\n\r\n" {
            state.position = Position::Known { skip: 0 };
        }
        state.note_tail(read);
        let Position::Known { skip } = &mut state.position else {
            return;
        };
        let body = read.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
        *skip -= body as u64;
        let heads = &read[body..];
        if state.bytes.len() + heads.len() > limit {
            state.lose();
        } else {
            state.bytes.extend_from_slice(heads);
        }
    }

    /// A head was understood, and its body is framed like this. Whether its request must be refused:
    /// it is chunked and declares a length as well, or may do so for all that is known.
    pub fn take(&self, framing: Framing) -> bool {
        let mut state = self.lock();
        let chunked = framing == Framing::Chunked;
        if matches!(state.position, Position::Lost) {
            return chunked;
        }
        let Some((start, end)) = head_of(&state.bytes) else {
            state.lose();
            return chunked;
        };
        let refuse = chunked && has_content_length(&state.bytes[start..end]);
        match framing {
            Framing::Chunked => state.lose(),
            Framing::Length(length) => {
                let here = state.bytes.len() - end;
                let body = here.min(usize::try_from(length).unwrap_or(usize::MAX));
                state.bytes.drain(..end + body);
                state.position = Position::Known {
                    skip: length - body as u64,
                };
            }
        }
        refuse
    }
}

impl State {
    fn lose(&mut self) {
        self.bytes = Vec::new();
        self.position = Position::Lost;
    }

    fn note_tail(&mut self, read: &[u8]) {
        let new = &read[read.len().saturating_sub(4)..];
        self.tail.rotate_left(new.len());
        let old = self.tail.len() - new.len();
        self.tail[old..].copy_from_slice(new);
    }
}

/// Where the first head begins and ends, its empty line included. Empty lines before it do not count
/// (RFC 9112, 2.2).
fn head_of(bytes: &[u8]) -> Option<(usize, usize)> {
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte))?;
    let mut line = start;
    loop {
        let length = bytes[line..].iter().position(|byte| *byte == b'\n')?;
        let end = line + length + 1;
        if matches!(&bytes[line..end], b"\n" | b"\r\n") {
            return Some((start, end));
        }
        line = end;
    }
}

fn has_content_length(head: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    head.split(|byte| *byte == b'\n').any(|line| {
        line.len() > NAME.len()
            && line[..NAME.len()].eq_ignore_ascii_case(NAME)
            && line[NAME.len()..]
                .iter()
                .find(|byte| !b" \t".contains(byte))
                == Some(&b':')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;
    const BOTH: &[u8] =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH : 3\r\n\r\n";
    const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn both_in_one_head_are_seen_and_one_is_not_refused() {
        for (head, refused) in [(BOTH, true), (CHUNKED, false)] {
            let raw = RawHead::default();
            raw.append(b"\r\n", true, LIMIT);
            raw.append(head, false, LIMIT);
            assert_eq!(raw.take(Framing::Chunked), refused);
        }
    }

    #[test]
    fn pipelined_heads_are_told_apart() {
        let raw = RawHead::default();
        raw.append(&[GET, BOTH].concat(), true, LIMIT);
        assert!(!raw.take(Framing::Length(0)));
        assert!(raw.take(Framing::Chunked));
    }

    #[test]
    fn a_body_is_not_taken_for_a_head() {
        let raw = RawHead::default();
        raw.append(b"POST / HTTP/1.1\r\n\r\nContent-", true, LIMIT);
        assert!(!raw.take(Framing::Length(20)));
        raw.append(b"Length: 1\r\n\r\n", false, LIMIT);
        raw.append(CHUNKED, false, LIMIT);
        assert!(!raw.take(Framing::Chunked));
    }

    #[test]
    fn chunked_requests_one_after_the_other_are_fine_but_not_in_one_breath() {
        let raw = RawHead::default();
        for _ in 0..2 {
            raw.append(CHUNKED, true, LIMIT);
            assert!(!raw.take(Framing::Chunked));
            raw.append(b"1\r\nx\r\n0\r\n\r\n", false, LIMIT);
        }
        raw.append(&[CHUNKED, b"0\r\n\r\n", CHUNKED].concat(), true, LIMIT);
        assert!(!raw.take(Framing::Chunked));
        assert!(raw.take(Framing::Chunked), "nobody knows where it begins");
    }
}
