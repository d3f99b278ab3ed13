//! Fleet provisioning over MQTT: the device trades a claim certificate for one of its own.
//!
//! Key and request are made here; `$aws/certificates/create-from-csr/json` gives the certificate and an
//! ownership token, `$aws/provisioning-templates/<template>/provision/json` registers it. Each answer is on
//! disk before the next question. If the answer to the second question was lost, a connection with the
//! certificate shows whether it was registered. A token that has expired (an hour) means a new certificate
//! for the same key; AWS deletes the unregistered one by itself.
//! (Source: AWS IoT Core, "Device provisioning MQTT API".)

use std::collections::BTreeMap;

use serde::Deserialize;

use super::connection::{AskError, Connection, Endpoint};
use super::folder::{Certificate, Generation};
use super::secret::Secret;
use super::{ProvisionError, Step, csr};
use crate::uplink::tls::TlsPaths;

/// New certificates asked for in one run; the second one is for an expired token.
const CERTIFICATES_MAX: u32 = 2;

/// What a device needs to ask for its identity.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Where to ask.
    pub endpoint: Endpoint,
    /// The claim certificate, its key, and the roots.
    pub tls: TlsPaths,
    /// The provisioning template.
    pub template: String,
    /// Its parameters. `ThingName` is the gateway's name unless it is given.
    pub parameters: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    certificate_id: String,
    certificate_pem: String,
    certificate_ownership_token: Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    thing_name: String,
}

impl Claim {
    /// Takes `generation` from where it is to a registered certificate.
    ///
    /// # Errors
    /// A step failed; what was done before it is on disk.
    pub async fn register(&self, generation: &mut Generation) -> Result<(), ProvisionError> {
        let mut certificates = 0;
        while !generation.progress.registered {
            if generation.progress.registering && self.is_registered(generation).await {
                self.note_registered(generation)?;
                break;
            }
            let mut connection = self.connect(&generation.progress.thing).await?;
            let done = self.ask_all(&mut connection, generation, &mut certificates).await;
            connection.close().await;
            done?;
        }
        Ok(())
    }

    async fn connect(&self, thing: &str) -> Result<Connection, ProvisionError> {
        // Not the thing's own name: a rotation must not push the running daemon off the broker.
        let client_id = format!("{thing}-claim");
        Connection::open(&self.endpoint, &self.tls, &client_id).await.map_err(|why| {
            let advice = "see that the claim certificate is active and its policy allows iot:Connect";
            ProvisionError::new(Step::ClaimConnection, format!("{why}; {advice} for client {client_id}"))
        })
    }

    async fn ask_all(
        &self,
        connection: &mut Connection,
        generation: &mut Generation,
        certificates: &mut u32,
    ) -> Result<(), ProvisionError> {
        if generation.progress.certificate.is_none() || generation.progress.ownership_token.is_none() {
            *certificates += 1;
            self.create_certificate(connection, generation).await?;
        }
        generation.progress.registering = true;
        generation.save()?;
        match self.provision(connection, generation).await {
            Ok(thing) if thing == generation.progress.thing => self.note_registered(generation),
            Ok(thing) => Err(ProvisionError::new(
                Step::Register,
                format!(
                    "the template {} named the thing {thing:?}; run the command with --name {thing:?} and a \
                     new --dir, or make the template use the parameter ThingName",
                    self.template
                ),
            )),
            Err(AskError::Rejected(rejection))
                if is_token_problem(&rejection.error_code) && *certificates < CERTIFICATES_MAX =>
            {
                tracing::warn!(
                    code = rejection.error_code,
                    "the ownership token is no longer good; a new certificate is asked for, for the same key"
                );
                let progress = &mut generation.progress;
                (progress.certificate, progress.ownership_token, progress.registering) = (None, None, false);
                generation.save()
            }
            Err(error) => Err(ProvisionError::new(Step::Register, self.advice(&error))),
        }
    }

