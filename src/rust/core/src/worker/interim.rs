//! Tells interim responses from answers that only look like one.

/// Interim responses before an answer. There is no need for more, and they must not go on for ever.
const MOST: u32 = 100;

/// What an interim response never has: whatever has it is an answer. httpuv sends the first with every status, plumber the
/// last, even if it leaves the body out.
const OF_BODIES: [&[u8]; 3] = [b"content-length:", b"transfer-encoding:", b"content-type:"];

/// As many bytes of a line as tell what it is: the longest of [`OF_BODIES`], and a status line up to its status.
const LOOK: usize = 18;

/// Where in a status line its status is: behind `HTTP/1.1 `.
const STATUS: usize = 9;

/// Watches the bytes of a worker up to the head of its answer.
#[derive(Debug, Default)]
pub(super) struct Interim {
    /// The beginning of the line that is coming.
    line: [u8; LOOK],
    length: usize,
    /// Whether the status line was an interim response's, whose other lines are coming.
    inside: bool,
    seen: u32,
}

/// What the bytes up to here were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Interim responses, whole or in part, or the first bytes of an answer.
    Interim,
    /// And the beginning of an answer.
    Answer,
    /// What must not be taken for an interim response: its status is no such, it has a body, or there is no end of them.
    Nonsense,
}

impl Interim {
    /// Looks at what came next, which is not nothing. Once it has seen an answer it is as new.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Sight {
        // Almost always, and all that is to be done then.
        let fresh = self.length == 0 && !self.inside;
        if fresh && bytes[0] == b'H' && bytes.get(STATUS).is_some_and(|first| *first != b'1') {
            *self = Self::default();
            return Sight::Answer;
        }
        for byte in bytes {
            match self.step(*byte) {
                Sight::Interim => {}
                sight => {
                    *self = Self::default();
                    return sight;
                }
            }
        }
        Sight::Interim
    }

    fn step(&mut self, byte: u8) -> Sight {
        match byte {
            b'\n' => return self.end_of_line(),
            b'\r' => return Sight::Interim,
            _ => {}
        }
        if let Some(free) = self.line.get_mut(self.length) {
            *free = byte.to_ascii_lowercase();
            self.length += 1;
        }
        if self.inside {
            return Sight::Interim;
        }
        match self.line[..self.length].get(STATUS..) {
            Some(status @ [_, _, _, ..]) => match status {
                b"100" | b"102" | b"103" => {
                    self.inside = true;
                    self.seen += 1;
                    match self.seen > MOST {
                        true => Sight::Nonsense,
                        false => Sight::Interim,
                    }
                }
                // Asked for, or not: that is seen by whoever gets the answer.
                b"101" => Sight::Answer,
                [b'1', b'0'..=b'9', b'0'..=b'9'] => Sight::Nonsense,
                _ => Sight::Answer,
            },
            Some([first, ..]) if *first != b'1' => Sight::Answer,
            _ => Sight::Interim,
        }
    }

    fn end_of_line(&mut self) -> Sight {
        let line = &self.line[..self.length];
        if self.inside {
            if OF_BODIES.iter().any(|name| line.starts_with(name)) {
                return Sight::Nonsense;
            }
            self.inside = !line.is_empty();
        } else if !line.is_empty() {
            // No status line.
            return Sight::Answer;
        }
        self.length = 0;
        Sight::Interim
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Sight::{Answer, Nonsense};

    /// What it all is, in pieces of any size.
    fn sight(text: &str) -> Sight {
        let whole = Interim::default().look(text.as_bytes());
        for size in 1..text.len() {
            let mut interim = Interim::default();
            let mut sight = Sight::Interim;
            for piece in text.as_bytes().chunks(size) {
                sight = interim.look(piece);
                if matches!(sight, Answer | Nonsense) {
                    break;
                }
            }
            assert_eq!(sight, whole, "{text:?} in pieces of {size}");
        }
        whole
    }

    #[test]
    fn answers_are_seen() {
        for text in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.0 404 Not Found\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n",
            "\r\nHTTP/1.1 200 OK\r\n",
            "HTTP/1.1 99 Dunno\r\n",
            "HTTP/1.1 1\r\n",
            "hello\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
            "HTTP/1.1 103 Early Hints\nLink: a\n\nHTTP/1.1 500 No\r\n",
        ] {
            assert_eq!(sight(text), Answer, "{text:?}");
        }
    }

    #[test]
    fn interim_responses_are_passed_over() {
        for text in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 102 Processing\r\nX-Content-Length: 1\r\nContent-Typed: 1\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\r\n",
        ] {
            assert_eq!(sight(text), Sight::Interim, "{text:?}");
        }
    }

    #[test]
    fn what_is_neither_is_nonsense() {
        for text in [
            "HTTP/1.1 123 Dunno\r\n",
            "HTTP/1.1 199\r\n",
            "HTTP/1.1 100 Continue\r\nDate: x\r\nCONTENT-length: 0\r\n",
            "HTTP/1.1 103 Early Hints\nTransfer-Encoding:chunked\n",
            "HTTP/1.1 103 Dunno\r\nDate: x\r\nContent-Type: application/json\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 104 Dunno\r\n",
            &"HTTP/1.1 100 Continue\r\n\r\n".repeat(101),
        ] {
            assert_eq!(sight(text), Nonsense, "{text:?}");
        }
    }
}
