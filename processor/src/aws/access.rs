//! Where AWS is, and as whom this program calls it: one answer for the lake's bucket and for every other call.
//!
//! Region, endpoints and credentials come from the `AWS_*` environment variables that AWS's own programs know. An endpoint in AWS's place
//! is taken without encryption on this machine only, unless `AWS_ALLOW_HTTP` allows it. Nothing is asked for before the
//! first call.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use object_store::{CredentialProvider, RetryConfig};
use url::{Host, Url};

use super::error::SetupError;

/// Longest wait for credentials.
pub const ACCESS_MAX: Duration = Duration::from_secs(10);

/// The services that are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The lake.
    S3,
    /// Queues.
    Sqs,
    /// Topics.
    Sns,
    /// The catalog.
    Glue,
    /// Queries.
    Athena,
    /// Keys that must not stand in the environment.
    SecretsManager,
}

impl Service {
    const ALL: [Self; 6] = [Self::S3, Self::Sqs, Self::Sns, Self::Glue, Self::Athena, Self::SecretsManager];

    /// Its name in hosts, signatures and IAM actions.
    pub fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Sqs => "sqs",
            Self::Sns => "sns",
            Self::Glue => "glue",
            Self::Athena => "athena",
            Self::SecretsManager => "secretsmanager",
        }
    }

    /// The variable that names an endpoint in its place.
    fn endpoint_variable(self) -> &'static str {
        match self {
            Self::S3 => "AWS_ENDPOINT_URL_S3",
            Self::Sqs => "AWS_ENDPOINT_URL_SQS",
            Self::Sns => "AWS_ENDPOINT_URL_SNS",
            Self::Glue => "AWS_ENDPOINT_URL_GLUE",
            Self::Athena => "AWS_ENDPOINT_URL_ATHENA",
            Self::SecretsManager => "AWS_ENDPOINT_URL_SECRETS_MANAGER",
        }
    }
}

/// The region, the endpoints and the credentials.
#[derive(Clone, Debug)]
pub struct Access {
    region: String,
    endpoints: Vec<Url>,
    credentials: Credentials,
}

impl Access {
    /// Reads the environment.
    ///
    /// # Errors
    /// A variable is missing or wrong.
    pub fn from_env() -> Result<Self, SetupError> {
        Self::new(|name| env::var(name).ok().filter(|value| !value.is_empty()), AmazonS3Builder::from_env())
    }

    /// The same from `variables`, and from a builder that knows where credentials are.
    pub(super) fn new(
        variables: impl Fn(&str) -> Option<String>,
        credentials: AmazonS3Builder,
    ) -> Result<Self, SetupError> {
        let region = variables("AWS_REGION").or_else(|| variables("AWS_DEFAULT_REGION"));
        let region = region.ok_or(SetupError::Region)?;
        let allow_http = variables("AWS_ALLOW_HTTP").is_some_and(|value| value == "true");
        let endpoint = |service: Service| {
            let stand_ins = [service.endpoint_variable(), "AWS_ENDPOINT_URL"];
            match stand_ins.into_iter().find_map(|variable| Some((variable, variables(variable)?))) {
                Some((variable, url)) => stand_in(variable, &url, allow_http),
                None => {
                    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                    let url = format!("https://{}.{region}.{domain}/", service.name());
                    Url::parse(&url).map_err(|_| SetupError::Region)
                }
            }
        };
        let endpoints = Service::ALL.into_iter().map(endpoint).collect::<Result<_, _>>()?;
        let retry = RetryConfig { max_retries: 2, retry_timeout: ACCESS_MAX, ..RetryConfig::default() };
        // The store is made for its chain of credentials alone; it needs the name of some bucket.
        let store = credentials.with_bucket_name("none").with_region(&region).with_retry(retry).build();
        let credentials = Credentials(store.map_err(SetupError::Credentials)?.credentials().clone());
        Ok(Self { region, endpoints, credentials })
    }

    /// The region of all calls.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Where a service is.
    pub(super) fn endpoint(&self, service: Service) -> &Url {
        &self.endpoints[service as usize]
    }

    /// Where credentials come from.
    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

/// An endpoint in AWS's place; without encryption only on this machine, unless it is allowed.
fn stand_in(variable: &'static str, url: &str, allow_http: bool) -> Result<Url, SetupError> {
    let Some(url) = Url::parse(url).ok().filter(Url::has_host) else {
        return Err(SetupError::Endpoint { variable });
    };
    let here = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if here || allow_http => Ok(url),
        "http" => Err(SetupError::Plain { variable }),
        _ => Err(SetupError::Endpoint { variable }),
    }
}

/// Where credentials come from: the environment, a web identity, a container or an instance.
#[derive(Clone, Debug)]
pub(super) struct Credentials(AwsCredentialProvider);

impl Credentials {
    /// The credentials of now, or why there are none.
    pub async fn current(&self) -> Result<Arc<AwsCredential>, String> {
        match tokio::time::timeout(ACCESS_MAX, self.0.get_credential()).await {
            Ok(Ok(credential)) if fits_a_header(&credential) => Ok(credential),
            Ok(Ok(_)) => Err("a key has characters that no key has".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", ACCESS_MAX.as_secs())),
        }
    }
}

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let none =
            |why: String| object_store::Error::Unauthenticated { path: String::new(), source: why.into() };
        self.current().await.map_err(none)
    }
}

/// Signers take this for granted.
fn fits_a_header(credential: &AwsCredential) -> bool {
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    visible(&credential.key_id) && credential.token.as_deref().is_none_or(visible)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use super::*;

    /// As somebody with keys, where the variables say.
    pub fn access(variables: &[(&str, &str)]) -> Result<Access, SetupError> {
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let credentials = AmazonS3Builder::new()
            .with_access_key_id("AKID")
            .with_secret_access_key("secret")
            .with_token("token");
        Access::new(|name| variables.get(name).cloned(), credentials)
    }

    #[test]
    fn what_the_environment_lacks_is_named() {
        let error = |variables: &[(&str, &str)]| access(variables).unwrap_err().to_string();
        assert!(error(&[]).contains("AWS_REGION"));
        let region = ("AWS_REGION", "eu-west-1");
        assert!(error(&[region, ("AWS_ENDPOINT_URL", "moto")]).starts_with("AWS_ENDPOINT_URL is not"));
        for variable in ["AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SECRETS_MANAGER"] {
            let plain = (variable, "http://10.0.0.1:4566");
            let wanted = format!("{variable} is http:// to another machine");
            assert!(error(&[region, plain]).starts_with(&wanted));
            access(&[region, plain, ("AWS_ALLOW_HTTP", "true")]).unwrap();
            access(&[region, (variable, "http://127.0.0.1:4566")]).unwrap();
        }
    }

    #[test]
    fn without_a_stand_in_a_service_is_at_its_own_host_in_the_region() {
        let access = access(&[("AWS_DEFAULT_REGION", "cn-north-1")]).unwrap();
        let at = |service| access.endpoint(service).as_str().to_owned();
        assert_eq!(at(Service::Athena), "https://athena.cn-north-1.amazonaws.com.cn/");
        assert_eq!(at(Service::S3), "https://s3.cn-north-1.amazonaws.com.cn/");
        assert_eq!(at(Service::SecretsManager), "https://secretsmanager.cn-north-1.amazonaws.com.cn/");
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", access(&[("AWS_REGION", "eu-west-1")]).unwrap()).contains("secret\""));
    }
}
