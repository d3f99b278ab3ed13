//! The operator's way: thing, policy and certificate through the AWS API, with the operator's credentials.
//!
//! Every call may be repeated. A certificate is made inactive and becomes active only when it is attached,
//! so none is in force by accident. If the answer that brought a certificate was lost, it is found again
//! among the newest ones by its public key. Region and credentials come from the usual AWS environment
//! (variables, profile files, instance roles; no SSO: see `aws configure export-credentials`).

use aws_config::BehaviorVersion;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_iot::Client;
use aws_sdk_iot::config::Region;
use aws_sdk_iot::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iot::types::CertificateStatus;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use serde_json::Value;

use super::folder::{Certificate, Generation, Secret};
use super::{ProvisionError, Step, csr, policy};

/// Clocks of this machine and of AWS may differ by this much when a lost certificate is looked for.
const CLOCKS_DIFFER_S: i64 = 900;

/// Certificates looked at, at most, to find a lost one.
const LOOKED_AT_MAX: usize = 5_000;

/// What the operator wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The policy's name; one policy serves the fleet.
    pub policy: String,
    /// A policy of that name with another document gets a new default version.
    pub update_policy: bool,
    /// The role alias that the policy lets a gateway use.
    pub role_alias: Option<String>,
    /// Certificates of the thing that this folder does not know are put out of use.
    pub replace: bool,
}

/// An AWS account, seen through IoT Core's API.
pub struct Operator {
    iot: Client,
    wanted: Wanted,
}

impl Operator {
    /// Finds region and credentials; asks for nothing yet.
    ///
    /// # Errors
    /// No region is set.
    pub async fn new(region: Option<String>, wanted: Wanted) -> Result<Self, ProvisionError> {
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        let config = loader.load().await;
        if config.region().is_none() {
            return Err(ProvisionError::new(
                Step::Credentials,
                "no region; give --region, or set AWS_REGION",
            ));
        }
        Ok(Self { iot: Client::new(&config), wanted })
    }

    /// Takes `generation` from where it is to an attached, active certificate and an endpoint. `known`
    /// are ids of this folder's other certificates, which may be attached to the thing as well.
    ///
    /// # Errors
    /// A step failed; what was done before it is kept.
    pub async fn register(
        &self,
        generation: &mut Generation,
        known: &[String],
    ) -> Result<(), ProvisionError> {
        let key = generation.key()?;
        let thing = generation.progress.thing.clone();
        let arns = self.thing(&thing).await?;
        self.refuse_strangers(&thing, generation, known).await?;
        self.policy(&arns).await?;
        if generation.progress.certificate.is_none() {
            generation.progress.certificate = Some(self.certificate(generation, &key).await?);
            generation.save()?;
        }
        let Some(Certificate { id, .. }) = generation.progress.certificate.clone() else { return Ok(()) };
        if generation.progress.registered {
            self.refuse_inactive(&id).await?;
        }
        self.attach(&thing, &id, &format!("{arns}:cert/{id}")).await?;
        let endpoint = self.endpoint().await?;
        generation.progress.endpoint = Some(endpoint);
        generation.progress.registered = true;
        generation.save()
    }

    /// Makes the thing, or finds it; what its ARN begins with.
    async fn thing(&self, name: &str) -> Result<String, ProvisionError> {
        let failed = |action, why| problem(Step::Thing, action, why);
        let arn = match self.iot.create_thing().thing_name(name).send().await {
            Ok(made) => made.thing_arn,
            Err(error) if error.code() == Some("ResourceAlreadyExistsException") => {
                let found = self.iot.describe_thing().thing_name(name).send().await;
                found.map_err(|error| failed("iot:DescribeThing", words(&error)))?.thing_arn
            }
            Err(error) => return Err(failed("iot:CreateThing", words(&error))),
        };
        let arn = arn.unwrap_or_default();
        arn.split_once(":thing/").map(|(prefix, _)| prefix.to_owned()).ok_or_else(|| {
            ProvisionError::new(Step::Thing, format!("AWS gave an ARN that is not one of a thing: {arn:?}"))
        })
    }

    async fn principals(&self, thing: &str) -> Result<Vec<(String, String)>, ProvisionError> {
        let listed: Result<Vec<String>, _> = self
            .iot
            .list_thing_principals()
            .thing_name(thing)
            .into_paginator()
            .items()
            .send()
            .collect()
            .await;
        let arns = listed.map_err(|error| problem(Step::Thing, "iot:ListThingPrincipals", words(&error)))?;
        let with_id = |arn: String| Some((arn.split_once(":cert/")?.1.to_owned(), arn));
        Ok(arns.into_iter().filter_map(with_id).collect())
    }

