//! The private key and the certificate request for it: ECDSA on P-256, which AWS IoT signs and ring checks.

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::secret::Secret;
use super::{ProvisionError, Step};

/// A new private key, in PEM.
///
/// # Errors
/// The system has no random numbers.
pub fn new_key() -> Result<Secret, ProvisionError> {
    let key = KeyPair::generate().map_err(|error| ProvisionError::new(Step::Key, error))?;
    Ok(Secret(key.serialize_pem()))
}

/// The request for a certificate in PEM: the thing's name as common name, signed with `key`.
///
/// # Errors
/// The key cannot be read.
pub fn request(key: &Secret, name: &str) -> Result<String, ProvisionError> {
    let signed = || {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serialize_request(&KeyPair::from_pem(&key.0)?)?.pem()
    };
    signed().map_err(|error| ProvisionError::new(Step::Key, format!("the key file cannot be used: {error}")))
}

/// Whether a certificate in PEM is for `key`: it holds the key's public point.
pub fn is_for(certificate: &str, key: &Secret) -> bool {
    let (Ok(key), Ok(certificate)) =
        (KeyPair::from_pem(&key.0), CertificateDer::from_pem_slice(certificate.as_bytes()))
    else {
        return false;
    };
    let point = key.public_key_raw();
    certificate.windows(point.len()).any(|bytes| bytes == point)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_certificate_is_told_apart_by_its_key() {
        let (mine, other) = (new_key().unwrap(), new_key().unwrap());
        let certificate = CertificateParams::new(vec!["gw-1".into()])
            .unwrap()
            .self_signed(&KeyPair::from_pem(&mine.0).unwrap())
            .unwrap()
            .pem();
        assert!(is_for(&certificate, &mine) && !is_for(&certificate, &other));
        assert!(request(&mine, "gw-1").unwrap().starts_with("-----BEGIN CERTIFICATE REQUEST"));
        let canary = Secret("canary-key".into());
        assert!(!request(&canary, "gw-1").unwrap_err().to_string().contains("canary"));
    }
}
