//! Mutual TLS from PEM files, which are read anew for each connection: a renewed certificate needs no
//! restart.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

/// PEM files for mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPaths {
    /// The root certificates that the broker's certificate must lead to.
    pub ca: PathBuf,
    /// This gateway's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read or does not hold what it should.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificates and key do not fit together.
    #[error("the certificate {} and its key cannot be used: {source}", path.display())]
    Unfit {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// Mutual TLS with the ring provider, named here because the process may hold another one as default.
///
/// # Errors
/// The PEM files are not usable.
pub fn client_config(paths: &TlsPaths) -> Result<ClientConfig, TlsError> {
    let key = PrivateKeyDer::from_pem_file(&paths.key)
        .map_err(|source| TlsError::Pem { path: paths.key.clone(), source })?;
    trusting(&paths.ca)?
        .with_client_auth_cert(certificates(&paths.cert)?, key)
        .map_err(|source| TlsError::Unfit { path: paths.cert.clone(), source })
}

/// TLS in which the server alone shows a certificate.
///
/// # Errors
/// The roots are not usable.
#[cfg(feature = "aws")]
pub fn server_only_config(ca: &PathBuf) -> Result<ClientConfig, TlsError> {
    Ok(trusting(ca)?.with_no_client_auth())
}

fn trusting(ca: &PathBuf) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let unfit = |source| TlsError::Unfit { path: ca.clone(), source };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(unfit)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions().map_err(unfit)?.with_root_certificates(roots))
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { path: path.clone(), source };
    let text = fs::read(path).map_err(|error| pem(rustls::pki_types::pem::Error::Io(error)))?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(pem)?;
    if found.is_empty() { Err(pem(rustls::pki_types::pem::Error::NoItemsFound)) } else { Ok(found) }
}
