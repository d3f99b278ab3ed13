//! The operator's way: thing, policy and certificate through the AWS API, with the operator's credentials.
//!
//! Every call may be repeated. A certificate is made inactive and becomes active only when it is attached,
//! so none is in force by accident. If the answer that brought a certificate was lost, it is found again
//! among the newest ones by its public key. Region and credentials come from the usual AWS environment
//! (variables, profile files, instance roles; no SSO: see `aws configure export-credentials`).

use reqwest::Method;
use serde_json::{Value, json};

use super::folder::{Certificate, Generation};
use super::iot::{Call, CallError, Iot};
use super::secret::Secret;
use super::{ProvisionError, Step, csr, policy};

/// What is to be made is there already.
const EXISTS: &str = "ResourceAlreadyExistsException";
/// What is asked for is not there.
const GONE: &str = "ResourceNotFoundException";
/// A certificate's status in force, and out of use.
const ACTIVE: &str = "ACTIVE";
const INACTIVE: &str = "INACTIVE";

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
    iot: Iot,
    wanted: Wanted,
}

impl Operator {
    /// Finds region and credentials; asks for nothing yet.
    ///
    /// # Errors
    /// No region is set.
    pub async fn new(region: Option<String>, wanted: Wanted) -> Result<Self, ProvisionError> {
        let iot = Iot::new(region).await.map_err(|why| ProvisionError::new(Step::Credentials, why))?;
        Ok(Self { iot, wanted })
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
        let path = ["things", name];
        let made = match self.iot.call(&Call::new("CreateThing", Method::POST, &path).body(json!({}))).await {
            Err(error) if error.is(EXISTS) => {
                self.iot.call(&Call::new("DescribeThing", Method::GET, &path)).await
            }
            made => made,
        };
        let thing = made.map_err(at(Step::Thing))?;
        let arn = text(&thing, "thingArn");
        arn.split_once(":thing/").map(|(prefix, _)| prefix.to_owned()).ok_or_else(|| {
            ProvisionError::new(Step::Thing, format!("AWS gave an ARN that is not one of a thing: {arn:?}"))
        })
    }

