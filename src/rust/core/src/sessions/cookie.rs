//! The cookie that names a session. It is faucet's own: no app sees it, and those of apps stay as they are.

use hyper::header::{self, HeaderValue};
use hyper::HeaderMap;

/// What its name begins with. Cookies are the same for all ports of a host, so a port follows, if the client named one.
const NAME: &str = "faucet_session";

/// The longest port.
const PORT: usize = 5;

/// So many are looked at in one request; a browser sends one for each path above.
const MOST: usize = 8;

/// The name of the cookie for clients that know this server by `authority`.
pub fn cookie_name(authority: Option<&str>) -> String {
    let port = authority.and_then(|authority| authority.rsplit_once(':'));
    match port.map(|(_, port)| port).filter(|port| is_port(port)) {
        Some(port) => format!("{NAME}_{port}"),
        None => NAME.to_owned(),
    }
}

fn is_port(text: &str) -> bool {
    (1..=PORT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_ours(name: &[u8]) -> bool {
    let rest = std::str::from_utf8(name)
        .ok()
        .and_then(|name| name.strip_prefix(NAME));
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('_').is_some_and(is_port))
}

/// Name and value of one pair of a `Cookie` header.
fn pair(pair: &[u8]) -> (&[u8], &[u8]) {
    let pair = trimmed(pair);
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (trimmed(&pair[..at]), trimmed(&pair[at + 1..])),
        None => (&[], pair),
    }
}

fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The values of these cookies.
pub fn cookie_values(headers: &HeaderMap) -> Vec<String> {
    let pairs = headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .map(pair);
    pairs
        .filter(|(name, _)| is_ours(name))
        .filter_map(|(_, value)| std::str::from_utf8(value).ok())
        .map(str::to_owned)
        .take(MOST)
        .collect()
}

/// The same, and takes them away. What else there is stays, byte for byte.
pub fn take_cookies(headers: &mut HeaderMap) -> Vec<String> {
    let values = cookie_values(headers);
    let ours = |value: &HeaderValue| {
        let mut pairs = value.as_bytes().split(|byte| *byte == b';');
        pairs.any(|text| is_ours(pair(text).0))
    };
    if !headers.get_all(header::COOKIE).iter().any(ours) {
        return values;
    }
    // HTTP/2 may split cookies into several headers.
    let all: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for value in all {
        if !ours(&value) {
            headers.append(header::COOKIE, value);
            continue;
        }
        let others: Vec<&[u8]> = value
            .as_bytes()
            .split(|byte| *byte == b';')
            .filter(|text| !is_ours(pair(text).0))
            .collect();
        let others = others.join(&b';');
        let others = trimmed(&others);
        if let (false, Ok(others)) = (others.is_empty(), HeaderValue::from_bytes(others)) {
            headers.append(header::COOKIE, others);
        }
    }
    values
}

/// What tells a client of its session. `path` is where the app is, as the client sees it; `secure`: it came over TLS.
pub fn new_cookie(name: &str, token: &str, path: &str, secure: bool) -> Option<HeaderValue> {
    // Where it would end the attribute, the cookie goes to the whole host.
    let sound = |byte: u8| byte.is_ascii_graphic() && byte != b';' && byte != b',';
    let path = if path.starts_with('/') && path.bytes().all(sound) {
        path
    } else {
        "/"
    };
    let secure = if secure { "; Secure" } else { "" };
    HeaderValue::try_from(format!(
        "{name}={token}; Path={path}; HttpOnly; SameSite=Lax{secure}"
    ))
    .ok()
}
