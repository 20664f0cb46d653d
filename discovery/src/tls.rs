use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;

use crate::ConfigError;

/// How `https:` and `wss:` servers are recognised: one rustls configuration with the *ring* provider,
/// shared by the registry client and the socket carrier.
///
/// It is independent of rustls' process-wide default provider: nothing has to be installed, and nothing
/// that an app installs is touched.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    roots: usize,
}

impl Tls {
    /// Trusts what the operating system trusts. The certificates are read once per process.
    ///
    /// A system without any leaves every TLS connection failing with "unknown issuer"; a warning says so.
    ///
    /// # Errors
    /// [`ConfigError::Tls`] if rustls refuses its own defaults.
    pub fn native_roots() -> Result<Self, ConfigError> {
        static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
        let roots = ROOTS.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            let mut roots = RootCertStore::empty();
            let (taken, refused) = roots.add_parsable_certificates(found.certs);
            if taken == 0 {
                tracing::warn!(refused, errors = ?found.errors, "no trust anchors on this system: TLS servers cannot be verified");
            }
            Arc::new(roots)
        });
        Self::with(Arc::clone(roots))
    }

    /// Trusts these certificates and nothing else: for a registry under a private authority.
    ///
    /// # Errors
    /// [`ConfigError::Tls`] if one of them is no certificate.
    pub fn trusting(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self, ConfigError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(|e| ConfigError::Tls(e.to_string()))?;
        }
        Self::with(Arc::new(roots))
    }

    fn with(roots: Arc<RootCertStore>) -> Result<Self, ConfigError> {
        let count = roots.len();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| ConfigError::Tls(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), roots: count })
    }

    /// For a WebSocket: no protocol is negotiated, which means HTTP/1.1.
    pub(crate) fn for_socket(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// For HTTP calls: HTTP/2 where the server has it.
    #[cfg(feature = "registry")]
    pub(crate) fn for_http(&self) -> ClientConfig {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls(ring, {} trust anchors)", self.roots)
    }
}
