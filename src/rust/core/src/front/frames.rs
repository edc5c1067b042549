//! The frames of one HTTP/2 connection (RFC 9113, 4.1), as its socket sees them: which streams are open, when bytes of
//! each last moved, and what hyper does not tell: whether the client is in the middle of something.

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const DATA: u8 = 0;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a client says before its first frame, in bytes.
const PREFACE: u32 = 24;

/// A stream that is not the last: the first word of a graceful end.
const NO_STREAM_YET: u32 = (1 << 31) - 1;

/// More streams than that are not looked at; hyper refuses them long before.
const MOST: usize = 1024;

/// What a client hears that is not served: no settings, and a `GOAWAY` before its first stream.
pub const REFUSED: [u8; 26] = {
    let mut frames = [0; 26];
    frames[3] = SETTINGS;
    frames[9 + 2] = 8;
    frames[9 + 3] = GOAWAY;
    frames
};

#[derive(Clone, Copy, Default)]
struct Head {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn parse(bytes: [u8; 9]) -> Self {
        let [a, b, c, kind, flags, id @ ..] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes(id) & NO_STREAM_YET,
        }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// One direction's bytes, frame by frame, however they are cut.
#[derive(Default)]
struct Walk {
    /// The head that is arriving, and how much of it is here.
    partial: [u8; 9],
    have: usize,
    head: Head,
    /// What is left of the payload of `head`.
    left: u32,
    /// The first bytes of a payload: a `GOAWAY`'s last stream.
    first: [u8; 4],
}

impl Walk {
    /// Whether the last frame is complete.
    fn at_end(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Calls `moved` for each piece of a frame, its head alone included, with whether the frame is complete then.
    fn over(&mut self, mut bytes: &[u8], mut moved: impl FnMut(Head, &[u8; 4], bool)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = bytes.len().min(self.left as usize);
                let at = (self.head.length - self.left) as usize;
                for (index, byte) in bytes[..count].iter().enumerate() {
                    match self.first.get_mut(at + index) {
                        Some(first) => *first = *byte,
                        None => break,
                    }
                }
                self.left -= count as u32;
                bytes = &bytes[count..];
                moved(self.head, &self.first, self.left == 0);
                continue;
            }
            let count = bytes.len().min(self.partial.len() - self.have);
            self.partial[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == self.partial.len() {
                self.have = 0;
                self.head = Head::parse(self.partial);
                self.left = self.head.length;
                moved(self.head, &self.first, self.left == 0);
            }
        }
    }
}

/// Both directions of one connection. Times are milliseconds on [`coarse_millis`](crate::clock::coarse_millis).
pub struct Frames {
    preface: u32,
    received: Walk,
    sent: Walk,
    /// A block of headers has begun, and others must not come in between.
    in_block: bool,
    /// Since when the client is in the middle of a frame, or of a block of headers; 0 if it is not.
    incomplete: u64,
    /// The last stream whose head is here.
    last: u32,
    /// Streams whose end has not been sent, and when bytes of each last moved.
    open: Vec<(u32, u64)>,
    /// The client was told which of its streams was the last.
    told: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            preface: PREFACE,
            received: Walk::default(),
            sent: Walk::default(),
            in_block: false,
            incomplete: 0,
            last: 0,
            open: Vec::new(),
            told: false,
        }
    }
}

impl Frames {
    /// Bytes came from the client; returns since when it is in the middle of something, 0 if it is not.
    pub fn received(&mut self, bytes: &[u8], now: u64) -> u64 {
        let skipped = bytes.len().min(self.preface as usize);
        self.preface -= skipped as u32;
        let (open, last, in_block) = (&mut self.open, &mut self.last, &mut self.in_block);
        let incomplete = &mut self.incomplete;
        self.received
            .over(&bytes[skipped..], |head, _, complete| match head.kind {
                HEADERS | CONTINUATION if complete => {
                    *in_block = !head.has(END_HEADERS);
                    if *in_block {
                        return;
                    }
                    *incomplete = 0;
                    // Trailers are no new stream.
                    if head.stream > *last {
                        *last = head.stream;
                        if open.len() < MOST {
                            open.push((head.stream, now));
                        }
                    }
                }
                RST_STREAM if complete => {
                    close(open, head.stream);
                    *incomplete = 0;
                }
                _ if complete && !*in_block => *incomplete = 0,
                _ => {}
            });
        if self.received.at_end() && !self.in_block && self.preface == 0 {
            self.incomplete = 0;
        } else if self.incomplete == 0 {
            self.incomplete = now;
        }
        self.incomplete
    }

