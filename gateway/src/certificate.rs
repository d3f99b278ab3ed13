//! What a certificate says of itself: for whom, from when, until when.
//!
//! Nothing is verified here; the TLS stack does that. This is for messages that name the mistake.

use std::fs;
use std::io;
use std::path::Path;

use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// What is read from a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subject's common name, if it has one.
    pub common_name: Option<String>,
    /// DNS names of the subject's alternative names.
    pub dns_names: Vec<String>,
    /// Start of its validity, in seconds since 1970-01-01 UTC.
    pub not_before_s: u64,
    /// End of its validity, in seconds since 1970-01-01 UTC.
    pub not_after_s: u64,
}

/// Why a certificate says nothing.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// There is no PEM block `CERTIFICATE` in it.
    #[error("there is no PEM certificate in it: {0}")]
    Pem(rustls::pki_types::pem::Error),
    /// The block is no X.509 certificate.
    #[error("its content is no X.509 certificate: {0}")]
    X509(#[from] x509_cert::der::Error),
}

/// The facts of a file's first certificate: the one that a chain is about.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn read(path: &Path) -> Result<Facts, CertificateError> {
    let pem = fs::read(path)?;
    facts(&CertificateDer::from_pem_slice(&pem).map_err(CertificateError::Pem)?)
}

/// The facts of a certificate in DER.
///
/// # Errors
/// It is no X.509 certificate.
pub fn facts(der: &[u8]) -> Result<Facts, CertificateError> {
    let certificate = Certificate::from_der(der)?;
    let body = certificate.tbs_certificate();
    let common_name = body.subject().iter().find_map(|attribute| {
        let value = &attribute.value;
        let is_name = attribute.oid == COMMON_NAME;
        let text = match value.tag() {
            Tag::Utf8String => {
                value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned())
            }
            Tag::PrintableString => {
                value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().to_owned())
            }
            Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
            Tag::TeletexString => {
                value.decode_as::<TeletexStringRef<'_>>().ok().map(|text| text.as_str().to_owned())
            }
            _ => None,
        };
        text.filter(|_| is_name)
    });
    let names = body.get_extension::<SubjectAltName>()?.map(|(_, names)| names.0).unwrap_or_default();
    let dns_names = names.into_iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        _ => None,
    });
    Ok(Facts {
        common_name,
        dns_names: dns_names.collect(),
        not_before_s: body.validity().not_before.to_unix_duration().as_secs(),
        not_after_s: body.validity().not_after.to_unix_duration().as_secs(),
    })
}

/// `id-at-commonName` (RFC 5280, appendix A.1).
const COMMON_NAME: x509_cert::der::oid::ObjectIdentifier =
    x509_cert::der::oid::ObjectIdentifier::new_unwrap("2.5.4.3");
