//! Where it is told that a call has ended.

use std::fmt;

use crate::client::ServerAddress;

/// So many bytes at most.
const LONGEST: usize = 4096;

/// A URL with `http://` or `https://` that leads where its text says: it has no user name, no fragment and no segments like `..`,
/// by which a server could come from one path to another.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl {
    text: String,
    pub(super) server: ServerAddress,
    /// Path and query; begins with `/`.
    pub(super) target: String,
}

impl CallbackUrl {
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scheme = ["http://", "https://"]
            .into_iter()
            .find(|scheme| text.starts_with(scheme))
            .ok_or("It must begin with http:// or https://.")?;
        if text.len() > LONGEST {
            return Err(format!("It must have at most {LONGEST} bytes."));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("It must be of visible ASCII characters.".into());
        }
        if text.contains(['#', '\\']) {
            return Err("It must have neither `#` nor a backslash.".into());
        }
        let rest = &text[scheme.len()..];
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let server = ServerAddress::parse(&format!("{scheme}{authority}"))?;
        let path = target.split('?').next().unwrap_or_default();
        if path.split('/').any(leads_elsewhere) {
            return Err("Its path must have no segments like `.` and `..`.".into());
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            text: text.to_owned(),
            server,
            target: format!("{slash}{target}"),
        })
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Whether it is at the server of `prefix`, and at its path or below that.
    pub fn is_below(&self, prefix: &Self) -> bool {
        let parent = prefix.path().trim_end_matches('/');
        let rest = self.path().strip_prefix(parent);
        self.server == prefix.server
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether its server speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.server.tls
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether a server could take a segment for another folder.
fn leads_elsewhere(segment: &str) -> bool {
    let decoded = percent_encoding::percent_decode_str(segment).collect::<Vec<u8>>();
    let mut parts = decoded.split(|byte| b"/\\".contains(byte));
    parts.any(|part| part == b"." || part == b"..")
}

/// Without its query: that is between the caller and the server.
impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.split('?').next().unwrap_or_default())
    }
}

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> CallbackUrl {
        CallbackUrl::parse(text).expect(text)
    }

    #[test]
    fn where_it_leads() {
        for (text, server, target) in [
            ("http://a.example", "http://a.example:80", "/"),
            ("https://a.example/", "https://a.example:443", "/"),
            (
                "http://127.0.0.1:8080/x/y?k=v/../w",
                "http://127.0.0.1:8080",
                "/x/y?k=v/../w",
            ),
            ("http://a.example?x=1", "http://a.example:80", "/?x=1"),
            ("http://[::1]:7/a...b", "http://[::1]:7", "/a...b"),
        ] {
            let url = url(text);
            assert_eq!(
                (url.server.to_string().as_str(), url.target.as_str()),
                (server, target)
            );
            assert_eq!(url.as_str(), text);
        }
        assert_eq!(url("http://a/x?secret").to_string(), "http://a/x");
    }

    #[test]
    fn what_leads_elsewhere_is_none() {
        for text in [
            "",
            "a.example",
            "//a.example",
            "ftp://a.example",
            "unix:/run/a.sock",
            "http://",
            "http://user@a.example/",
            "http://a.example\\@b.example/",
            "http://a.example/x#y",
            "http://a.example/x y",
            "http://a.example/\u{e9}",
            "http://a.example:0/",
            "http://a.example/x/../y",
            "http://a.example/x/%2E%2e/y",
            "http://a.example/x/..%2fy",
            "http://a.example/x/a%5c..%5cy",
            "http://a.example/./x",
            &format!("http://a.example/{}", "x".repeat(LONGEST)),
        ] {
            CallbackUrl::parse(text).expect_err(text);
        }
    }

    #[test]
    fn what_is_below_a_prefix() {
        for (prefix, text, expected) in [
            ("http://a.example", "http://a.example/x?y", true),
            ("http://a.example", "http://a.example:80", true),
            ("http://a.example/", "http://A.example/x", true),
            ("http://a.example/x", "http://a.example/x", true),
            ("http://a.example/x/", "http://a.example/x", true),
            ("http://a.example/x", "http://a.example/x/y", true),
            ("http://a.example/x", "http://a.example/xy", false),
            ("http://a.example/x", "http://a.example/", false),
            ("http://a.example", "http://a.example.evil.example/", false),
            ("http://a.example", "http://a.example:81/", false),
            ("http://a.example", "https://a.example/", false),
            ("http://a.example", "http://b.example/", false),
        ] {
            assert_eq!(
                url(text).is_below(&url(prefix)),
                expected,
                "{text} {prefix}"
            );
        }
    }
}
