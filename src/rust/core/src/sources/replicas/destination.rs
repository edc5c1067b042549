//! What a service that runs somewhere wants requests to say, which were sent to somebody else.

use hyper::header::HeaderValue;

/// The service behind a URL that has been given for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Begins with a slash and does not end with one, unless it is empty: goes before the path of a request.
    pub base: String,
    /// The name that it is known by, with the port if that is not the usual one.
    pub host: HeaderValue,
    /// If it speaks gRPC: which of its services are called by their own names, `package.Service`.
    pub grpc: Option<Vec<String>>,
}

impl Destination {
    /// Where a request is to go that was for `rest` here; none if that would lead out of the service.
    ///
    /// What is left of `/functions/echo?x=1` has no slash, and then the service's own path has none behind it either.
    pub fn target(&self, rest: &str) -> Option<String> {
        let path = rest.split(['?', '#']).next().unwrap_or(rest);
        // Servers read a backslash as a slash at times, and what is encoded as what it means.
        let decoded = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
        let mut segments = decoded.split(|byte| matches!(byte, b'/' | b'\\'));
        if segments.any(|segment| matches!(segment, b"." | b"..")) {
            return None;
        }
        let slash = self.base.is_empty() && !rest.starts_with('/');
        Some(format!(
            "{}{}{rest}",
            self.base,
            if slash { "/" } else { "" }
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_the_services_own() {
        let destination = |base: &str| Destination {
            base: base.to_owned(),
            host: HeaderValue::from_static("a"),
            grpc: None,
        };
        let echo = destination("/function/echo");
        for (rest, expected) in [
            ("", "/function/echo"),
            ("?x=1/../2", "/function/echo?x=1/../2"),
            ("/", "/function/echo/"),
            ("/a/b?x", "/function/echo/a/b?x"),
            ("/..a/b..", "/function/echo/..a/b.."),
        ] {
            assert_eq!(echo.target(rest).as_deref(), Some(expected), "{rest}");
        }
        for out in [
            "/..",
            "/../other",
            "/a/%2e%2E/b",
            "/.%2e",
            "/%2e%2e%2fb",
            "/..\\b",
            "/./a",
        ] {
            assert_eq!(echo.target(out), None, "{out}");
        }
        let root = destination("");
        assert_eq!(root.target("").as_deref(), Some("/"));
        assert_eq!(root.target("?a").as_deref(), Some("/?a"));
        assert_eq!(root.target("/a").as_deref(), Some("/a"));
    }
}
