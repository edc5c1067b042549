//! Just enough of an HTTP/1.1 request: where it ends, whether its connection does, and what it asks for.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes of head and body together.
    pub length: usize,
    pub close: bool,
    pub asks: Asks,
    /// How long its answer is to take: `/sleep?s=0.05`.
    pub sleep: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// What every request gets.
    Answer,
    /// `/stats`: what the stub saw.
    Stats,
    /// `/stats/each`: what it saw at each address.
    StatsOfEach,
}

/// The request at the start of `bytes`, once all of it is there. Chunked bodies are an error.
pub fn parse(bytes: &[u8]) -> Result<Option<Request>> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &bytes[..end];
    let mut body = 0;
    let mut close = false;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        if let Some(value) = value_of(line, "content-length:") {
            body = value
                .parse::<usize>()
                .map_err(|_| Error::from(ErrorKind::InvalidData))?;
        } else if let Some(value) = value_of(line, "connection:") {
            close = value.eq_ignore_ascii_case("close");
        } else if value_of(line, "transfer-encoding:").is_some() {
            return Err(ErrorKind::Unsupported.into());
        }
    }
    let length = end + 4 + body;
    Ok((bytes.len() >= length).then_some(Request {
        length,
        close,
        asks: asks(head),
        sleep: sleep(head),
    }))
}

fn asks(head: &[u8]) -> Asks {
    if head.starts_with(b"GET /stats ") {
        Asks::Stats
    } else if head.starts_with(b"GET /stats/each ") {
        Asks::StatsOfEach
    } else {
        Asks::Answer
    }
}

fn sleep(head: &[u8]) -> Duration {
    let seconds = || {
        let rest = head.strip_prefix(b"GET /sleep?s=")?;
        let end = rest.iter().position(|byte| *byte == b' ')?;
        let seconds = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    seconds().unwrap_or_default()
}

/// The value of the header `line` if it starts with `name` (in lower case, with its colon).
fn value_of<'a>(line: &'a [u8], name: &str) -> Option<&'a str> {
    let (start, value) = (line.get(..name.len())?, line.get(name.len()..)?);
    if !start.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    std::str::from_utf8(value).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Request> {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn waits_for_the_whole_request() {
        assert_eq!(parsed("GET / HTTP/1.1\r\nHost: a\r\n"), None);
        assert_eq!(
            parsed("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"),
            None
        );
    }

    #[test]
    fn ends_where_the_next_begins() {
        let text = "POST / HTTP/1.1\r\ncontent-LENGTH: 2\r\n\r\nabGET / HTTP/1.1\r\n\r\n";
        assert_eq!(parsed(text).unwrap().length, text.len() - 18);
    }

    #[test]
    fn sees_close_and_what_is_asked() {
        let request = parsed("GET /stats HTTP/1.1\r\nConnection: Close\r\n\r\n").unwrap();
        assert_eq!((request.close, request.asks), (true, Asks::Stats));
        let request = parsed("GET /stats/each HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!((request.close, request.asks), (false, Asks::StatsOfEach));
    }

    #[test]
    fn sees_how_long_to_sleep() {
        let sleep = |path: &str| {
            parsed(&format!("GET {path} HTTP/1.1\r\n\r\n"))
                .unwrap()
                .sleep
        };
        assert_eq!(sleep("/sleep?s=0.05"), Duration::from_millis(50));
        assert_eq!(sleep("/sleep?s=-1"), Duration::ZERO);
        assert_eq!(sleep("/fast"), Duration::ZERO);
    }

    #[test]
    fn refuses_chunks() {
        assert!(parse(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
