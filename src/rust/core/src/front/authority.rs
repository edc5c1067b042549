//! Who a request is for: `Host`, `:authority`, and the authority of a target.

use std::net::Ipv6Addr;

/// Whether this is a host, perhaps with a port, as RFC 3986 (3.2) has them. Userinfo is none of a server's business
/// (RFC 9110, 4.2.4).
pub fn is_valid(authority: &[u8]) -> bool {
    // Nearly all are a plain name or IPv4 address, and a port: one look at each byte is enough.
    let plain = authority.iter().position(|byte| !is_plain(*byte));
    match plain {
        None => return !authority.is_empty(),
        Some(end) if end > 0 && authority[end] == b':' => {
            let port = &authority[end + 1..];
            if (1..=4).contains(&port.len()) && port.iter().all(u8::is_ascii_digit) {
                return true;
            }
        }
        Some(_) => {}
    }
    let Ok(text) = std::str::from_utf8(authority) else {
        return false;
    };
    match text.strip_prefix('[') {
        Some(literal) => literal.split_once(']').is_some_and(|(address, port)| {
            address.parse::<Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        }),
        None => {
            let (name, port) = text.split_once(':').unwrap_or((text, ""));
            !name.is_empty() && is_name(name.as_bytes()) && is_port(port)
        }
    }
}

/// Absent is fine, too.
fn is_port(port: &str) -> bool {
    port.is_empty()
        || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')
}

fn is_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [first, others @ ..] = rest {
        rest = match (first, others) {
            (b'%', [high, low, others @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                others
            }
            (byte, others) if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => {
                others
            }
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_what_is_none() {
        for good in [
            "a",
            "A.example",
            "a_b",
            "a:80",
            "a:",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:80",
            "[::ffff:1.2.3.4]",
            "xn--caf-dma.example",
            "a%41",
        ] {
            assert!(is_valid(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "a/b",
            "u@a",
            "u:p@a",
            "a:b",
            "a:65536",
            "a:80:80",
            "a:+80",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]80",
            "[]",
            "[a]",
            "[::1%25eth0]",
            "a\\b",
            "a?b",
            "a#b",
            "a%4",
            "a%zz",
            "\u{e9}",
            "a\tb",
            "a\0",
        ] {
            assert!(!is_valid(bad.as_bytes()), "{bad:?}");
        }
        assert!(!is_valid(b"a\xff"));
    }
}
