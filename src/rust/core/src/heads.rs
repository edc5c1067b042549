//! How many headers a head may have, wherever it travels.

use hyper::header::{self, HeaderName};
use hyper::HeaderMap;

/// A client's own headers in a request, or an app's own in a response.
pub const MAX_HEADERS: usize = 200;

/// What hyper has room for without asking the allocator for each head.
pub const INLINE_HEADERS: usize = 100;

/// What every parser of ours has room for: the above, and what is added on the way.
pub const ROOM_FOR_HEADERS: usize = MAX_HEADERS + 56;

/// What faucet or hyper writes into a head by itself, so that it does not count, wherever it is counted.
const ADDED: [HeaderName; 10] = [
    header::HOST,
    header::CONNECTION,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::DATE,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-request-id"),
];

/// Whether a head has more headers of its sender's own than may pass. Lines count, not names.
pub fn has_too_many(headers: &HeaderMap) -> bool {
    headers.len() > MAX_HEADERS && {
        let added = headers.keys();
        let added =
            added.filter(|name| ADDED.contains(name) || name.as_str().starts_with("faucet-"));
        headers.len() - added.count() > MAX_HEADERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn what_is_added_on_the_way_does_not_count() {
        let mut headers = HeaderMap::new();
        for _ in 0..MAX_HEADERS {
            headers.append(header::COOKIE, HeaderValue::from_static("a=b"));
        }
        assert!(!has_too_many(&headers));
        for name in ADDED {
            headers.append(name, HeaderValue::from_static("1"));
        }
        headers.append("faucet-wait", HeaderValue::from_static("0"));
        assert!(!has_too_many(&headers));
        assert!(headers.len() < ROOM_FOR_HEADERS);
        // Once is enough for each of them.
        headers.append(header::HOST, HeaderValue::from_static("b"));
        assert!(has_too_many(&headers));
    }
}