    /// Bytes went to the client.
    pub fn sent(&mut self, bytes: &[u8], now: u64) {
        let (open, told) = (&mut self.open, &mut self.told);
        self.sent
            .over(bytes, |head, first, complete| match head.kind {
                RST_STREAM if complete => close(open, head.stream),
                DATA | HEADERS if complete && head.has(END_STREAM) => close(open, head.stream),
                DATA | HEADERS => {
                    if let Some((_, moved)) = open.iter_mut().find(|(id, _)| *id == head.stream) {
                        *moved = now;
                    }
                }
                GOAWAY if complete => *told |= u32::from_be_bytes(*first) != NO_STREAM_YET,
                _ => {}
            });
    }

    /// How many streams are open that no byte was sent on since `since`.
    pub fn unmoved(&self, since: u64) -> usize {
        self.open
            .iter()
            .filter(|(_, moved)| *moved <= since)
            .count()
    }

    /// A `GOAWAY` that names the last stream that was read (RFC 9113, 6.8), if it is still to be said and can be.
    pub fn goodbye(&self) -> Option<[u8; 17]> {
        if self.told || self.preface > 0 || !self.sent.at_end() {
            return None;
        }
        let mut frame = [0; 17];
        frame[2] = 8;
        frame[3] = GOAWAY;
        frame[9..13].copy_from_slice(&self.last.to_be_bytes());
        Some(frame)
    }
}

fn close(open: &mut Vec<(u32, u64)>, stream: u32) {
    if let Some(place) = open.iter().position(|(id, _)| *id == stream) {
        open.swap_remove(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn begun() -> Frames {
        let mut frames = Frames::default();
        assert_eq!(frames.received(&[0; 10], 1), 1);
        assert_eq!(frames.received(&[0; 14], 2), 0);
        frames
    }

    #[test]
    fn however_bytes_are_cut_the_streams_are_the_same() {
        let received = [
            frame(4, 0, 0, &[0; 6]),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"head"),
            frame(HEADERS, END_STREAM, 3, b"head"),
            frame(CONTINUATION, END_HEADERS, 3, b"more"),
            frame(HEADERS, END_HEADERS, 5, b""),
            frame(DATA, END_STREAM, 5, b"body"),
            frame(RST_STREAM, 0, 5, &[0; 4]),
        ]
        .concat();
        let sent = [
            frame(HEADERS, END_HEADERS, 1, b"head"),
            frame(DATA, 0, 1, b"some"),
            frame(HEADERS, END_HEADERS, 3, b"head"),
            frame(DATA, END_STREAM, 3, b""),
        ]
        .concat();
        for size in [1, 2, 3, 7, 1000] {
            let mut frames = begun();
            for piece in received.chunks(size) {
                frames.received(piece, 10);
            }
            assert_eq!((frames.incomplete, frames.last), (0, 5), "{size}");
            assert_eq!(frames.open, [(1, 10), (3, 10)], "{size}");
            for piece in sent.chunks(size) {
                frames.sent(piece, 20);
            }
            assert_eq!(frames.open, [(1, 20)], "{size}");
            assert_eq!((frames.unmoved(19), frames.unmoved(20)), (0, 1));
        }
    }

    #[test]
    fn a_client_in_the_middle_of_something_is_so_since_that_began() {
        let mut frames = begun();
        let ping = frame(6, 0, 0, &[0; 8]);
        assert_eq!(frames.received(&ping, 5), 0);
        assert_eq!(frames.received(&ping[..3], 6), 6);
        assert_eq!(frames.received(&ping[3..12], 7), 6);
        // Another one begins where this one ends.
        assert_eq!(frames.received(&[&ping[12..], &ping[..1]].concat(), 8), 8);
        assert_eq!(frames.received(&ping[1..], 9), 0);
        assert_eq!(frames.received(&frame(HEADERS, 0, 1, b"head"), 10), 10);
        assert_eq!(frames.received(&frame(CONTINUATION, 0, 1, b"e"), 11), 10);
        let end = frame(CONTINUATION, END_HEADERS, 1, b"r");
        assert_eq!(frames.received(&end, 12), 0);
    }

    #[test]
    fn goodbye_is_said_once_and_between_frames_only() {
        let mut frames = Frames::default();
        assert!(frames.goodbye().is_none());
        frames = begun();
        frames.received(&frame(HEADERS, END_HEADERS, 7, b""), 1);
        let goodbye = frames.goodbye().expect("it can be said");
        assert_eq!(goodbye[..], frame(GOAWAY, 0, 0, &[0, 0, 0, 7, 0, 0, 0, 0]));
        let graceful = frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        frames.sent(&graceful[..12], 1);
        assert!(frames.goodbye().is_none());
        frames.sent(&graceful[12..], 1);
        assert!(frames.goodbye().is_some());
        frames.sent(&goodbye, 1);
        assert!(frames.goodbye().is_none());
    }
}
