//! Secrets that are shown in requests: `Authorization: Bearer TOKEN` (RFC 6750, 2.1).

use hmac::{Hmac, Mac};
use hyper::header::AUTHORIZATION;
use hyper::HeaderMap;
use sha2::Sha256;

const SCHEME: &[u8] = b"Bearer ";

/// A secret that two sides share. It shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether a request shows it. Takes as long whatever is wrong with what it shows.
    pub fn is_shown_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| {
            let value = value.as_bytes();
            let (scheme, rest) = value.split_at(SCHEME.len().min(value.len()));
            if scheme.eq_ignore_ascii_case(SCHEME) {
                rest
            } else {
                b""
            }
        });
        // Any key will do: equal texts have equal signatures, and these are compared in constant time.
        let signed = |text: &[u8]| {
            let keyed = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).ok()?;
            Some(keyed.chain_update(text))
        };
        let (Some(ours), Some(theirs)) = (signed(self.0.as_bytes()), signed(given)) else {
            return false;
        };
        theirs.verify(&ours.finalize().into_bytes()).is_ok()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}
