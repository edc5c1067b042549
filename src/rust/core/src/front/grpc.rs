//! What a front has to know of gRPC: how its calls are told from other requests, and how long they may take.

use std::time::Duration;

use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method, Request, Version};

use super::request_body::RequestBody;

/// What no clock can add to what it shows is cut, in seconds.
const LONGEST: u64 = 1_000_000_000;

/// Whether it is a call (gRPC over HTTP/2, "Requests").
pub fn is_call(request: &Request<RequestBody>) -> bool {
    request.version() == Version::HTTP_2
        && *request.method() == Method::POST
        && is_grpc(request.headers())
}

/// Of any kind of message but those of gRPC-Web.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    let rest = kind.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// With which status a call has ended, or will be taken for ended (gRPC over HTTP/2, "Responses"). Its HTTP status tells nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallStatus(Option<u16>);

impl CallStatus {
    const CANCELLED: u16 = 1;
    const UNKNOWN: u16 = 2;
    const INTERNAL: u16 = 13;
    /// `UNAUTHENTICATED`, the last that there is.
    const LAST: u16 = 16;

    /// What trailers say, or a head that has no others behind it.
    pub fn note(&mut self, trailers: &HeaderMap) {
        if let Some(said) = trailers.get("grpc-status") {
            let code = said.to_str().ok().and_then(|code| code.parse().ok());
            let known = code.filter(|code| *code <= Self::LAST);
            self.0 = Some(known.unwrap_or(Self::UNKNOWN));
        }
    }

    /// Its client has left.
    pub fn cancelled(&mut self) {
        self.0 = Some(Self::CANCELLED);
    }

    /// Its stream is reset by us.
    pub fn broken_off(&mut self) {
        self.0 = Some(Self::INTERNAL);
    }

    /// It has come to its end, whatever it has said.
    pub fn ended(&mut self) {
        self.0.get_or_insert(Self::UNKNOWN);
    }

    /// Its number. Who does not wait for the end has left.
    pub fn code(self) -> u16 {
        self.0.unwrap_or(Self::CANCELLED)
    }
}

/// How long a call may take, if it says so: `grpc-timeout`.
///
/// # Errors
/// It is not written as it should be.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, &'static str> {
    match headers.get("grpc-timeout") {
        None => Ok(None),
        Some(value) => match value.to_str().ok().and_then(read) {
            None => Err("`grpc-timeout` must be up to 8 digits and one of HMSmun"),
            some => Ok(some),
        },
    }
}

fn read(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.len().checked_sub(1)?);
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs((number * 3600).min(LONGEST)),
        "M" => Duration::from_secs((number * 60).min(LONGEST)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn timeouts_are_read_as_they_are_written() {
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("99999999m"), Some(Duration::from_millis(99_999_999)));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read("0n"), Some(Duration::ZERO));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(LONGEST)));
        for wrong in [
            "",
            "S",
            "1",
            "1s",
            "-1S",
            "1.5S",
            "123456789m",
            "+1S",
            "1 S",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let odd = HeaderValue::from_bytes(b"1\xc3\xa9").expect("a value");
        let headers = HeaderMap::from_iter([("grpc-timeout".parse().expect("a name"), odd)]);
        assert!(timeout(&headers).is_err());
    }

    #[test]
    fn a_status_is_what_was_said_last_or_what_was_done() {
        let mut status = CallStatus::default();
        assert_eq!(status.code(), 1);
        status.ended();
        assert_eq!(status.code(), 2);
        for (said, code) in [("0", 0), ("14", 14), ("17", 2), ("x", 2)] {
            let value = HeaderValue::from_static(said);
            let name = "grpc-status".parse().expect("a name");
            status.note(&HeaderMap::from_iter([(name, value)]));
            assert_eq!(status.code(), code);
        }
        status.note(&HeaderMap::new());
        status.broken_off();
        assert_eq!(status.code(), 13);
        status.cancelled();
        assert_eq!(status.code(), 1);
    }

    #[test]
    fn calls_are_told_by_their_type() {
        for (kind, grpc) in [
            ("application/grpc", true),
            ("application/grpc+json", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let kind_header = HeaderValue::from_static(kind);
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind_header)]);
            assert_eq!(is_grpc(&headers), grpc, "{kind}");
        }
    }
}
