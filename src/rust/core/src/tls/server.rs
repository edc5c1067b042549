//! The side that has a certificate.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::ring::Ticketer;
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;

use super::files::{out_of_time, Named, Plain};
use super::provider;
use super::stream::{rustls_error, TlsStream};
use crate::client_address::ClientAddress;
use crate::client_stream::ClientStream;
use crate::ops::News;
use crate::sources::Failure;

/// What it takes, the better one first.
static PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where certificates and keys are: files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's own, then those between it and a root.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Whose certificates clients must have; `None` asks them for none.
    pub client_ca: Option<PathBuf>,
}

impl TlsSettings {
    /// The same for those who show in another way who they are.
    #[must_use]
    pub fn without_client_ca(&self) -> Self {
        Self {
            client_ca: None,
            ..self.clone()
        }
    }
}

/// What the files held.
struct Loaded {
    config: Arc<ServerConfig>,
    /// What is wrong with the certificate's time, if anything is.
    out_of_time: Option<&'static str>,
}

/// Takes handshakes with what the files held when they were read last.
pub struct ServerTls {
    settings: TlsSettings,
    protocols: &'static [&'static [u8]],
    loaded: Mutex<Loaded>,
    news: News,
}

/// Why a client is not served.
#[derive(Debug)]
pub enum Refusal {
    /// It left before it had said a word, as checks of a port do: nobody's fault.
    Silent,
    /// What it says is HTTP, without TLS.
    Plain,
    /// The handshake failed: what it sent, its certificate, or the connection.
    Failed(io::Error),
}

impl Refusal {
    /// Its name in the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Plain => "plain_http",
            Self::Failed(error) => match rustls_error(error) {
                Some(
                    rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_),
                ) => "client_certificate",
                Some(_) => "handshake",
                None => "connection",
            },
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Silent => io::ErrorKind::UnexpectedEof.into(),
            Refusal::Plain => Self::new(
                io::ErrorKind::InvalidData,
                "the client speaks HTTP without TLS",
            ),
            Refusal::Failed(error) => error,
        }
    }
}

/// A client that is not served, and its connection, for a last word.
pub struct Refused {
    pub why: Refusal,
    pub socket: TcpStream,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// Class `option`: a file is not there, cannot be read, is not what it should be, or the key is another certificate's.
    pub fn load(settings: &TlsSettings) -> Result<Self, Failure> {
        Self::of(settings, &PROTOCOLS)
    }

    /// The same for HTTP/1.1 alone.
    ///
    /// # Errors
    /// The same.
    pub fn load_http1(settings: &TlsSettings) -> Result<Self, Failure> {
        Self::of(settings, &PROTOCOLS[1..])
    }

    fn of(settings: &TlsSettings, protocols: &'static [&'static [u8]]) -> Result<Self, Failure> {
        Ok(Self {
            settings: settings.clone(),
            protocols,
            loaded: Mutex::new(read(settings, protocols)?),
            news: News::default(),
        })
    }

    /// Reads the files again, for handshakes from now on.
    ///
    /// # Errors
    /// The same. Then what was read before stays in use.
    pub fn reload(&self) -> Result<(), Failure> {
        let loaded = read(&self.settings, self.protocols)?;
        *self.lock() = loaded;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the log if clients will not believe the certificate now, because of the time.
    pub fn warn_if_out_of_time(&self) {
        if let Some(what) = self.lock().out_of_time {
            tracing::warn!(
                "the certificate {what}: {}. Clients refuse it; replace it, then reload",
                self.settings.cert.display()
            );
        }
    }

    /// Takes a client's handshake. There is no limit to its time here.
    ///
    /// # Errors
    /// What the client did, or the system says. Then the connection is closed.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<ClientStream> {
        match self.handshake(socket).await {
            Ok(stream) => Ok(stream),
            Err(refused) => Err(refused.why.into()),
        }
    }

    /// The same for those who have a last word to say.
    ///
    /// # Errors
    /// The client, with its connection. An alert that says why is sent.
    pub async fn handshake(&self, socket: TcpStream) -> Result<ClientStream, Refused> {
        let mut first = [0u8];
        match socket.peek(&mut first).await {
            Ok(1) if first[0].is_ascii_alphabetic() => {
                let why = Refusal::Plain;
                return Err(Refused { why, socket });
            }
            Ok(1) => {}
            Ok(_) => {
                let why = Refusal::Silent;
                return Err(Refused { why, socket });
            }
            Err(error) => {
                let why = Refusal::Failed(error);
                return Err(Refused { why, socket });
            }
        }
        let config = self.lock().config.clone();
        let stream = match ServerConnection::new(config) {
            Ok(session) => TlsStream::new(socket, session.into()),
            Err(error) => {
                let why = Refusal::Failed(io::Error::other(error));
                return Err(Refused { why, socket });
            }
        };
        match stream.handshake().await {
            Ok(()) => Ok(ClientStream::Tls(Box::new(stream))),
            Err(error) => Err(Refused {
                why: Refusal::Failed(error),
                socket: stream.into_socket(),
            }),
        }
    }

    /// Tells the log of a handshake that failed, but not of each one.
    pub fn note_failure(&self, address: ClientAddress, why: &str) {
        let others = match self.news.due() {
            None => return,
            Some(0) => String::new(),
            Some(count) => format!(" (and {count} more since the last such line)"),
        };
        tracing::warn!("a TLS handshake with {address} failed: {why}{others}");
    }
}

fn read(settings: &TlsSettings, protocols: &[&[u8]]) -> Result<Loaded, Failure> {
    let cert = Named {
        setting: "tls$cert",
        path: &settings.cert,
    };
    let key = Named {
        setting: "tls$key",
        path: &settings.key,
    };
    let certificates = cert.certificates()?;
    let out_of_time = certificates.first().and_then(out_of_time);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| cert.failure(Plain(&error)))?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let ca = Named {
                setting: "tls$client_ca",
                path,
            };
            let verifier =
                WebPkiClientVerifier::builder_with_provider(ca.roots()?.into(), provider())
                    .build()
                    .map_err(|error| ca.failure(format_args!("{error}.")))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates, key.key()?)
        .map_err(|error| match &error {
            rustls::Error::InvalidCertificate(_) => cert.failure(Plain(&error)),
            error => key.failure(Plain(error)),
        })?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    // Clients keep what is needed to come back. Its keys are new with each reading: who could come back before shows its
    // certificate again.
    config.ticketer = Ticketer::new().map_err(|error| key.failure(Plain(&error)))?;
    Ok(Loaded {
        config: Arc::new(config),
        out_of_time,
    })
}
