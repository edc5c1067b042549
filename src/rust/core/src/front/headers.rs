//! Header hygiene: what must not travel on, and what is added on the way.

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::HeaderMap;

use super::networks::{Networks, NotAnAddress};
use crate::client_address::ClientAddress;

pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The longest `X-Request-Id` that is honoured, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// What describes a request's body on its way here: the worker gets it whole, with its own framing
/// and without trailers.
const REQUEST_FRAMING: [HeaderName; 3] = [header::CONTENT_LENGTH, header::EXPECT, header::TRAILER];

/// What front and native worker, or front and faucet elsewhere, say to each other: nobody else says it to one of them,
/// nor hears it.
const OURS: &str = "faucet-";

fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with(OURS)
}

/// Removes `faucet-*`.
pub fn strip_ours(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_ours(name))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Removes what concerns one hop only (RFC 9110, 7.6.1), and what is faucet's own.
pub fn strip_response(headers: &mut HeaderMap) {
    strip(headers, |name| is_hop_by_hop(name) || is_ours(name));
}

/// The same of a request, and what describes its body, and names with `_`. `underscores` keeps those that are none of
/// faucet's business.
///
/// In CGI's variables, which R gets, `X_Forwarded_For` and `X-Forwarded-For` are one name.
pub fn strip_request(headers: &mut HeaderMap, underscores: bool) {
    strip(headers, |name| {
        is_hop_by_hop(name)
            || is_ours(name)
            || REQUEST_FRAMING.contains(name)
            || (name.as_str().as_bytes().contains(&b'_') && !(underscores && is_harmless(name)))
    });
}

/// Whether faucet gives no meaning to this name, read as CGI reads it.
fn is_harmless(name: &HeaderName) -> bool {
    let dashed = name.as_str().replace('_', "-");
    HeaderName::try_from(dashed).is_ok_and(|name| {
        let acted_on = is_hop_by_hop(&name)
            || is_ours(&name)
            || is_claim(&name)
            || REQUEST_FRAMING.contains(&name)
            || [header::HOST, X_REQUEST_ID].contains(&name);
        !acted_on
    })
}

fn strip(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    // Most heads have none or one of these: one look at each name is cheaper than a search for each.
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name))
        .cloned()
        .collect();
    for name in found {
        if name == header::CONNECTION {
            strip_named(headers);
        }
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION | header::TE | header::TRANSFER_ENCODING | header::UPGRADE
    ) || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
        || *name == header::PROXY_AUTHORIZATION
}

/// Removes what `Connection` names.
fn strip_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A client must not be able to make these disappear.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Whether `Connection` lists `token`.
pub fn connection_lists(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

/// The proxies whose `X-Forwarded-*` headers are believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Networks);

impl TrustedProxies {
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, NotAnAddress> {
        Networks::parse(entries).map(Self)
    }

    pub fn contains(&self, address: ClientAddress) -> bool {
        self.0.contains(address)
    }

    /// The client behind a chain of trusted proxies: the last address that is not one of them.
    fn client(&self, peer: ClientAddress, headers: &HeaderMap) -> ClientAddress {
        let mut client = peer;
        let chain: Vec<&str> = headers
            .get_all(X_FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        for hop in chain.into_iter().rev() {
            match hop.parse::<ClientAddress>() {
                Ok(address) => client = address,
                Err(_) => break,
            }
            if !self.contains(client) {
                break;
            }
        }
        client
    }
}

/// What a proxy says of its client.
fn is_claim(name: &HeaderName) -> bool {
    *name == header::FORWARDED
        || [
            X_FORWARDED_FOR,
            X_FORWARDED_PROTO,
            X_FORWARDED_HOST,
            X_FORWARDED_PORT,
            X_FORWARDED_PREFIX,
            X_REAL_IP,
        ]
        .contains(name)
}

/// Whether a proxy has passed the request on for somebody else.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        is_claim(name) || *name == header::VIA || name.as_str().starts_with("x-forwarded-")
    })
}

