//! How users write where a server is.

use std::fmt;
use std::path::PathBuf;

use crate::sources::replicas::Host;

/// Where agents listen unless told otherwise.
const AGENT_PORT: u16 = 9000;

/// The least that a request's target must not have, besides what is no visible ASCII.
const NOT_IN_A_PATH: [char; 2] = ['?', '#'];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { host: Host, port: u16 },
    Unix(PathBuf),
}

/// A server's address: `host`, `host:port`, `http://host:port/path`, `https://host`, or `unix:/path`. The port of a bare host is
/// that of agents, 9000.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    pub(super) place: Place,
    /// As it is written in `Host`.
    pub(super) authority: String,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// What all paths begin with; never ends with a slash.
    pub(super) base: String,
}

impl ServerAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.contains('\0') {
                return Err(
                    "A Unix socket has an absolute path, such as unix:/run/agent.sock.".into(),
                );
            }
            return Ok(Self {
                place: Place::Unix(path.into()),
                authority: "localhost".into(),
                tls: false,
                base: String::new(),
            });
        }
        let (tls, standard, rest) = match text.split_once("://") {
            None => (false, AGENT_PORT, text),
            Some(("http", rest)) => (false, 80, rest),
            Some(("https", rest)) => (true, 443, rest),
            Some(_) => return Err("It must begin with http:// or https://.".into()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err("It must have no user name: a token is given apart from it.".into());
        }
        if path.contains(NOT_IN_A_PATH) || authority.contains(NOT_IN_A_PATH) {
            return Err("It must have neither `?` nor `#`.".into());
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("Its path must be of visible ASCII characters.".into());
        }
        let (host, port) = Host::of_authority(authority)?;
        let port = port.unwrap_or(standard);
        if port == 0 {
            return Err("No server is at port 0.".into());
        }
        let name = match &host {
            Host::Address(std::net::IpAddr::V6(address)) => format!("[{address}]"),
            Host::Address(address) => address.to_string(),
            Host::Loopback => "localhost".into(),
            Host::Name(name) | Host::Service(name) => name.clone(),
        };
        Ok(Self {
            authority: format!("{name}:{port}"),
            place: Place::Tcp { host, port },
            tls,
            base: path.trim_end_matches('/').to_owned(),
        })
    }

    /// Whether what is sent there in clear text can be read by others.
    pub fn is_exposed(&self) -> bool {
        match &self.place {
            Place::Unix(_) => false,
            Place::Tcp { host, .. } => !self.tls && !host.is_loopback(),
        }
    }

    /// The name that a certificate must have.
    pub(super) fn host_name(&self) -> &str {
        let end = self.authority.rfind(':');
        &self.authority[..end.unwrap_or(self.authority.len())]
    }
}

/// As `parse` reads it.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Place::Unix(path) = &self.place {
            return write!(f, "unix:{}", path.display());
        }
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_an_address() {
        for (text, shown, exposed) in [
            ("agent", "http://agent:9000", true),
            ("Agent.example.com:5", "http://agent.example.com:5", true),
            ("http://agent", "http://agent:80", true),
            ("https://agent/", "https://agent:443", false),
            (
                "https://agent/r/faucet//",
                "https://agent:443/r/faucet",
                false,
            ),
            ("127.0.0.1", "http://127.0.0.1:9000", false),
            ("http://localhost:9000", "http://localhost:9000", false),
            ("[::1]:4041", "http://[::1]:4041", false),
            ("http://[fd00::7]", "http://[fd00::7]:80", true),
            ("unix:/run/a.sock", "unix:/run/a.sock", false),
        ] {
            let address = ServerAddress::parse(text).expect(text);
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.is_exposed(), exposed, "{text}");
            assert_eq!(ServerAddress::parse(shown).as_ref(), Ok(&address));
        }
        assert_eq!(
            ServerAddress::parse("https://[::1]:7")
                .expect("one")
                .host_name(),
            "[::1]"
        );
    }

    #[test]
    fn what_is_no_address() {
        for text in [
            "",
            "http://",
            "ftp://agent",
            "agent:0",
            "agent:70000",
            "a b",
            "http://user:password@agent",
            "http://agent?x=1",
            "http://agent/#x",
            "http://agent/a b",
            "http://agent/\u{e9}",
            "unix:run/a.sock",
            "unix:@name",
            "agent\r\nX: y",
        ] {
            assert!(ServerAddress::parse(text).is_err(), "{text:?}");
        }
    }
}