    /// Another certificate on the same thing may be another machine that works under this name.
    async fn refuse_strangers(
        &self,
        thing: &str,
        generation: &Generation,
        known: &[String],
    ) -> Result<(), ProvisionError> {
        let own = generation.progress.certificate.as_ref().map(|certificate| &certificate.id);
        let principals = self.principals(thing).await?;
        let stranger = principals.iter().find(|(id, _)| Some(id) != own && !known.contains(id));
        match stranger {
            Some((id, _)) if !self.wanted.replace => Err(ProvisionError::new(
                Step::Thing,
                format!(
                    "{thing} has the certificate {id}, which this folder does not know: another machine may \
                     work under this name. Choose another name; or, if that machine is gone, --replace"
                ),
            )),
            _ => Ok(()),
        }
    }

    async fn policy(&self, arns: &str) -> Result<(), ProvisionError> {
        let name = &self.wanted.policy;
        let document = policy::document(arns, self.wanted.role_alias.as_deref());
        let failed = |action, why| problem(Step::Policy, action, why);
        let made =
            self.iot.create_policy().policy_name(name).policy_document(document.to_string()).send().await;
        match made {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some("ResourceAlreadyExistsException") => {}
            Err(error) => return Err(failed("iot:CreatePolicy", words(&error))),
        }
        let found = self.iot.get_policy().policy_name(name).send().await;
        let found = found.map_err(|error| failed("iot:GetPolicy", words(&error)))?;
        let there: Value =
            serde_json::from_str(found.policy_document().unwrap_or_default()).unwrap_or_default();
        if there == document {
            return Ok(());
        }
        if !self.wanted.update_policy {
            return Err(ProvisionError::new(
                Step::Policy,
                format!(
                    "{name} exists with another document. Give a name of its own (--policy), or \
                     --update-policy to make {document} its default version, for all that use it"
                ),
            ));
        }
        let update = self.iot.create_policy_version().policy_name(name).policy_document(document.to_string());
        let updated = update.set_as_default(true).send().await;
        updated.map(drop).map_err(|error| failed("iot:CreatePolicyVersion", words(&error)))
    }

    /// A certificate for `key`: one whose answer was lost, else a new one, inactive.
    async fn certificate(
        &self,
        generation: &Generation,
        key: &Secret,
    ) -> Result<Certificate, ProvisionError> {
        if let Some(found) = self.find_lost(generation.progress.begun_ms, key).await? {
            tracing::info!(id = found.id, "a certificate for this key was found; it is used");
            return Ok(found);
        }
        let request = csr::request(key, &generation.progress.thing)?;
        let made = self
            .iot
            .create_certificate_from_csr()
            .certificate_signing_request(request)
            .set_as_active(false)
            .send()
            .await
            .map_err(|error| problem(Step::Certificate, "iot:CreateCertificateFromCsr", words(&error)))?;
        match (made.certificate_id, made.certificate_pem) {
            (Some(id), Some(pem)) => Ok(Certificate { id, pem }),
            _ => Err(ProvisionError::new(Step::Certificate, "AWS gave no certificate")),
        }
    }

    /// Looks through the certificates that are not older than the generation, newest first.
    async fn find_lost(&self, begun_ms: i64, key: &Secret) -> Result<Option<Certificate>, ProvisionError> {
        let failed = |action, why| problem(Step::Certificate, action, why);
        let oldest_s = begun_ms / 1_000 - CLOCKS_DIFFER_S;
        let mut pages = self.iot.list_certificates().ascending_order(false).into_paginator().items().send();
        let mut looked_at = 0;
        while let Some(listed) = pages.next().await {
            let listed = listed.map_err(|error| failed("iot:ListCertificates", words(&error)))?;
            let too_old = listed.creation_date().is_some_and(|created| created.secs() < oldest_s);
            looked_at += 1;
            if too_old || looked_at > LOOKED_AT_MAX {
                break;
            }
            let id = listed.certificate_id.unwrap_or_default();
            let described = self.iot.describe_certificate().certificate_id(&id).send().await;
            let described = described.map_err(|error| failed("iot:DescribeCertificate", words(&error)))?;
            let pem = described.certificate_description.and_then(|found| found.certificate_pem);
            if let Some(pem) = pem.filter(|pem| csr::is_for(pem, key)) {
                return Ok(Some(Certificate { id, pem }));
            }
        }
        Ok(None)
    }

    /// A certificate that was in force and is not any more was put out of use on purpose.
    async fn refuse_inactive(&self, id: &str) -> Result<(), ProvisionError> {
        let described = self.iot.describe_certificate().certificate_id(id).send().await;
        let described = described
            .map_err(|error| problem(Step::Certificate, "iot:DescribeCertificate", words(&error)))?;
        let status = described.certificate_description.and_then(|found| found.status);
        match status {
            Some(CertificateStatus::Active) | None => Ok(()),
            Some(status) => Err(ProvisionError::new(
                Step::Certificate,
                format!(
                    "{id} is {status}: somebody put it out of use. For a new key and certificate: --rotate"
                ),
            )),
        }
    }