/// Adds `X-Forwarded-*`, of a peer that came by `scheme`; returns the client's address. What a peer says that is neither
/// trusted nor `vouched` for is replaced.
pub fn forward(
    headers: &mut HeaderMap,
    trusted: &TrustedProxies,
    vouched: bool,
    peer: ClientAddress,
    peer_text: &HeaderValue,
    scheme: &HeaderValue,
) -> ClientAddress {
    let host = headers.get(header::HOST).cloned();
    if !vouched && !trusted.contains(peer) {
        let claims: Vec<HeaderName> = headers
            .keys()
            .filter(|name| is_claim(name))
            .cloned()
            .collect();
        for claim in claims {
            headers.remove(claim);
        }
        headers.insert(X_FORWARDED_FOR, peer_text.clone());
        headers.insert(X_FORWARDED_PROTO, scheme.clone());
        if let Some(host) = host {
            headers.insert(X_FORWARDED_HOST, host);
        }
        return peer;
    }
    let client = trusted.client(peer, headers);
    let mut chain: Vec<u8> = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer_text.as_bytes());
    if let Ok(chain) = HeaderValue::from_bytes(&chain) {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, scheme.clone());
    }
    if let (Some(host), false) = (host, headers.contains_key(X_FORWARDED_HOST)) {
        headers.insert(X_FORWARDED_HOST, host);
    }
    client
}

/// Adds what was taken off a request's path to what proxies before have taken off, as far as they are believed.
pub fn add_prefix(headers: &mut HeaderMap, prefix: &HeaderValue) {
    let before = headers.get(X_FORWARDED_PREFIX).map(HeaderValue::as_bytes);
    let before = before.unwrap_or_default();
    let before = before.strip_suffix(b"/").unwrap_or(before);
    let whole = [before, prefix.as_bytes()].concat();
    let whole = HeaderValue::from_bytes(&whole).unwrap_or_else(|_| prefix.clone());
    headers.insert(X_FORWARDED_PREFIX, whole);
}

/// Whether a client names HTML among what it takes, as browsers do that open a page.
pub fn accepts_page(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case("text/html"))
}

/// The client's own `X-Request-Id`, if it is one that can be logged and passed on safely.
pub fn given_request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(X_REQUEST_ID).iter();
    let value = values.next()?;
    let bytes = value.as_bytes();
    let sound = !bytes.is_empty()
        && bytes.len() <= MAX_REQUEST_ID
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(byte))
        && values.next().is_none();
    sound.then(|| value.clone())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_connection_names_is_removed_but_not_the_framing() {
        let mut headers = map(&[
            ("connection", "close, X-Secret, Host"),
            ("x-secret", "1"),
            ("host", "a"),
            ("te", "trailers"),
            ("keep-alive", "5"),
            ("faucet-request", "1"),
            ("accept", "*/*"),
        ]);
        strip_response(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "host"]);
    }

    #[test]
    fn an_untrusted_peer_cannot_say_who_it_is() {
        let mut headers = map(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("host", "api"),
            ("x-real-ip", "6.6.6.6"),
        ]);
        let peer = IpAddr::from([10, 0, 0, 9]).into();
        let client = forward(
            &mut headers,
            &TrustedProxies::default(),
            false,
            peer,
            &HeaderValue::from_static("10.0.0.9"),
            &HeaderValue::from_static("https"),
        );
        assert_eq!(client, peer);
        assert_eq!(headers[X_FORWARDED_FOR], "10.0.0.9");
        assert_eq!(headers[X_FORWARDED_HOST], "api");
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert!(!headers.contains_key(X_REAL_IP));
    }

    #[test]
    fn a_trusted_chain_leads_to_the_first_untrusted_address() {
        let trusted = TrustedProxies::parse(&["10.0.0.0/8", "127.0.0.1"]).expect("valid");
        let mut headers = map(&[
            ("x-forwarded-for", "1.1.1.1, 9.9.9.9, 10.1.1.1"),
            ("x-forwarded-proto", "https"),
        ]);
        let client = forward(
            &mut headers,
            &trusted,
            false,
            IpAddr::from([127, 0, 0, 1]).into(),
            &HeaderValue::from_static("127.0.0.1"),
            &HeaderValue::from_static("http"),
        );
        assert_eq!(client, IpAddr::from([9, 9, 9, 9]).into());
        assert_eq!(
            headers[X_FORWARDED_FOR],
            "1.1.1.1, 9.9.9.9, 10.1.1.1, 127.0.0.1"
        );
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
    }

    #[test]
    fn request_ids_that_could_harm_a_log_are_not_honoured() {
        assert!(given_request_id(&map(&[("x-request-id", "abc-123")])).is_some());
        assert!(given_request_id(&map(&[("x-request-id", "a b")])).is_none());
        assert!(given_request_id(&map(&[("x-request-id", "")])).is_none());
        assert!(given_request_id(&map(&[("x-request-id", "a"), ("x-request-id", "b")])).is_none());
    }
}
