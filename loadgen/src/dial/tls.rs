//! TLS for dialled connections: who is trusted, who one is, and what is spoken.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// What TLS is to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificates of authorities in PEM that are trusted in place of the system's.
    pub authorities: Option<PathBuf>,
    /// The client's own certificates and key in PEM, for servers that ask for them.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Trust any server: for tests of servers with certificates of their own making.
    pub is_insecure: bool,
    /// Speak HTTP/2; else HTTP/1.1.
    pub is_http2: bool,
}

impl TlsOptions {
    /// Reads what they name.
    ///
    /// # Errors
    /// When a file cannot be read, is no PEM, or does not fit the others.
    pub fn build(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?;
        let builder = if self.is_insecure {
            let anyone = Arc::new(Anyone(provider));
            builder.dangerous().with_custom_certificate_verifier(anyone)
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let mut config = match &self.identity {
            Some((certificates, key)) => builder
                .with_client_auth_cert(certificates_in(certificates)?, key_in(key)?)
                .map_err(TlsError::Config)?,
            None => builder.with_no_client_auth(),
        };
        let spoken: &[u8] = if self.is_http2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![spoken.to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(path) => {
                for certificate in certificates_in(path)? {
                    roots.add(certificate).map_err(TlsError::Config)?;
                }
            }
            None => {
                // Some of a system's certificates are often unreadable; none at all is an error.
                let native = rustls_native_certs::load_native_certs();
                let (added, _) = roots.add_parsable_certificates(native.certs);
                if added == 0 {
                    return Err(TlsError::NoAuthorities);
                }
            }
        }
        Ok(roots)
    }
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |why: String| TlsError::File { path: path.to_owned(), why };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unreadable(error.to_string()))?
        .collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(unreadable("there is no certificate in it".to_owned()))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

fn key_in(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| TlsError::File { path: path.to_owned(), why: error.to_string() })
}

/// Trusts every server, but not every signature: what it sends it has to have signed.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that does not hold what it should.
    #[error("cannot use {}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The pieces do not fit together.
    #[error("TLS cannot be set up: {0}")]
    Config(#[source] rustls::Error),
    /// The system trusts nobody.
    #[error("no trusted certificates on this system; name some with --cacert")]
    NoAuthorities,
}

/// A failed handshake in words that are the same for every request.
pub(super) fn refused(error: io::Error) -> io::Error {
    let words = match error.get_ref() {
        Some(inner) => format!("TLS: {inner}"),
        None => format!("TLS: {}", error.kind()),
    };
    io::Error::other(words)
}