    async fn attach(&self, thing: &str, id: &str, arn: &str) -> Result<(), ProvisionError> {
        let failed = |action, why| problem(Step::Attach, action, why);
        let attached = self.iot.attach_policy().policy_name(&self.wanted.policy).target(arn).send().await;
        attached.map_err(|error| failed("iot:AttachPolicy", words(&error)))?;
        let attached = self.iot.attach_thing_principal().thing_name(thing).principal(arn).send().await;
        attached.map_err(|error| failed("iot:AttachThingPrincipal", words(&error)))?;
        self.set_status(id, CertificateStatus::Active, Step::Attach).await
    }

    async fn set_status(
        &self,
        id: &str,
        status: CertificateStatus,
        step: Step,
    ) -> Result<(), ProvisionError> {
        let set = self.iot.update_certificate().certificate_id(id).new_status(status).send().await;
        set.map(drop).map_err(|error| problem(step, "iot:UpdateCertificate", words(&error)))
    }

    async fn endpoint(&self) -> Result<String, ProvisionError> {
        let found = self.iot.describe_endpoint().endpoint_type("iot:Data-ATS").send().await;
        let found = found.map_err(|error| problem(Step::Endpoint, "iot:DescribeEndpoint", words(&error)))?;
        found.endpoint_address.ok_or_else(|| ProvisionError::new(Step::Endpoint, "AWS gave no address"))
    }

    /// Puts other certificates out of use and removes them: those of `known`, and with `replace` any other
    /// of the thing. The ids of those that were there.
    ///
    /// # Errors
    /// A call failed; the next run does the rest.
    pub async fn retire(
        &self,
        thing: &str,
        keep: &str,
        known: &[String],
    ) -> Result<Vec<String>, ProvisionError> {
        let mut ids = known.to_vec();
        if self.wanted.replace {
            ids.extend(self.principals(thing).await?.into_iter().map(|(id, _)| id));
        }
        ids.retain(|id| id != keep);
        ids.sort();
        ids.dedup();
        let mut retired = Vec::new();
        for id in ids {
            let described = self.iot.describe_certificate().certificate_id(&id).send().await;
            let arn = match described {
                Ok(described) => described.certificate_description.and_then(|found| found.certificate_arn),
                Err(error) if is_gone(&error) => continue,
                Err(error) => {
                    return Err(problem(Step::Retire, "iot:DescribeCertificate", words(&error)));
                }
            };
            self.remove(thing, &id, &arn.unwrap_or_default()).await?;
            retired.push(id);
        }
        Ok(retired)
    }

    async fn remove(&self, thing: &str, id: &str, arn: &str) -> Result<(), ProvisionError> {
        let failed = |action, why| problem(Step::Retire, action, why);
        self.set_status(id, CertificateStatus::Inactive, Step::Retire).await?;
        let policies: Result<Vec<_>, _> =
            self.iot.list_attached_policies().target(arn).into_paginator().items().send().collect().await;
        let policies = policies.map_err(|error| failed("iot:ListAttachedPolicies", words(&error)))?;
        for name in policies.into_iter().filter_map(|policy| policy.policy_name) {
            let detached = self.iot.detach_policy().policy_name(name).target(arn).send().await;
            detached.map_err(|error| failed("iot:DetachPolicy", words(&error)))?;
        }
        let detached = self.iot.detach_thing_principal().thing_name(thing).principal(arn).send().await;
        if let Err(error) = detached
            && !is_gone(&error)
        {
            return Err(failed("iot:DetachThingPrincipal", words(&error)));
        }
        let deleted = self.iot.delete_certificate().certificate_id(id).send().await;
        deleted.map(drop).map_err(|error| failed("iot:DeleteCertificate", words(&error)))
    }
}

fn is_gone<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.code() == Some("ResourceNotFoundException")
}

fn problem(step: Step, action: &str, (code, why): (Option<String>, String)) -> ProvisionError {
    let denied = code.is_some_and(|code| code.contains("AccessDenied") || code.contains("Unauthorized"));
    let advice = if denied { "; these credentials need that action" } else { "" };
    ProvisionError::new(step, format!("{action}: {why}{advice}"))
}

fn is_about_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<CredentialsError>() || error.source().is_some_and(is_about_credentials)
}

/// The error's code, and its words without request, response or credentials.
fn words<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> (Option<String>, String) {
    let code = error.code().map(str::to_owned);
    let why = match error {
        SdkError::ServiceError(_) => {
            format!("{}: {}", error.code().unwrap_or("error"), error.message().unwrap_or("no message"))
        }
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) if is_about_credentials(error) => {
                "there are no usable credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, or run under a role"
                    .into()
            }
            _ => "AWS cannot be reached, or broke off; see network, region and AWS_ENDPOINT_URL".into(),
        },
        SdkError::TimeoutError(_) => "AWS did not answer in time".into(),
        _ => "the answer cannot be understood, or the request could not be made".into(),
    };
    (code, why)
}
