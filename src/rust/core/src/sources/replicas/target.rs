//! What replicas are found by: the URL that an operator gives.

use std::fmt;
use std::net::IpAddr;

use hyper::header::HeaderValue;
use hyper::Uri;

use super::Destination;

/// What is to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Nothing: it is an address.
    Address(IpAddr),
    /// This machine, by whichever address it answers at.
    Loopback,
    /// Addresses (A, or AAAA), all with the URL's port.
    Name(String),
    /// Services (SRV), each with a host and a port of its own.
    Service(String),
}

impl Host {
    /// Reads a name or an address (of IPv6, in brackets), and the port after it, which may be missing.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn of_authority(authority: &str) -> Result<(Self, Option<u16>), String> {
        let (host, port) = split_port(authority)?;
        if let Some(bare) = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            let address = bare
                .parse()
                .map_err(|_| format!("[{bare}] is no IPv6 address."))?;
            return Ok((Self::Address(IpAddr::V6(address).to_canonical()), port));
        }
        let name = host.to_ascii_lowercase();
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok((Self::Address(address), port));
        }
        check_name(&name)?;
        let bare = name.strip_suffix('.').unwrap_or(&name);
        if bare == "localhost" || bare.ends_with(".localhost") {
            return Ok((Self::Loopback, port));
        }
        Ok((Self::Name(name), port))
    }

    /// Whether it is this machine for sure, by an address that no other reaches.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Loopback => true,
            Self::Name(_) | Self::Service(_) => false,
        }
    }
}

/// A parsed URL of replicas.
///
/// `http://NAME[:PORT]`, `http://ADDRESS[:PORT]` (an IPv6 address in brackets), or `srv+http://NAME`. The port is 80
/// unless given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: Host,
    port: u16,
    url: String,
    authority: String,
    tls: bool,
    /// If it is a service that knows nothing of us.
    destination: Option<Destination>,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(url: &str) -> Result<Self, String> {
        let service = url.starts_with("srv+http://");
        let rest = url
            .strip_prefix("srv+http://")
            .or_else(|| url.strip_prefix("http://"))
            .ok_or_else(|| match url.split_once("://") {
                Some(("https" | "srv+https", _)) => {
                    "It must begin with http://: replicas are reached without TLS.".to_owned()
                }
                _ => "It must begin with http:// or srv+http://.".to_owned(),
            })?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err("It must have no path: requests keep their own.".into());
        }
        if authority.contains('@') {
            return Err("It must have no user name.".into());
        }
        let target = |host, port| Self {
            host,
            port,
            url: url.strip_suffix('/').unwrap_or(url).to_owned(),
            authority: authority.to_owned(),
            tls: false,
            destination: None,
        };
        if service {
            let (name, port) = split_port(authority)?;
            if port.is_some() {
                return Err("With srv+http:// the ports come from the SRV records.".into());
            }
            let name = name.to_ascii_lowercase();
            check_name(&name)?;
            return Ok(target(Host::Service(name), 0));
        }
        let (host, port) = Host::of_authority(authority)?;
        Ok(target(host, port.unwrap_or(80)))
    }

    /// Reads the URL of any service: `http` or `https`, and maybe a path, below which its requests are. They have its name as
    /// their `Host`, as it may share its address with others.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn of_service(url: &str) -> Result<Self, String> {
        let (tls, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err("It must begin with http:// or https://.".into()),
        };
        let (authority, base) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("It must have no user name.".into());
        }
        if base.contains(['?', '#']) {
            return Err("It must have no query: options are the caller's to give.".into());
        }
        let base = base.trim_end_matches('/');
        let is_path = base.parse::<Uri>().is_ok() && base.is_ascii() && !base.contains("//");
        if !base.is_empty() && !is_path {
            return Err(format!("`{base}` is no path."));
        }
        let (host, port) = Host::of_authority(authority)?;
        let usual = if tls { 443 } else { 80 };
        let name = HeaderValue::from_str(authority).map_err(|_| "It names no host.")?;
        Ok(Self {
            host,
            port: port.unwrap_or(usual),
            url: url.trim_end_matches('/').to_owned(),
            authority: authority.to_owned(),
            tls,
            destination: Some(Destination {
                base: base.to_owned(),
                host: name,
                grpc: None,
            }),
        })
    }

    /// Reads the URL of a server of gRPC: `grpc://HOST:PORT`. `services` are those that are called by their own names.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn of_grpc(url: &str, services: Vec<String>) -> Result<Self, String> {
        let authority = url
            .strip_prefix("grpc://")
            .ok_or("It must begin with grpc://.")?;
        if authority.contains(['/', '?', '#']) {
            return Err("It must have no path: calls have their service's.".into());
        }
        let mut target = Self::of_service(&format!("http://{authority}"))?;
        if split_port(authority)?.1.is_none() {
            return Err("It must have a port: gRPC has no usual one.".into());
        }
        target.url = url.to_owned();
        target.destination = target.destination.map(|destination| Destination {
            grpc: Some(services),
            ..destination
        });
        Ok(target)
    }

    /// Whether it is reached with TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The name that its certificate must have.
    pub fn host_name(&self) -> &str {
        split_port(&self.authority).map_or(&*self.authority, |(host, _)| host)
    }

    /// What requests for it must say, if it knows nothing of us.
    pub fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref()
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Meaningless for [`Host::Service`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What a request of our own has as its `Host`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether there is nothing to look up.
    pub fn is_address(&self) -> bool {
        matches!(self.host, Host::Address(_))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Host and port, of which the latter may be missing.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let colon = authority
        .rfind(':')
        .filter(|at| !authority[*at..].contains(']'));
    let Some(at) = colon else {
        return Ok((authority, None));
    };
    let port = authority[at + 1..]
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| "Its port must be a number from 1 to 65535.".to_owned())?;
    Ok((&authority[..at], Some(port)))
}

