//! The raw bytes of heads that arrive, for what hyper's headers do not show.
//!
//! Hyper resolves a request that has both `Transfer-Encoding` and `Content-Length` as RFC 9112 (6.3)
//! allows: it drops the length, and closes the connection afterwards. faucet refuses such requests, so
//! it looks at the bytes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::chunks::Chunks;

/// What a body's framing says of the bytes that follow a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes, perhaps none, then the next head.
    Length(u64),
    /// Chunks, then the next head.
    Chunked,
}

/// Why a request must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It is chunked and declares a length as well.
    Both,
    /// Hyper has found it elsewhere than we have.
    Lost,
}

/// Where in the stream of bytes we are.
enum Position {
    /// In a head, or before one: its bytes so far are kept.
    Head,
    /// So many bytes before the next head.
    Length(u64),
    /// In a chunked body.
    Chunked(Chunks),
    /// In what is not HTTP, or was not understood in the same way by hyper: nothing is taken any more.
    Lost,
}

struct State {
    /// From the next head on, as far as it has come, and what may be behind it.
    bytes: Vec<u8>,
    position: Position,
}

/// One connection's heads.
pub struct RawHead {
    state: Mutex<State>,
    /// Whether the head that is arriving has to be read again, with room for more headers.
    crowded: AtomicBool,
}

impl Default for RawHead {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                bytes: Vec::new(),
                position: Position::Head,
            }),
            crowded: AtomicBool::new(false),
        }
    }
}

impl RawHead {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes arrived. Those that are not of a body are kept until hyper has understood them; it keeps them, too, and
    /// bounds them.
    pub fn append(&self, read: &[u8]) {
        let mut state = self.lock();
        let body = state.position.follow(read);
        let heads = &read[body..];
        state.bytes.extend_from_slice(heads);
    }

    /// A head with this method was understood, and its body is framed like this. Why its request must be refused, if so.
    pub fn take(&self, method: &str, framing: Framing) -> Option<Doubt> {
        let mut state = self.lock();
        let State { bytes, position } = &mut *state;
        let head = matches!(position, Position::Head)
            .then(|| head_of(bytes))
            .flatten()
            .filter(|(start, _)| is_request_of(method, &bytes[*start..]));
        let Some((start, end)) = head else {
            state.lose();
            return Some(Doubt::Lost);
        };
        let both =
            framing == Framing::Chunked && content_lengths(&bytes[start..end]).next().is_some();
        *position = match framing {
            Framing::Length(0) => Position::Head,
            Framing::Length(length) => Position::Length(length),
            Framing::Chunked => Position::Chunked(Chunks::default()),
        };
        let body = position.follow(&bytes[end..]);
        bytes.drain(..end + body);
        both.then_some(Doubt::Both)
    }

    /// Whether the head that is arriving has more than `count` lines already: then it has to be read again.
    pub fn crowds(&self, count: usize) -> bool {
        let state = self.lock();
        let start = state.bytes.iter().position(|byte| !b"\r\n".contains(byte));
        let end = head_of(&state.bytes).map_or(state.bytes.len(), |(_, end)| end);
        let head = &state.bytes[start.unwrap_or(end)..end];
        let crowds = head.iter().filter(|byte| **byte == b'\n').count() > count;
        self.crowded.store(crowds, Ordering::Relaxed);
        crowds
    }

    /// Whether a head has to be read again; asked once.
    pub fn take_crowded(&self) -> bool {
        // A swap would be one more locked instruction for each time that a connection is looked at.
        let crowded = self.crowded.load(Ordering::Relaxed);
        if crowded {
            self.crowded.store(false, Ordering::Relaxed);
        }
        crowded
    }

    /// Whether the head that is arriving declares a length beyond what hyper can count.
    pub fn has_endless_body(&self) -> bool {
        let state = self.lock();
        let Some((start, end)) = head_of(&state.bytes) else {
            return false;
        };
        let mut lengths = content_lengths(&state.bytes[start..end]);
        lengths.any(|value| {
            let digits = std::str::from_utf8(value).map_or("", str::trim);
            // Hyper has uses of its own for the last two numbers.
            !digits.is_empty()
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits
                    .parse::<u64>()
                    .map_or(true, |length| length > u64::MAX - 2)
        })
    }
}

impl State {
    fn lose(&mut self) {
        self.bytes = Vec::new();
        self.position = Position::Lost;
    }
}

