//! Just enough of an HTTP/1.1 request: where it ends, and whether its connection does.

use std::io::{Error, ErrorKind, Result};

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes of head and body together.
    pub length: usize,
    pub close: bool,
    /// It asks for the stub's own counts.
    pub stats: bool,
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
        stats: head.starts_with(b"GET /stats "),
    }))
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
    fn sees_close_and_stats() {
        let request = parsed("GET /stats HTTP/1.1\r\nConnection: Close\r\n\r\n").unwrap();
        assert!(request.close && request.stats);
        assert!(!parsed("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().close);
    }

    #[test]
    fn refuses_chunks() {
        assert!(parse(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }
}
