//! The side that dials, and looks at certificates.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_native_certs::CertificateResult;
use tokio::net::TcpStream;

use super::files::Named;
use super::provider;
use super::stream::TlsStream;
use crate::client_stream::ClientStream;
use crate::environment::Environment;
use crate::sources::Failure;

/// Where systems have the certificates of CAs, one of them each.
const BUNDLES: [&str; 6] = [
    // Debian, Alpine, Arch
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    // SUSE
    "/etc/ssl/ca-bundle.pem",
    // macOS, OpenBSD, Alpine
    "/etc/ssl/cert.pem",
    // FreeBSD
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// Whose certificates are believed.
#[derive(Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    /// The same for connections that speak HTTP/2.
    http2: Arc<ClientConfig>,
}

impl ClientTls {
    /// Believes those who have a certificate by one of the file `ca` (PEM), or, without, by one of the system's. Reads the
    /// environment (`SSL_CERT_FILE`, `SSL_CERT_DIR`): to be called on R's thread.
    ///
    /// # Errors
    /// Class `option`: the file is not there, cannot be read, or is not what it should be; or the system has no certificates.
    pub fn load(ca: Option<&Path>) -> Result<Self, Failure> {
        let roots = match ca {
            Some(path) => Named {
                setting: "ca",
                path,
            }
            .roots()?,
            None => roots_of(rustls_native_certs::load_native_certs())?,
        };
        Self::believing(roots)
    }

    /// The same on any thread, with what is known of the environment.
    ///
    /// # Errors
    /// As with [`ClientTls::load`].
    pub fn of(ca: Option<&Path>, environment: &Environment) -> Result<Self, Failure> {
        if ca.is_some() {
            return Self::load(ca);
        }
        let named =
            ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| environment.text(name).map(PathBuf::from));
        let (file, dir) = match &named {
            [None, None] => {
                let mut usual = BUNDLES.iter().map(Path::new);
                (usual.find(|path| path.is_file()), None)
            }
            [file, dir] => (file.as_deref(), dir.as_deref()),
        };
        let found = rustls_native_certs::load_certs_from_paths(file, dir);
        Self::believing(roots_of(found)?)
    }

    fn believing(roots: RootCertStore) -> Result<Self, Failure> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new("system", format!("There is no TLS: {error}.")))?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut http2 = config.clone();
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            http2: Arc::new(http2),
        })
    }

    /// Shakes hands with whoever is at the other side, which must be `host_name`: a name, or an IP address. There is no limit
    /// to its time here.
    ///
    /// # Errors
    /// It is somebody else, or nobody that is believed (`InvalidData`), or the connection fails.
    pub async fn connect(&self, host_name: &str, socket: TcpStream) -> io::Result<ClientStream> {
        shake_hands(&self.config, host_name, socket).await
    }
}

async fn shake_hands(
    config: &Arc<ClientConfig>,
    host_name: &str,
    socket: TcpStream,
) -> io::Result<ClientStream> {
    let name = host_name.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let stream = TlsStream::new(socket, session.into());
    stream.handshake().await?;
    Ok(ClientStream::Tls(Box::new(stream)))
}

/// Two are the same if they were loaded at once: what a file held then is not compared.
impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

/// The other side of connections with TLS: whose word is believed, and the name that its certificate must have.
#[derive(Clone, Debug)]
pub struct Peer {
    tls: Arc<ClientTls>,
    host_name: Arc<str>,
}

impl Peer {
    /// `host_name` is a name or an IP address, which may be in brackets.
    pub fn new(tls: Arc<ClientTls>, host_name: impl Into<Arc<str>>) -> Self {
        Self {
            tls,
            host_name: host_name.into(),
        }
    }

    /// The name that its certificate must have.
    pub fn host_name(&self) -> &str {
        &self.host_name
    }

    /// Shakes hands; see [`ClientTls::connect`].
    ///
    /// # Errors
    /// As there.
    pub async fn connect(&self, socket: TcpStream) -> io::Result<ClientStream> {
        self.tls.connect(&self.host_name, socket).await
    }

    /// The same, for HTTP/2.
    ///
    /// # Errors
    /// As there; and the other side may not speak it.
    pub async fn connect_http2(&self, socket: TcpStream) -> io::Result<ClientStream> {
        let stream = shake_hands(&self.tls.http2, &self.host_name, socket).await?;
        match stream.has_agreed_on_http2() {
            true => Ok(stream),
            false => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

fn roots_of(found: CertificateResult) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    // Some systems have a few that are too old to be understood.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first();
        let why = why.map_or_else(String::new, |error| format!(" ({error})"));
        let message = format!("This system has no certificates of CAs{why}: install its package `ca-certificates`, or give `ca`.");
        return Err(Failure::new("option", message));
    }
    Ok(roots)
}
