//! TLS for the listener: rustls with the ring provider, TLS 1.2 and later.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::error::{Code, Error, Result};

/// The server's certificate and key, ready to accept connections. Clones share them: a [reload](Self::reload) is all clones'.
#[derive(Clone)]
pub struct TlsConfig(Arc<RwLock<Identity>>);

/// One certificate with its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) acceptor: TlsAcceptor,
    /// For the channel binding of SCRAM-SHA-256-PLUS.
    pub(crate) certificate_pem: Arc<[u8]>,
}

impl TlsConfig {
    /// Reads a PEM certificate chain and its PEM private key.
    ///
    /// # Errors
    /// When a file cannot be read, or the two do not fit each other. Never falls back to plain text.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self> {
        Ok(Self(Arc::new(RwLock::new(Identity::load(certificate, key)?))))
    }

    /// Reads the files again: connections from now on are accepted with what they hold.
    ///
    /// # Errors
    /// As [`TlsConfig::load`]; then nothing changes.
    pub fn reload(&self, certificate: &Path, key: &Path) -> Result<()> {
        *self.0.write() = Identity::load(certificate, key)?;
        Ok(())
    }

    /// The certificate of now.
    pub(crate) fn now(&self) -> Identity {
        self.0.read().clone()
    }

    /// The same from texts in memory.
    ///
    /// # Errors
    /// As [`TlsConfig::load`].
    pub fn from_pem(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Self> {
        Ok(Self(Arc::new(RwLock::new(Identity::from_pem(certificate_pem, key_pem)?))))
    }
}

impl Identity {
    fn load(certificate: &Path, key: &Path) -> Result<Self> {
        let certificate_pem = std::fs::read(certificate).map_err(|error| unreadable(certificate, &error))?;
        let key_pem = std::fs::read(key).map_err(|error| unreadable(key, &error))?;
        Self::from_pem(&certificate_pem, &key_pem)
    }

    fn from_pem(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate_pem)
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| invalid(&format!("the certificate is not PEM: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| invalid(&format!("the private key is not PEM: {error}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(&error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| invalid(&error.to_string()))?;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate_pem: certificate_pem.into() })
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Code::Io, format!("cannot read \"{}\"", path.display())).detail(error.to_string())
}

fn invalid(text: &str) -> Error {
    Error::invalid("the TLS certificate or key cannot be used").detail(text)
}
