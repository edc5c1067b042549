//! Tokens that lead to something which waits here: whoever has one may have it, once. None is logged in full.

use std::fmt;
use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::{Request, Uri};

use super::headers;
use super::record::{Call, Record};
use super::request_body::RequestBody;
use super::service::Peer;
use crate::ops::Ops;

/// 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token([u8; 16]);

impl Token {
    /// `None` if there are no random numbers, which the log tells.
    pub fn new() -> Option<Self> {
        let mut bytes = [0; 16];
        match getrandom::fill(&mut bytes) {
            Ok(()) => Some(Self(bytes)),
            Err(error) => {
                tracing::error!("there are no random numbers: {error}");
                None
            }
        }
    }

    /// As it is [written](fmt::Display). `None`: it is none.
    pub fn parse(digits: &str) -> Option<Self> {
        let digits = digits.as_bytes();
        let mut bytes = [0; 16];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

/// How many digits of a token are logged.
const SHOWN: usize = 8;

/// What is logged of a request for what is `before` a token in its path: whoever reads it must not be able to come first.
fn shown(uri: &Uri, before: &str) -> Uri {
    let path = uri.path();
    let end = path.len().min(before.len() + SHOWN);
    // It is ASCII, as hyper has read it, but for what nobody can ask for.
    let part = path.get(..end).unwrap_or("/");
    let more = if end < path.len() { "..." } else { "" };
    Uri::try_from(format!("{part}{more}")).unwrap_or_default()
}

/// Begins the record of a request for what is `before` a token in its path, in the name of whose answer waits: with its id.
pub fn recorded(
    peer: &Peer,
    request: &mut Request<RequestBody>,
    call: &Arc<Call>,
    (ops, id): (Arc<Ops>, HeaderValue),
    before: &str,
) -> Box<Record> {
    let front = &peer.front;
    let (connection, call) = (peer.connection.clone(), call.clone());
    let mut record = Box::new(Record::new(ops, connection, call, peer.address, id));
    if front.ops.access.is_on() {
        record.line = Some((request.method().clone(), shown(request.uri(), before)));
    }
    record.client = headers::forward(
        request.headers_mut(),
        &front.trusted,
        false,
        peer.address,
        &peer.address_text,
        &peer.scheme,
    );
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
        let token = Token::new().unwrap_or(Token([7; 16]));
        let text = token.to_string();
        assert_eq!(text.len(), 32);
        assert!(Token::parse(&text) == Some(token));
        for text in [
            "",
            "/",
            "*",
            &text[1..],
            &format!("{text}0"),
            &format!("/{text}"),
            &format!("{text}/"),
            "ABCDEF0123456789abcdef0123456789",
            "g0000000000000000000000000000000",
            "éééééééééééééééé",
            "__faucet__/healthz",
        ] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
        assert!(!format!("{token:?}").contains(&text[..4]));
    }

    #[test]
    fn none_is_logged_in_full() {
        for (before, uri, logged) in [
            ("/", "/", "/"),
            ("/", "/0123456", "/0123456"),
            ("/", "/0123456789abcdef0123456789abcdef", "/01234567..."),
            (
                "/",
                "http://worker:8081/0123456789abcdef?a=b",
                "/01234567...",
            ),
            ("/", "*", "*"),
            ("/a/b/", "/a/b/0123456789abcdef", "/a/b/01234567..."),
        ] {
            assert_eq!(shown(&Uri::from_static(uri), before).to_string(), logged);
        }
    }
}
