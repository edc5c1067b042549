//! Where a server listens.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use crate::endpoint::Endpoint;
use crate::environment::SystemError;
use crate::front::Bound;
use crate::sources::Failure;

/// The longest path of a Unix socket, in bytes; the system has room for one more, a NUL.
const MOST: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Listens on a host, by name or address, or on a Unix socket. The names of both settings begin with `prefix`. To be called on
/// R's thread.
pub(super) fn listen(prefix: &str, host: &str, port: u16) -> Result<Bound, Failure> {
    match Endpoint::unix(host) {
        Some(endpoint) => listen_unix(prefix, endpoint),
        None => listen_tcp(prefix, host, port),
    }
}

/// Whether this host is a Unix socket, for which there is no port.
pub(super) fn is_unix(host: &str) -> bool {
    Endpoint::unix(host).is_some()
}

/// The same for a name or an address.
#[allow(clippy::disallowed_methods)]
pub(super) fn listen_tcp(prefix: &str, host: &str, port: u16) -> Result<Bound, Failure> {
    let named = |error: io::Error| {
        let (class, hint) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                "port_in_use",
                format!("Another program listens there: choose another `{prefix}port`, or 0 for any free one."),
            ),
            io::ErrorKind::PermissionDenied => (
                "listen",
                format!("Ports below 1024 need privileges: choose another `{prefix}port`."),
            ),
            _ => (
                "listen",
                format!("Is `{prefix}host` an address of this machine?"),
            ),
        };
        Failure::new(
            class,
            format!("Cannot listen on {host}:{port}: {error}. {hint}"),
        )
    };
    let address = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => (host, port)
            .to_socket_addrs()
            .map_err(named)?
            .next()
            .ok_or_else(|| named(io::ErrorKind::AddrNotAvailable.into()))?,
    };
    Bound::listen(&Endpoint::Tcp(address)).map_err(named)
}

fn listen_unix(prefix: &str, endpoint: Endpoint) -> Result<Bound, Failure> {
    let setting = format!("`{prefix}host`");
    let endpoint = match endpoint {
        // The session may change its directory before the socket is removed.
        Endpoint::Unix(path) if path.is_relative() && !path.as_os_str().is_empty() => {
            let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
            Endpoint::Unix(here.join(path))
        }
        other => other,
    };
    let (what, length) = match &endpoint {
        Endpoint::Unix(path) => ("path", path.as_os_str().len()),
        Endpoint::Abstract(name) => ("name", name.len()),
        Endpoint::Tcp(_) => ("", 1),
    };
    let refused =
        |class, why: String| Failure::new(class, format!("Cannot listen on {endpoint}: {why}"));
    if length == 0 {
        let example = format!("{setting} looks like \"unix:/run/app.sock\".");
        return Err(refused("listen", format!("there is no {what}. {example}")));
    }
    if length > MOST {
        let why = format!("the {what} has {length} bytes, and the system takes {MOST}. Choose a shorter one as {setting}.");
        return Err(refused("listen", why));
    }
    Bound::listen(&endpoint).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => refused(
            "port_in_use",
            format!("another program listens there. Stop it, or choose another {setting}."),
        ),
        io::ErrorKind::AlreadyExists => refused(
            "listen",
            format!("there is a file that is no socket. Remove it, or choose another {setting}."),
        ),
        io::ErrorKind::NotFound => refused(
            "listen",
            "there is no such directory. Create it first.".to_owned(),
        ),
        io::ErrorKind::PermissionDenied => refused(
            "listen",
            format!("this user may not. Choose a directory that it may write to as {setting}."),
        ),
        _ => refused("listen", format!("{}.", SystemError(&error))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_unix_socket_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| format!("unix:{}", dir.path().join(name).display());
        let refused = |host: &str| {
            let failure = listen("admin_", host, 0).err().expect("refused");
            (failure.class, failure.message)
        };
        let (class, message) = refused(&at(&"x".repeat(200)));
        assert!(
            class == "listen" && message.contains("bytes, and the system takes"),
            "{message}"
        );
        let (class, message) = refused("unix:");
        assert!(
            class == "listen" && message.contains("`admin_host` looks like"),
            "{message}"
        );
        let (class, message) = refused(&at("none/app.sock"));
        assert!(
            class == "listen" && message.contains("no such directory"),
            "{message}"
        );
        std::fs::write(dir.path().join("file"), "kept").expect("written");
        let (class, message) = refused(&at("file"));
        assert!(
            class == "listen" && message.contains("no socket"),
            "{message}"
        );
        assert!(dir.path().join("file").exists());
    }

    #[test]
    fn a_live_socket_is_in_use_and_a_stale_one_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("app.sock");
        let host = format!("unix:{}", path.display());
        let live = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let failure = listen("", &host, 0).err().expect("refused");
        assert_eq!(failure.class, "port_in_use", "{}", failure.message);
        drop(live);
        assert!(path.exists(), "it is stale");
        let bound = listen("", &host, 0).expect("replaced");
        assert_eq!(bound.endpoint().to_string(), host);
        drop(bound);
        assert!(!path.exists(), "it goes with its listener");
        let bound = listen("", &host, 0).expect("bound");
        std::fs::remove_file(&path).expect("removed");
        let other = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        drop(bound);
        assert!(path.exists(), "it is somebody else's");
        drop(other);
    }
}
