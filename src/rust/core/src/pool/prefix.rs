//! A route: the host and the path prefix whose requests are a pool's.

use std::fmt;
use std::sync::Arc;

use hyper::header::HeaderValue;

/// Why a text is no route, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRoute(String);

/// `"/"`, `"/sales"`, `"sales.example.com/"`, `"sales.example.com/api"`: an optional host, in lower case and without a port,
/// and the segments of a path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Route {
    name: Arc<str>,
    host: Option<Box<str>>,
    segments: Box<[Box<str>]>,
}

impl Route {
    /// # Errors
    /// What is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, InvalidRoute> {
        let invalid = |why: &str| Err(InvalidRoute(why.to_owned()));
        let Some(slash) = text.find('/') else {
            return invalid("it has no `/`: a route is a path such as `/sales`, or a host and a path such as `sales.example.com/`");
        };
        let (host, path) = text.split_at(slash);
        if host.contains(':') {
            return invalid("a route's host has neither a scheme nor a port");
        }
        let host = (!host.is_empty()).then(|| host.to_ascii_lowercase());
        if host.as_deref().is_some_and(|host| !is_host(host)) {
            return invalid("what comes before the first `/` is not a host");
        }
        if path.contains(['?', '#']) {
            return invalid("a route has no query");
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments: Vec<Box<str>> = Vec::new();
        for segment in path.split('/').skip(1) {
            if segment.is_empty() {
                return invalid("it has an empty segment (`//`)");
            }
            if matches!(segment, "." | "..") {
                return invalid("it has a segment `.` or `..`");
            }
            if segment.contains(|char: char| char.is_control() || char == '%') {
                return invalid("it is written as it is meant, without `%` and control characters");
            }
            segments.push(Box::from(segment));
        }
        if segments
            .first()
            .is_some_and(|first| &**first == "__faucet__")
        {
            return invalid("`/__faucet__` is faucet's own");
        }
        let mut name = host.clone().unwrap_or_default();
        for segment in &segments {
            name.push('/');
            name.push_str(segment);
        }
        if segments.is_empty() {
            name.push('/');
        }
        Ok(Self {
            name: name.into(),
            host: host.map(String::into_boxed_str),
            segments: segments.into(),
        })
    }

    /// The route of all requests that have no other.
    pub fn root() -> Self {
        Self {
            name: "/".into(),
            host: None,
            segments: Box::default(),
        }
    }

    /// In its one form: no trailing `/` but the root's.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    pub(super) fn segments(&self) -> &[Box<str>] {
        &self.segments
    }

    /// The path, percent-encoded: `/sales`. None for the root.
    pub(super) fn prefix_header(&self) -> Option<HeaderValue> {
        if self.segments.is_empty() {
            return None;
        }
        let mut prefix = String::new();
        for byte in self
            .segments
            .iter()
            .flat_map(|segment| std::iter::once(b'/').chain(segment.bytes()))
        {
            if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
                prefix.push(byte.into());
            } else {
                prefix.push_str(&format!("%{byte:02X}"));
            }
        }
        HeaderValue::try_from(prefix).ok()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)
    }
}

fn is_host(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> String {
        Route::parse(text).expect(text).name().to_string()
    }

    #[test]
    fn routes_have_one_form() {
        assert_eq!(name("/"), "/");
        assert_eq!(name("/sales/"), "/sales");
        assert_eq!(name("/a/b"), "/a/b");
        assert_eq!(name("Sales.Example.com/"), "sales.example.com/");
        assert_eq!(name("sales.example.com/x/"), "sales.example.com/x");
        assert_eq!(Route::parse("/").expect("the root"), Route::root());
    }

    #[test]
    fn what_is_no_route_says_why() {
        for bad in [
            "",
            "sales",
            "//",
            "/a//b",
            "/a/../b",
            "/./a",
            "/a?b",
            "/a%20b",
            "http://a/b",
            "a:80/b",
            "a..b/",
            "/__faucet__/x",
            "/a\nb",
            "a b/",
        ] {
            assert!(Route::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_prefix_is_encoded() {
        let header = |text| Route::parse(text).expect(text).prefix_header();
        assert_eq!(header("/"), None);
        assert_eq!(header("a.example/"), None);
        assert_eq!(header("/caf\u{e9} 1/b").expect("one"), "/caf%C3%A9%201/b");
    }
}