/// Whether DNS could know it (RFC 1035, 2.3.1 and 2.3.4; underscores, as in SRV names).
fn check_name(name: &str) -> Result<(), String> {
    let sound = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let bare = name.strip_suffix('.').unwrap_or(name);
    // A number alone is a mistyped address.
    let numeric = bare
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if bare.len() <= 253 && bare.split('.').all(sound) && !numeric {
        Ok(())
    } else if name.is_empty() {
        Err("It names no host.".into())
    } else {
        Err(format!("`{name}` is no host name."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(url: &str) -> (Host, u16) {
        let target = Target::parse(url).expect("a URL");
        (target.host, target.port)
    }

    #[test]
    fn the_forms_of_a_url() {
        assert_eq!(
            host("http://api.default.svc:8000"),
            (Host::Name("api.default.svc".into()), 8000)
        );
        assert_eq!(host("http://API/"), (Host::Name("api".into()), 80));
        assert_eq!(host("http://localhost:8000"), (Host::Loopback, 8000));
        assert_eq!(host("http://a.localhost"), (Host::Loopback, 80));
        assert_eq!(
            host("http://10.0.0.1:1"),
            (Host::Address([10, 0, 0, 1].into()), 1)
        );
        assert_eq!(
            host("http://[::1]:8000"),
            (Host::Address("::1".parse().expect("an address")), 8000)
        );
        assert_eq!(
            host("http://[::ffff:10.0.0.1]"),
            (Host::Address([10, 0, 0, 1].into()), 80)
        );
        assert_eq!(
            host("srv+http://_http._tcp.api.default.svc"),
            (Host::Service("_http._tcp.api.default.svc".into()), 0)
        );
    }

    #[test]
    fn what_is_no_url_of_replicas() {
        for url in [
            "",
            "api:8000",
            "https://api",
            "ftp://api",
            "http://",
            "http://:80",
            "http://api/v1",
            "http://api?x",
            "http://me@api",
            "http://api:0",
            "http://api:99999",
            "http://api:x",
            "http://a..b",
            "http://a b",
            "http://-a",
            "http://a-.b",
            "http://[::1",
            "http://[1]",
            "http://1.2.3",
            "http://::1",
            "srv+http://_http._tcp.api:80",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn any_service_may_have_a_path_and_tls() {
        let service = |url: &str| {
            let target = Target::of_service(url).expect(url);
            let destination = target.destination.clone().expect("a service");
            let shown = target.to_string();
            (
                target.port,
                target.tls,
                destination.base,
                target.host_name().to_owned(),
                shown,
            )
        };
        let expected = |port, tls, base: &str, name: &str, shown: &str| {
            (
                port,
                tls,
                base.to_owned(),
                name.to_owned(),
                shown.to_owned(),
            )
        };
        assert_eq!(
            service("https://API.test/function/echo/"),
            expected(
                443,
                true,
                "/function/echo",
                "API.test",
                "https://API.test/function/echo"
            )
        );
        assert_eq!(
            service("http://[::1]:8080"),
            expected(8080, false, "", "[::1]", "http://[::1]:8080")
        );
        assert_eq!(
            service("https://10.0.0.1:8443/a%20b"),
            expected(
                8443,
                true,
                "/a%20b",
                "10.0.0.1",
                "https://10.0.0.1:8443/a%20b"
            )
        );
        for url in [
            "",
            "api/echo",
            "ftp://api/",
            "srv+http://_http._tcp.api",
            "https://",
            "https:///echo",
            "https://me@api/echo",
            "https://api/echo?x=1",
            "https://api?x=1",
            "https://api/echo#top",
            "https://api/a b",
            "https://api//echo",
            "https://api:0/",
            "https://a..b/",
        ] {
            assert!(Target::of_service(url).is_err(), "{url}");
        }
    }

    #[test]
    fn it_is_shown_as_it_was_given() {
        let target = Target::parse("http://api:8000/").expect("a URL");
        assert_eq!(target.to_string(), "http://api:8000");
        assert_eq!(target.authority(), "api:8000");
    }
}