    async fn create_certificate(
        &self,
        connection: &mut Connection,
        generation: &mut Generation,
    ) -> Result<(), ProvisionError> {
        let failed = |why: String| ProvisionError::new(Step::Certificate, why);
        let key = generation.key()?;
        let request = csr::request(&key, &generation.progress.thing)?;
        let question = serde_json::json!({ "certificateSigningRequest": request }).to_string();
        let answer = connection.ask("$aws/certificates/create-from-csr/json", question).await;
        let answer = answer.map_err(|error| {
            let advice = "the claim certificate's policy needs iot:Publish, iot:Subscribe and iot:Receive for \
                          $aws/certificates/create-from-csr/*";
            failed(format!("{error}; {advice}"))
        })?;
        // A parser's message could quote the answer, which holds the token.
        let created: Created =
            serde_json::from_slice(&answer).map_err(|_| failed("the answer cannot be understood".into()))?;
        if !csr::is_for(&created.certificate_pem, &key) {
            return Err(failed("the certificate that came back is not for this machine's key".into()));
        }
        generation.progress.certificate =
            Some(Certificate { id: created.certificate_id, pem: created.certificate_pem });
        generation.progress.ownership_token = Some(created.certificate_ownership_token);
        generation.save()
    }

    async fn provision(
        &self,
        connection: &mut Connection,
        generation: &Generation,
    ) -> Result<String, AskError> {
        let mut parameters = self.parameters.clone();
        parameters.entry("ThingName".into()).or_insert_with(|| generation.progress.thing.clone());
        let token = generation.progress.ownership_token.as_ref().map(|token| &token.0);
        let question =
            serde_json::json!({ "certificateOwnershipToken": token, "parameters": parameters }).to_string();
        let topic = format!("$aws/provisioning-templates/{}/provision/json", self.template);
        let answer = connection.ask(&topic, question).await?;
        let registered: Registered = serde_json::from_slice(&answer)
            .map_err(|_| AskError::Lost("the answer cannot be understood".into()))?;
        Ok(registered.thing_name)
    }

    /// Whether the certificate works already: the answer that said so may have been lost.
    async fn is_registered(&self, generation: &Generation) -> bool {
        let connected = connect_as(&self.endpoint, &self.tls, generation).await;
        match connected {
            Ok(connection) => {
                connection.close().await;
                true
            }
            Err(_) => false,
        }
    }

    fn note_registered(&self, generation: &mut Generation) -> Result<(), ProvisionError> {
        let progress = &mut generation.progress;
        (progress.registered, progress.ownership_token) = (true, None);
        progress.endpoint = Some(self.endpoint.host.clone());
        generation.save()
    }

    fn advice(&self, error: &AskError) -> String {
        let template = &self.template;
        match error {
            AskError::Lost(_) => format!("{error}; run the command again, it goes on from here"),
            AskError::Rejected(rejection) => {
                let advice = match rejection.error_code.as_str() {
                    "InvalidParameters" => "see which parameters the template wants (--parameter NAME=VALUE)",
                    "AccessDenied" | "Unauthorized" => {
                        "the pre-provisioning hook or a policy refuses this device"
                    }
                    "ResourceNotFound" | "TemplateNotFound" => "see that the template's name is right",
                    _ => "see that the template is enabled, and its provisioning role",
                };
                format!("template {template}: {error}; {advice}")
            }
        }
    }
}

/// Connects with the generation's own certificate under the thing's name, as the daemon will.
///
/// # Errors
/// In words: the connection is not taken.
pub(super) async fn connect_as(
    endpoint: &Endpoint,
    roots: &TlsPaths,
    generation: &Generation,
) -> Result<Connection, String> {
    let tls = TlsPaths { ca: roots.ca.clone(), cert: generation.cert_path(), key: generation.key_path() };
    Connection::open(endpoint, &tls, &generation.progress.thing).await
}

fn is_token_problem(error_code: &str) -> bool {
    error_code.contains("OwnershipToken") || error_code.contains("InvalidCertificateId")
}