    async fn principals(&self, thing: &str) -> Result<Vec<(String, String)>, ProvisionError> {
        let path = ["things", thing, "principals"];
        let call = Call::new("ListThingPrincipals", Method::GET, &path);
        let listed = self.iot.list(&call, "principals", ["nextToken", "nextToken"], |_| true).await;
        let listed = listed.map_err(at(Step::Thing))?;
        let arns = listed.iter().filter_map(Value::as_str);
        let with_id = |arn: &str| Some((arn.split_once(":cert/")?.1.to_owned(), arn.to_owned()));
        Ok(arns.filter_map(with_id).collect())
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
        let path = ["policies", name];
        let body = json!({ "policyDocument": document.to_string() });
        match self.iot.call(&Call::new("CreatePolicy", Method::POST, &path).body(body.clone())).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is(EXISTS) => {}
            Err(error) => return Err(at(Step::Policy)(error)),
        }
        let found = self.iot.call(&Call::new("GetPolicy", Method::GET, &path)).await;
        let found = found.map_err(at(Step::Policy))?;
        let there: Value = serde_json::from_str(&text(&found, "policyDocument")).unwrap_or_default();
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
        let path = ["policies", name, "version"];
        let call = Call::new("CreatePolicyVersion", Method::POST, &path).query("setAsDefault", "true");
        self.iot.call(&call.body(body)).await.map(drop).map_err(at(Step::Policy))
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
        let call = Call::new("CreateCertificateFromCsr", Method::POST, &["certificates"]);
        let call = call.query("setAsActive", "false").body(json!({ "certificateSigningRequest": request }));
        let made = self.iot.call(&call).await.map_err(at(Step::Certificate))?;
        match (text(&made, "certificateId"), text(&made, "certificatePem")) {
            (id, pem) if id.is_empty() || pem.is_empty() => {
                Err(ProvisionError::new(Step::Certificate, "AWS gave no certificate"))
            }
            (id, pem) => Ok(Certificate { id, pem }),
        }
    }

    /// Looks through the certificates that are not older than the generation, newest first.
    async fn find_lost(&self, begun_ms: i64, key: &Secret) -> Result<Option<Certificate>, ProvisionError> {
        let oldest_s = (begun_ms / 1_000 - CLOCKS_DIFFER_S) as f64;
        let mut looked_at = 0;
        let young = |listed: &Value| {
            looked_at += 1;
            let too_old = listed["creationDate"].as_f64().is_some_and(|created_s| created_s < oldest_s);
            !too_old && looked_at <= LOOKED_AT_MAX
        };
        let newest = Call::new("ListCertificates", Method::GET, &["certificates"]);
        let newest = newest.query("isAscendingOrder", "false").query("pageSize", "250");
        let listed = self.iot.list(&newest, "certificates", ["marker", "nextMarker"], young).await;
        for listed in listed.map_err(at(Step::Certificate))? {
            let id = text(&listed, "certificateId");
            let described = self.describe(&id).await.map_err(at(Step::Certificate))?;
            let pem = text(&described, "certificatePem");
            if csr::is_for(&pem, key) {
                return Ok(Some(Certificate { id, pem }));
            }
        }
        Ok(None)
    }

    async fn describe(&self, id: &str) -> Result<Value, CallError> {
        let path = ["certificates", id];
        let described = self.iot.call(&Call::new("DescribeCertificate", Method::GET, &path)).await;
        described.map(|mut described| described["certificateDescription"].take())
    }

    /// A certificate that was in force and is not any more was put out of use on purpose.
    async fn refuse_inactive(&self, id: &str) -> Result<(), ProvisionError> {
        let described = self.describe(id).await.map_err(at(Step::Certificate))?;
        match described["status"].as_str() {
            Some(ACTIVE) | None => Ok(()),
            Some(status) => Err(ProvisionError::new(
                Step::Certificate,
                format!(
                    "{id} is {status}: somebody put it out of use. For a new key and certificate: --rotate"
                ),
            )),
        }
    }

    async fn attach(&self, thing: &str, id: &str, arn: &str) -> Result<(), ProvisionError> {
        let path = ["target-policies", &self.wanted.policy];
        let call = Call::new("AttachPolicy", Method::PUT, &path).body(json!({ "target": arn }));
        self.iot.call(&call).await.map_err(at(Step::Attach))?;
        let path = ["things", thing, "principals"];
        let call = Call::new("AttachThingPrincipal", Method::PUT, &path).principal(arn);
        self.iot.call(&call).await.map_err(at(Step::Attach))?;
        self.set_status(id, ACTIVE, Step::Attach).await
    }

    async fn set_status(&self, id: &str, status: &str, step: Step) -> Result<(), ProvisionError> {
        let path = ["certificates", id];
        let call = Call::new("UpdateCertificate", Method::PUT, &path).query("newStatus", status);
        self.iot.call(&call).await.map(drop).map_err(at(step))
    }

    async fn endpoint(&self) -> Result<String, ProvisionError> {
        let call = Call::new("DescribeEndpoint", Method::GET, &["endpoint"]);
        let found = self.iot.call(&call.query("endpointType", "iot:Data-ATS")).await;
        match text(&found.map_err(at(Step::Endpoint))?, "endpointAddress") {
            address if address.is_empty() => Err(ProvisionError::new(Step::Endpoint, "AWS gave no address")),
            address => Ok(address),
        }
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
            let arn = match self.describe(&id).await {
                Ok(described) => text(&described, "certificateArn"),
                Err(error) if error.is(GONE) => continue,
                Err(error) => return Err(at(Step::Retire)(error)),
            };
            self.remove(thing, &id, &arn).await?;
            retired.push(id);
        }
        Ok(retired)
    }

    async fn remove(&self, thing: &str, id: &str, arn: &str) -> Result<(), ProvisionError> {
        self.set_status(id, INACTIVE, Step::Retire).await?;
        let path = ["attached-policies", arn];
        let call = Call::new("ListAttachedPolicies", Method::POST, &path).body(json!({}));
        let policies = self.iot.list(&call, "policies", ["marker", "nextMarker"], |_| true).await;
        for policy in policies.map_err(at(Step::Retire))? {
            let name = text(&policy, "policyName");
            let path = ["target-policies", &name];
            let call = Call::new("DetachPolicy", Method::POST, &path).body(json!({ "target": arn }));
            self.iot.call(&call).await.map_err(at(Step::Retire))?;
        }
        let path = ["things", thing, "principals"];
        let call = Call::new("DetachThingPrincipal", Method::DELETE, &path).principal(arn);
        match self.iot.call(&call).await {
            Err(error) if !error.is(GONE) => return Err(at(Step::Retire)(error)),
            _ => {}
        }
        let path = ["certificates", id];
        let call = Call::new("DeleteCertificate", Method::DELETE, &path);
        self.iot.call(&call).await.map(drop).map_err(at(Step::Retire))
    }
}

fn at(step: Step) -> impl Fn(CallError) -> ProvisionError {
    move |error| ProvisionError::new(step, error)
}

/// A field's text; empty where there is none.
fn text(answer: &Value, field: &str) -> String {
    answer[field].as_str().unwrap_or_default().to_owned()
}
