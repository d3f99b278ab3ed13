//! How a gateway gets its identity: a private key made on this machine, a certificate for it, an endpoint.
//!
//! Two ways lead to a certificate: an operator with AWS credentials ([`operator`], feature `aws`), or the
//! device itself with a claim certificate ([`claim`], fleet provisioning over MQTT). Both fill a
//! [`folder::Generation`], step by step, each step on disk before the next one begins: after a cut the
//! same command goes on where it stopped and ends in the same state, with one thing and one active
//! certificate. A rotation is a second generation beside the first: it must connect ([`connection`])
//! before it is switched to, in one rename. The private key never leaves its folder (mode 0600); keys,
//! tokens and credentials are in no message. Keys in hardware (TPM, PKCS#11) are not done.

pub mod claim;
pub mod command;
pub mod connection;
pub mod csr;
pub mod folder;
#[cfg(feature = "aws")]
mod iot;
#[cfg(feature = "aws")]
pub mod operator;
#[cfg(feature = "aws")]
pub mod policy;
pub mod secret;
pub mod settings;

use std::fmt;

/// A step on the way to an identity. Its words begin every message about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The folder of keys and certificates.
    Folder,
    /// Key and certificate request.
    Key,
    /// The operator's credentials and region.
    Credentials,
    /// The thing in the registry.
    Thing,
    /// The policy.
    Policy,
    /// The certificate.
    Certificate,
    /// Certificate, policy and thing tied together, and the certificate made active.
    Attach,
    /// The data endpoint.
    Endpoint,
    /// A connection with the claim certificate.
    ClaimConnection,
    /// Registration by the provisioning template.
    Register,
    /// A connection with the new certificate.
    Check,
    /// The old certificate put out of use.
    Retire,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Folder => "the identity's folder",
            Self::Key => "key and certificate request",
            Self::Credentials => "AWS credentials",
            Self::Thing => "the thing",
            Self::Policy => "the policy",
            Self::Certificate => "the certificate",
            Self::Attach => "attaching the certificate",
            Self::Endpoint => "the data endpoint",
            Self::ClaimConnection => "connecting with the claim certificate",
            Self::Register => "registering by the template",
            Self::Check => "connecting with the new certificate",
            Self::Retire => "retiring the old certificate",
        })
    }
}

/// Which step failed, why, and what to do. What was done before it is kept; run the command again.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {why}")]
pub struct ProvisionError {
    /// The step.
    pub step: Step,
    /// Why, and what to do about it.
    pub why: String,
}

impl ProvisionError {
    fn new(step: Step, why: impl fmt::Display) -> Self {
        Self { step, why: why.to_string() }
    }
}
