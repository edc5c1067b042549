//! Certificates and keys, read from files. Operators name them; what is in them may be anything.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

use crate::environment::SystemError;
use crate::sources::Failure;

/// The largest file, in bytes: the certificates of all public CAs together take a quarter of that.
const MOST: u64 = 1024 * 1024;

/// One of the files, and what the setting is called that names it.
pub(super) struct Named<'a> {
    pub(super) setting: &'a str,
    pub(super) path: &'a Path,
}

impl Named<'_> {
    /// Class `option`: what is wrong, where, and what to do.
    pub(super) fn failure(&self, why: impl std::fmt::Display) -> Failure {
        Failure::new(
            "option",
            format!(
                "`{}` cannot be used: {}: {why}",
                self.setting,
                self.path.display()
            ),
        )
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let found = |error: io::Error| {
            match error.kind() {
            io::ErrorKind::NotFound => self.failure("there is no such file."),
            io::ErrorKind::PermissionDenied => self.failure(
                "this user may not read it. Let the user that runs the server own it, or its group.",
            ),
            _ => self.failure(format_args!("{}.", SystemError(&error))),
        }
        };
        // Anything else might never end, or never begin.
        if !std::fs::metadata(self.path).map_err(found)?.is_file() {
            return Err(self.failure("it is no regular file."));
        }
        let mut bytes = Vec::new();
        let file = File::open(self.path).map_err(found)?;
        file.take(MOST + 1).read_to_end(&mut bytes).map_err(found)?;
        if bytes.len() as u64 > MOST {
            return Err(self.failure("it is larger than 1 MB."));
        }
        Ok(bytes)
    }

    /// At least one certificate.
    ///
    /// # Errors
    /// Class `option`.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Failure> {
        let bytes = self.read()?;
        let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
        match all {
            Ok(all) if !all.is_empty() => Ok(all),
            Ok(_) => Err(self.failure(
                "there is no certificate in it (PEM: `-----BEGIN CERTIFICATE-----`). `openssl x509 -inform der -in FILE` makes PEM of DER.",
            )),
            Err(error) => Err(self.failure(format_args!("it is no valid PEM: {error}."))),
        }
    }

    /// The first private key.
    ///
    /// # Errors
    /// Class `option`.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, Failure> {
        let bytes = self.read()?;
        if is_encrypted(&bytes) {
            return Err(self.failure(
                "the key is encrypted, and nobody is asked for its passphrase. `openssl pkey -in FILE -out PLAIN` decrypts it.",
            ));
        }
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => self.failure(
                "there is no private key in it (PEM: `-----BEGIN PRIVATE KEY-----`). `openssl pkey -inform der -in FILE` makes PEM of DER.",
            ),
            error => self.failure(format_args!("it is no valid PEM: {error}.")),
        })
    }

    /// Whom to believe.
    ///
    /// # Errors
    /// Class `option`.
    pub(super) fn roots(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots
                .add(certificate)
                .map_err(|error| self.failure(Plain(&error)))?;
        }
        Ok(roots)
    }
}

/// Both forms of it (PKCS#8, and OpenSSL's own).
fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text
            .lines()
            .any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"))
}

/// What clients will say of a certificate whatever they know: that it has expired, or is not valid yet. rustls looks at that
/// before it looks for whoever has issued it.
pub(super) fn out_of_time(certificate: &CertificateDer<'_>) -> Option<&'static str> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let looked = rustls::client::verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &RootCertStore::empty(),
        &[],
        UnixTime::now(),
        super::provider().signature_verification_algorithms.all,
    );
    match looked {
        Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Some("has expired"),
        Err(Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Some("is not valid yet"),
        _ => None,
    }
}

/// rustls's errors in the words of operators.
pub(super) struct Plain<'a>(pub(super) &'a Error);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Error::InconsistentKeys(_) => f.write_str("it does not fit the certificate."),
            Error::InvalidCertificate(CertificateError::BadEncoding) => {
                f.write_str("it holds a certificate that cannot be read.")
            }
            error => write!(f, "{error}."),
        }
    }
}
