//! The sockets that a front listens on: TCP, or Unix.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::client_address::ClientAddress;
use crate::client_stream::ClientStream;
use crate::endpoint::Endpoint;

/// Connections that the system may hold for us before they are accepted.
const BACKLOG: i32 = 4096;

/// A socket that listens, before a runtime has it.
pub struct Bound {
    socket: Socket,
    endpoint: Endpoint,
    file: Option<SocketFile>,
    is_passed: bool,
}

/// Listens on `address`, without blocking.
///
/// # Errors
/// What the system says: address in use, not available, or not permitted.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restarted server need not wait for its predecessor's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Bound {
    /// Listens. A Unix socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// What the system says; `AddrInUse` only if somebody listens there, `AlreadyExists` for a file that is no socket, and
    /// `InvalidInput` for a path that is too long.
    pub fn listen(endpoint: &Endpoint) -> io::Result<Self> {
        if let Endpoint::Tcp(address) = endpoint {
            let mut bound = Self::of(OwnedFd::from(bind(*address)?))?;
            bound.is_passed = false;
            return Ok(bound);
        }
        let address = socket_address(endpoint)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let mut bound = socket.bind(&address);
        if let (Err(error), Endpoint::Unix(path)) = (&bound, endpoint) {
            if error.kind() == io::ErrorKind::AddrInUse {
                remove_stale(path, &address)?;
                bound = socket.bind(&address);
            }
        }
        bound?;
        let file = match endpoint {
            Endpoint::Unix(path) => Some(SocketFile::of(path)?),
            _ => None,
        };
        socket.listen(BACKLOG)?;
        Ok(Self {
            socket,
            endpoint: endpoint.clone(),
            file,
            is_passed: false,
        })
    }

    /// A socket that somebody else has opened, and who removes its file, too.
    ///
    /// # Errors
    /// It does not listen, or its address is of another kind.
    pub fn of(socket: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(socket);
        let other = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        if socket.r#type()? != Type::STREAM {
            return Err(other("it is no stream socket"));
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if !socket.is_listener()? {
            return Err(other("it does not listen"));
        }
        socket.set_cloexec(true)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let endpoint = if let Some(address) = address.as_socket() {
            Endpoint::Tcp(address)
        } else if let Some(path) = address.as_pathname() {
            Endpoint::Unix(path.to_owned())
        } else if let Some(name) = address.as_abstract_namespace() {
            Endpoint::Abstract(String::from_utf8_lossy(name).into_owned())
        } else {
            return Err(other("it is neither TCP nor a Unix socket"));
        };
        Ok(Self {
            socket,
            endpoint,
            file: None,
            is_passed: true,
        })
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// To be called in a runtime.
    ///
    /// # Errors
    /// The runtime has no room for it, or it is a Unix socket.
    pub fn into_tcp(self) -> io::Result<TcpListener> {
        match self.endpoint {
            Endpoint::Tcp(_) => TcpListener::from_std(self.socket.into()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// To be called in a runtime.
    ///
    /// # Errors
    /// The runtime has no room for it.
    pub fn into_listener(self) -> io::Result<Listener> {
        let socket = match self.endpoint {
            Endpoint::Tcp(_) => Accepting::Tcp(TcpListener::from_std(self.socket.into())?),
            _ => Accepting::Unix(UnixListener::from_std(self.socket.into())?),
        };
        Ok(Listener {
            socket,
            file: self.file,
            is_passed: self.is_passed,
        })
    }
}

fn socket_address(endpoint: &Endpoint) -> io::Result<SockAddr> {
    match endpoint {
        Endpoint::Tcp(address) => Ok((*address).into()),
        Endpoint::Unix(path) => SockAddr::unix(path),
        Endpoint::Abstract(name) => SockAddr::unix(format!("\0{name}")),
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One whose queue is full would keep us waiting.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        // It has gone by itself.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        _ => return Err(io::ErrorKind::AddrInUse.into()),
    }
    // Another server may have replaced it meanwhile.
    let now = fs::symlink_metadata(path)?;
    if (now.dev(), now.ino()) != (found.dev(), found.ino()) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    fs::remove_file(path)
}

/// The file of a Unix socket, which goes with its listener, unless its name is somebody else's by then.
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let file = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = fs::symlink_metadata(&self.path);
        if now.is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode)) {
            // Nobody can connect there any more: the next server replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket that listens, in a runtime.
pub struct Listener {
    socket: Accepting,
    file: Option<SocketFile>,
    is_passed: bool,
}

enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self {
            socket: Accepting::Tcp(listener),
            file: None,
            is_passed: false,
        }
    }
}

impl Listener {
    pub async fn accept(&self) -> io::Result<(ClientStream, ClientAddress)> {
        match &self.socket {
            Accepting::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((ClientStream::Tcp(stream), address.ip().into()))
            }
            Accepting::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((ClientStream::Unix(stream), ClientAddress::Unix))
            }
        }
    }

    /// Those who have connected and were not accepted yet; from now on nobody else can connect to a Unix socket. None of a
    /// socket that was passed: whoever has opened it goes on, and hands them to the next server.
    ///
    /// # Errors
    /// The runtime does not give it back.
    pub fn into_last(self) -> io::Result<Option<Last>> {
        if self.is_passed {
            return Ok(None);
        }
        drop(self.file);
        Ok(Some(match self.socket {
            Accepting::Tcp(listener) => Last::Tcp(listener.into_std()?),
            Accepting::Unix(listener) => Last::Unix(listener.into_std()?),
        }))
    }
}

/// A listener that takes what there is, and is closed.
pub enum Last {
    Tcp(std::net::TcpListener),
    Unix(unix::UnixListener),
}

impl Last {
    /// Does not wait.
    pub fn accept(&self) -> io::Result<(ClientStream, ClientAddress)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let stream = ClientStream::Tcp(TcpStream::from_std(stream)?);
                Ok((stream, address.ip().into()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let stream = ClientStream::Unix(UnixStream::from_std(stream)?);
                Ok((stream, ClientAddress::Unix))
            }
        }
    }
}