impl Position {
    /// How many of `bytes` belong to a body. All that belongs to nothing does, too.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Head => 0,
            Self::Length(left) => {
                let body = (bytes.len() as u64).min(*left);
                *left -= body;
                if *left == 0 {
                    *self = Self::Head;
                }
                body as usize
            }
            Self::Chunked(chunks) => match chunks.follow(bytes) {
                Ok(None) => bytes.len(),
                Ok(Some(end)) => {
                    *self = Self::Head;
                    end
                }
                // Hyper finds the same, and answers.
                Err(_) => {
                    *self = Self::Lost;
                    bytes.len()
                }
            },
            Self::Lost => bytes.len(),
        }
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

fn is_request_of(method: &str, head: &[u8]) -> bool {
    head.strip_prefix(method.as_bytes())
        .is_some_and(|rest| rest.first() == Some(&b' '))
}

/// The values that a head's `Content-Length` lines have.
fn content_lengths(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    const NAME: &[u8] = b"content-length";
    head.split(|byte| *byte == b'\n').filter_map(|line| {
        let name = line.get(..NAME.len())?;
        let rest = &line[NAME.len()..];
        let colon = rest.iter().position(|byte| !b" \t".contains(byte))?;
        (name.eq_ignore_ascii_case(NAME) && rest[colon] == b':').then(|| &rest[colon + 1..])
    })
}

#[cfg(test)]
mod against_hyper;

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[u8] =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH : 3\r\n\r\n";
    const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn both_in_one_head_are_seen_and_one_is_not_refused() {
        for (head, doubt) in [(BOTH, Some(Doubt::Both)), (CHUNKED, None)] {
            let raw = RawHead::default();
            raw.append(b"\r\n");
            raw.append(head);
            assert_eq!(raw.take("POST", Framing::Chunked), doubt);
        }
    }

    #[test]
    fn pipelined_heads_are_told_apart() {
        let raw = RawHead::default();
        raw.append(&[GET, BOTH].concat());
        assert_eq!(raw.take("GET", Framing::Length(0)), None);
        assert_eq!(raw.take("POST", Framing::Chunked), Some(Doubt::Both));
    }

    #[test]
    fn a_body_is_not_taken_for_a_head() {
        let raw = RawHead::default();
        raw.append(b"POST / HTTP/1.1\r\n\r\nContent-");
        assert_eq!(raw.take("POST", Framing::Length(20)), None);
        raw.append(b"Length: 1\r\n\r\n");
        raw.append(CHUNKED);
        assert_eq!(raw.take("POST", Framing::Chunked), None);
    }

    #[test]
    fn chunked_requests_are_followed_in_one_breath_or_in_many() {
        let body = b"1;x=y\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n";
        let both = [CHUNKED, body, CHUNKED, b"0\r\n\r\n", BOTH].concat();
        for size in 1..both.len() {
            let raw = RawHead::default();
            let mut pieces = both.chunks(size);
            let mut doubts = Vec::new();
            while doubts.len() < 3 {
                while head_of(&raw.lock().bytes).is_none() {
                    raw.append(pieces.next().expect("a head"));
                }
                doubts.push(raw.take("POST", Framing::Chunked));
            }
            assert_eq!(doubts, [None, None, Some(Doubt::Both)]);
        }
    }

    #[test]
    fn what_hyper_finds_elsewhere_is_refused_from_then_on() {
        let raw = RawHead::default();
        raw.append(GET);
        assert_eq!(raw.take("PUT", Framing::Length(0)), Some(Doubt::Lost));
        raw.append(GET);
        assert_eq!(raw.take("GET", Framing::Length(0)), Some(Doubt::Lost));
        let raw = RawHead::default();
        raw.append(CHUNKED);
        assert_eq!(raw.take("POST", Framing::Chunked), None);
        raw.append(b"no size\r\n");
        raw.append(GET);
        assert_eq!(raw.take("GET", Framing::Length(0)), Some(Doubt::Lost));
    }

    #[test]
    fn lengths_that_nobody_can_count_are_seen() {
        for (value, endless) in [
            ("5", false),
            ("18446744073709551613", false),
            ("18446744073709551614", true),
            (" 99999999999999999999\t", true),
            ("9999999999999999999x", false),
            ("", false),
        ] {
            let raw = RawHead::default();
            let head = format!("POST / HTTP/1.1\r\nContent-Length:{value}\r\n\r\n");
            raw.append(head.as_bytes());
            assert_eq!(raw.has_endless_body(), endless, "{value:?}");
        }
    }
}
