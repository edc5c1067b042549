//! Certificates of all kinds, and clients that look at them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use faucet_core::client_stream::ClientStream;
use faucet_core::tls::{ClientTls, ServerTls, TlsSettings};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{within, Client};

static AUTHORITIES: AtomicUsize = AtomicUsize::new(0);

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, in PEM.
pub struct Identity {
    pub cert: String,
    pub key: String,
}

/// Files, until it is dropped.
pub struct Files {
    dir: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        // Two that have one name are one, and the signatures of either wrong.
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("CA {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub fn sign(&self, names: &[&str]) -> Identity {
        self.sign_with(names, |_| {})
    }

    pub fn sign_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(names);
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// One that only this one vouches for.
    pub fn believed(&self) -> ClientTls {
        let files = Files::new();
        ClientTls::load(Some(&files.write("ca.pem", &self.pem))).expect("a certificate")
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("names")
}

/// The certificate's time is over.
pub fn expired(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
}

pub fn self_signed(names: &[&str]) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let cert = params(names).self_signed(&key).expect("a certificate");
    Identity {
        cert: cert.pem(),
        key: key.serialize_pem(),
    }
}

impl Files {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Writes a server's files, over those that were there.
    pub fn identity(&self, identity: &Identity) -> TlsSettings {
        TlsSettings {
            cert: self.write("cert.pem", &identity.cert),
            key: self.write("key.pem", &identity.key),
            client_ca: None,
        }
    }
}

/// For a `Plan`.
pub fn server(identity: &Identity) -> Option<Arc<ServerTls>> {
    let files = Files::new();
    let tls = ServerTls::load(&files.identity(identity)).expect("files that are right");
    Some(Arc::new(tls))
}

/// A client that has shaken hands.
pub async fn dial(
    tls: &ClientTls,
    name: &str,
    address: SocketAddr,
) -> io::Result<Client<ClientStream>> {
    let socket = TcpStream::connect(address).await.expect("it listens");
    socket.set_nodelay(true).expect("a live socket");
    let stream = within("the handshake", tls.connect(name, socket)).await?;
    Ok(Client::over(stream))
}

/// A client that has a certificate, or protocols of its own, and waits for each answer.
pub fn blocking(
    address: SocketAddr,
    ca: &str,
    identity: Option<&Identity>,
    protocols: &[&str],
) -> StreamOwned<ClientConnection, std::net::TcpStream> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM");
    roots.add(ca).expect("a certificate");
    let builder =
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let cert = CertificateDer::from_pem_slice(identity.cert.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("PEM");
            builder
                .with_client_auth_cert(vec![cert], key)
                .expect("they fit")
        }
    };
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(config.into(), name).expect("a session");
    let socket = std::net::TcpStream::connect(address).expect("it listens");
    socket
        .set_read_timeout(Some(super::PATIENCE))
        .expect("a live socket");
    StreamOwned::new(session, socket)
}
