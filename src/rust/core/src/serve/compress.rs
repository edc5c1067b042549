//! Compression of whole answers, as httpuv does it for the apps that it serves.

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::Compression;
use hyper::header::{self, HeaderMap, HeaderValue};

/// Smaller bodies fit a packet anyway, in bytes.
const WORTH_IT: usize = 1024;

/// Whether a client takes gzip (RFC 9110, 12.5.3): it is named there, or `*` is, and not with weight 0.
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let mut any = false;
    let codings = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    for coding in codings {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts
            .filter_map(|part| part.strip_prefix("q="))
            .any(|weight| weight.parse().is_ok_and(|weight: f32| weight <= 0.0));
        if name.eq_ignore_ascii_case("gzip") {
            return !refused;
        }
        any = any || (name == "*" && !refused);
    }
    any
}

/// Compresses a body for a client that has `accepted` that, if it is of a kind that becomes smaller, and nothing in its
/// headers speaks against it.
pub(super) fn compress(headers: &mut HeaderMap, body: Bytes, accepted: bool) -> Bytes {
    if body.len() < WORTH_IT || !is_text(headers) || is_settled(headers) {
        return body;
    }
    // For caches, which must not give one client what another one takes.
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if !accepted {
        return body;
    }
    // The fastest level: it gains most of what there is to gain.
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 3), Compression::fast());
    let compressed = match encoder.write_all(&body).and_then(|()| encoder.finish()) {
        Ok(compressed) if compressed.len() < body.len() => compressed,
        _ => return body,
    };
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    // A strong one promises the same bytes (RFC 9110, 8.8.1).
    if let Some(etag) = headers.get_mut(header::ETAG) {
        if etag.as_bytes().starts_with(b"\"") {
            let weak = [b"W/", etag.as_bytes()].concat();
            *etag = HeaderValue::from_bytes(&weak).unwrap_or_else(|_| etag.clone());
        }
    }
    compressed.into()
}

fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || [
            "application/json",
            "application/javascript",
            "application/xml",
            "application/x-ndjson",
            "application/yaml",
        ]
        .contains(&kind.as_str())
}

/// Whether the app has decided about the form of the body itself.
fn is_settled(headers: &HeaderMap) -> bool {
    let fixed = headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .any(|value| String::from_utf8_lossy(value.as_bytes()).contains("no-transform"));
    fixed
        || headers.contains_key(header::CONTENT_ENCODING)
        || headers.contains_key(header::CONTENT_RANGE)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn clients_say_what_they_take() {
        let cases = [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.8", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("", false),
        ];
        for (value, accepted) in cases {
            let headers = headers(&[("accept-encoding", value)]);
            assert_eq!(is_accepted(&headers), accepted, "{value}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }

    #[test]
    fn text_becomes_smaller_and_can_be_had_back() {
        let body = Bytes::from("abc ".repeat(1000));
        let mut headers = headers(&[("content-type", "application/json"), ("etag", "\"1\"")]);
        let compressed = compress(&mut headers, body.clone(), true);
        assert!(compressed.len() < body.len() / 10);
        assert_eq!(headers["content-encoding"], "gzip");
        assert_eq!(headers["vary"], "Accept-Encoding");
        assert_eq!(headers["etag"], "W/\"1\"");
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&compressed[..])
            .read_to_end(&mut back)
            .expect("gzip");
        assert_eq!(back, body);
    }

    #[test]
    fn caches_are_told_that_others_may_get_it_compressed() {
        let body = Bytes::from("abc ".repeat(1000));
        let mut headers = headers(&[("content-type", "text/css")]);
        assert_eq!(compress(&mut headers, body.clone(), false), body);
        assert_eq!(headers["vary"], "Accept-Encoding");
        assert!(!headers.contains_key("content-encoding"));
    }

    #[test]
    fn what_gains_nothing_or_is_settled_stays() {
        let long = Bytes::from("abc ".repeat(1000));
        let cases = [
            (headers(&[("content-type", "text/plain")]), "short".into()),
            (headers(&[("content-type", "image/png")]), long.clone()),
            (headers(&[]), long.clone()),
            (
                headers(&[("content-type", "text/plain"), ("content-encoding", "br")]),
                long.clone(),
            ),
            (
                headers(&[
                    ("content-type", "text/plain"),
                    ("cache-control", "private, no-transform"),
                ]),
                long,
            ),
        ];
        for (mut headers, body) in cases {
            let before = headers.clone();
            assert_eq!(compress(&mut headers, body.clone(), true), body);
            assert_eq!(headers, before);
        }
    }
}
