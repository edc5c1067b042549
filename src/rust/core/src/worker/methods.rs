//! The methods that workers take which speak HTTP by themselves.

use hyper::Method;

/// Those of httpuv's parser, beside the usual ones. It hangs up on all others.
const OTHERS: [&str; 25] = [
    "COPY",
    "LOCK",
    "MKCOL",
    "MOVE",
    "PROPFIND",
    "PROPPATCH",
    "SEARCH",
    "UNLOCK",
    "BIND",
    "REBIND",
    "UNBIND",
    "ACL",
    "REPORT",
    "MKACTIVITY",
    "CHECKOUT",
    "MERGE",
    "M-SEARCH",
    "NOTIFY",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "PURGE",
    "MKCALENDAR",
    "LINK",
    "UNLINK",
    "CONNECT",
];

/// Whether a worker may be sent this method that has no faucet in it.
pub fn is_known_to_http_workers(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::HEAD
            | Method::OPTIONS
            | Method::PATCH
            | Method::TRACE
    ) || OTHERS.contains(&method.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive() {
        for (name, known) in [
            ("GET", true),
            ("M-SEARCH", true),
            ("get", false),
            ("FOO", false),
        ] {
            let method = Method::from_bytes(name.as_bytes()).expect("a token");
            assert_eq!(is_known_to_http_workers(&method), known, "{name}");
        }
    }
}
