//! Fuzz targets: what clients and upgraded connections send.

use std::net::{IpAddr, Ipv4Addr};

use hyper::header::{HeaderName, HeaderValue, CONTENT_LENGTH, HOST};

use super::headers::{connection_lists, forward, strip_ours, strip_request, X_FORWARDED_FOR};
use super::raw_head::{Framing, RawHead};
use super::tunnel::Frames;
use super::TrustedProxies;
use crate::fuzz::headers_of;

/// A connection's bytes, which arrive in pieces: the first byte says how large these are. A reader that is as strict as can be
/// stands for hyper; where it does not understand the bytes, nothing is expected of them any more.
pub fn raw_head(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else {
        return;
    };
    let raw = RawHead::default();
    let mut pieces = stream.chunks(usize::from(*size) + 1);
    let (mut arrived, mut at) = (0, 0);
    let mut arrive = |needed: usize| {
        while arrived < needed {
            let Some(piece) = pieces.next() else {
                return false;
            };
            raw.append(piece);
            arrived += piece.len();
        }
        true
    };
    while let Some(head) = Head::read(&stream[at..]) {
        if !arrive(at + head.length) {
            return;
        }
        let refused = raw.take(&head.method, head.framing()).is_some();
        let both = head.chunked && head.content_length.is_some();
        assert_eq!(refused, both, "whether both a length and chunks were given");
        if refused {
            return;
        }
        at += head.length;
        let Some(body) = head.body(&stream[at..]) else {
            let _ = arrive(stream.len());
            return;
        };
        at += body;
        if !arrive(at) {
            return;
        }
    }
    let _ = arrive(stream.len());
}

/// A request's head, as hyper and everyone else understands it.
struct Head {
    /// In bytes.
    length: usize,
    method: String,
    content_length: Option<u64>,
    chunked: bool,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let length = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let mut lines = std::str::from_utf8(&bytes[..length - 4])
            .ok()?
            .split("\r\n");
        let mut head = Self {
            length,
            method: String::new(),
            content_length: None,
            chunked: false,
        };
        let request: Vec<&str> = lines.next()?.split(' ').collect();
        let ([method, target, "HTTP/1.1"], true) = (&request[..], bytes.is_ascii()) else {
            return None;
        };
        if method.is_empty() || target.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase())
        {
            return None;
        }
        head.method = (*method).to_owned();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let name: HeaderName = name.parse().ok()?;
            HeaderValue::from_str(value).ok()?;
            if name == CONTENT_LENGTH && head.content_length.is_none() {
                let digits = value.trim_matches([' ', '\t']);
                let sound = (1..=18).contains(&digits.len())
                    && digits.bytes().all(|byte| byte.is_ascii_digit());
                head.content_length = Some(digits.parse().ok().filter(|_| sound)?);
            } else if name == "transfer-encoding" && !head.chunked && value.trim() == "chunked" {
                head.chunked = true;
            } else if name == CONTENT_LENGTH || name == "transfer-encoding" {
                return None;
            }
        }
        Some(head)
    }

    fn framing(&self) -> Framing {
        if self.chunked {
            Framing::Chunked
        } else {
            Framing::Length(self.content_length.unwrap_or(0))
        }
    }

    /// Where the body ends that `bytes` begin with, if it does so in them.
    fn body(&self, bytes: &[u8]) -> Option<usize> {
        if !self.chunked {
            let length = usize::try_from(self.content_length.unwrap_or(0)).ok()?;
            return Some(length).filter(|length| *length <= bytes.len());
        }
        let mut at = 0;
        let line = |at: usize| {
            let length = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
            Some((&bytes[at..at + length], at + length + 2))
        };
        loop {
            let (size, next) = line(at)?;
            let digits = std::str::from_utf8(size).ok()?;
            let sound = (1..=4).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = usize::from_str_radix(digits, 16).ok().filter(|_| sound)?;
            if size == 0 {
                let (last, end) = line(next)?;
                return last.is_empty().then_some(end);
            }
            at = next + size;
            if bytes.get(at..at + 2)? != b"\r\n" {
                return None;
            }
            at += 2;
        }
    }
}

/// A tunnel's bytes in one direction, in pieces: the first byte says how large these are.
pub fn frames(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else {
        return;
    };
    let ends = frame_ends(stream);
    let mut frames = Frames::default();
    let mut passed = 0;
    for piece in stream.chunks(usize::from(*size) + 1) {
        let rest = ends.iter().find(|end| **end >= passed as u64);
        let expected = rest
            .map(|end| end - passed as u64)
            .filter(|left| *left <= piece.len() as u64);
        let found = frames.until_boundary(piece).map(|found| found as u64);
        assert_eq!(found, expected, "where the frame ends");
        frames.pass(piece);
        passed += piece.len();
        let at_end = ends.contains(&(passed as u64));
        assert_eq!(frames.at_boundary(), at_end, "whether a frame has ended");
    }
}

/// Where frames end, the beginning being such a place, and the last perhaps beyond `bytes` (RFC 6455, 5.2).
fn frame_ends(bytes: &[u8]) -> Vec<u64> {
    let mut ends = vec![0];
    let mut at = 0usize;
    while let Some(second) = bytes.get(at + 1) {
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (extended, mut payload) = match second & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            length => (0, u64::from(length)),
        };
        let Some(length) = bytes.get(at + 2..at + 2 + extended) else {
            break;
        };
        for byte in length {
            payload = payload << 8 | u64::from(*byte);
        }
        let end = (at + 2 + extended + mask) as u64;
        let end = end.saturating_add(payload);
        ends.push(end);
        match usize::try_from(end) {
            Ok(end) if end <= bytes.len() => at = end,
            _ => break,
        }
    }
    ends
}

/// A head's headers, of a request or an answer: what belongs to a hop, or to faucet, does not pass.
pub fn headers(data: &[u8]) {
    let mut headers = headers_of(data);
    let host = headers.get(HOST).cloned();
    let _ = connection_lists(&headers, "upgrade");
    let mut ours = headers.clone();
    strip_ours(&mut ours);
    assert!(ours
        .keys()
        .all(|name| !name.as_str().starts_with("faucet-")));
    strip_request(&mut headers, false);
    for name in headers.keys() {
        assert!(!name.as_str().starts_with("faucet-"), "{name}");
        assert!(
            ![
                "connection",
                "content-length",
                "expect",
                "keep-alive",
                "proxy-connection",
                "te",
                "trailer",
                "transfer-encoding",
                "upgrade",
            ]
            .contains(&name.as_str()),
            "{name}"
        );
    }
    assert_eq!(headers.get(HOST), host.as_ref(), "nobody takes it away");
}

/// An entry of `trusted_proxies` in the first line, then a head from 10.1.2.3: who it is from.
pub fn proxies(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let entry = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let mut headers = headers_of(parts.next().unwrap_or_default());
    let entries: Vec<&str> = entry.split(',').collect();
    let Ok(trusted) = TrustedProxies::parse(&entries) else {
        return;
    };
    let peer = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)).into();
    let text = HeaderValue::from_static("10.1.2.3");
    let claimed = headers.get_all(X_FORWARDED_FOR).iter().count();
    let client = forward(&mut headers, &trusted, false, peer, &text, &text);
    let chain: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    assert_eq!(chain.len(), 1, "one header says it all");
    assert!(chain[0].as_bytes().ends_with(text.as_bytes()));
    if !trusted.contains(peer) {
        assert_eq!((client, chain[0]), (peer, &text), "a stranger is believed");
    }
    assert!(client == peer || claimed > 0, "nobody said so");
}
