//! One signed POST, tried again where that can help.
//!
//! A try has a time limit. What is throttled, fails inside the service or gets no answer is tried
//! again, [`TRIES_MAX`] times in all, with growing pauses of random length; a call may so be made twice,
//! which all calls of this module bear. Redirects are not followed: a signature is for one host.

use std::env;
use std::time::Duration;

use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::{Host, Url};

use super::error::{CallError, SetupError, code_and_message};

/// One try, in all.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one call.
pub const TRIES_MAX: u32 = 4;
/// The longest pause before the second try; doubled before each further one.
pub const PAUSE_MS: u64 = 200;
/// Longest wait for credentials.
pub const ACCESS_MAX: Duration = Duration::from_secs(10);

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// The services that are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Queues.
    Sqs,
    /// Topics.
    Sns,
    /// The catalog.
    Glue,
    /// Queries.
    Athena,
}

impl Service {
    const ALL: [Self; 4] = [Self::Sqs, Self::Sns, Self::Glue, Self::Athena];

    /// Its name in hosts, signatures and IAM actions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqs => "sqs",
            Self::Sns => "sns",
            Self::Glue => "glue",
            Self::Athena => "athena",
        }
    }
}

/// What is called.
pub(super) struct Call<'a> {
    pub service: Service,
    /// Its name, which is also that of the IAM action: `SendMessage`.
    pub action: &'static str,
    /// For messages: what it is done to, as an ARN.
    pub resource: &'a str,
    /// The content type.
    pub content_type: &'static str,
    /// What stands before the action in `X-Amz-Target`, in the JSON protocols.
    pub target: Option<&'static str>,
    pub body: String,
}

/// AWS, with this program's identity.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    credentials: AwsCredentialProvider,
    region: String,
    endpoints: Vec<Url>,
}

impl Client {
    /// Reads region, endpoints and where credentials come from; asks for nothing yet.
    ///
    /// # Errors
    /// A variable is missing or wrong.
    pub fn from_env() -> Result<Self, SetupError> {
        Self::new(|name| env::var(name).ok().filter(|value| !value.is_empty()), AmazonS3Builder::from_env())
    }

    /// The same from `variables`, and from a builder that knows where credentials are.
    fn new(
        variables: impl Fn(&str) -> Option<String>,
        credentials: AmazonS3Builder,
    ) -> Result<Self, SetupError> {
        let region = variables("AWS_REGION").or_else(|| variables("AWS_DEFAULT_REGION"));
        let region = region.ok_or(SetupError::Region)?;
        let allow_http = variables("AWS_ALLOW_HTTP").is_some_and(|value| value == "true");
        let endpoint = |service: Service| {
            let own = format!("AWS_ENDPOINT_URL_{}", service.name().to_uppercase());
            let variable =
                [own, "AWS_ENDPOINT_URL".to_owned()].into_iter().find(|one| variables(one).is_some());
            match variable {
                Some(variable) => {
                    let url = variables(&variable).unwrap_or_default();
                    stand_in(variable, &url, allow_http)
                }
                None => {
                    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                    let url = format!("https://{}.{region}.{domain}/", service.name());
                    Url::parse(&url).map_err(|_| SetupError::Region)
                }
            }
        };
        let retry = RetryConfig { max_retries: 2, retry_timeout: ACCESS_MAX, ..RetryConfig::default() };
        // The store is made for its chain of credentials alone; it needs the name of some bucket.
        let store = credentials.with_bucket_name("none").with_region(&region).with_retry(retry).build();
        Ok(Self {
            http: reqwest::Client::builder()
                .timeout(TIMEOUT)
                .redirect(Policy::none())
                .build()
                .map_err(SetupError::Client)?,
            credentials: store.map_err(SetupError::Credentials)?.credentials().clone(),
            endpoints: Service::ALL.into_iter().map(endpoint).collect::<Result<_, _>>()?,
            region,
        })
    }

    /// The region of all calls.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Makes a call; the answer's body.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<String, CallError> {
        let action = format!("{}:{}", call.service.name(), call.action);
        let mut tries = 0;
        loop {
            let request = self.signed(call, &action).await?;
            let sent = match self.http.execute(request).await {
                Ok(answer) => {
                    let status = answer.status();
                    answer.text().await.map(|body| (status, body))
                }
                Err(error) => Err(error),
            };
            tries += 1;
            let failure = match sent {
                Ok((status, body)) if status.is_success() => return Ok(body),
                Ok((status, body)) => {
                    let (code, message) = code_and_message(&body);
                    let again = can_change(status, &code);
                    let failure = CallError::refusal(&action, call.resource, status.as_u16(), code, message);
                    if !again {
                        return Err(failure);
                    }
                    failure
                }
                Err(source) => CallError::NoAnswer {
                    action: action.clone(),
                    resource: call.resource.to_owned(),
                    source: source.without_url(),
                },
            };
            if tries == TRIES_MAX {
                return Err(failure);
            }
            let most_ms = PAUSE_MS << tries;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(most_ms / 4..=most_ms))).await;
        }
    }

    /// Makes a call of a JSON protocol.
    pub(super) async fn call_json(&self, call: &Call<'_>) -> Result<Value, CallError> {
        let body = self.call(call).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&body).map_err(|error| CallError::Answer {
            action: format!("{}:{}", call.service.name(), call.action),
            resource: call.resource.to_owned(),
            what: error.to_string(),
        })
    }

    async fn signed(&self, call: &Call<'_>, action: &str) -> Result<reqwest::Request, CallError> {
        let no_credentials = |why| CallError::no_credentials(action, call.resource, why);
        let found = tokio::time::timeout(ACCESS_MAX, self.credentials.get_credential()).await;
        let credential = match found {
            Ok(Ok(credential)) if fits_a_header(&credential) => credential,
            Ok(Ok(_)) => return Err(no_credentials(Some("a key has characters that no key has".to_owned()))),
            Ok(Err(error)) => return Err(no_credentials(Some(error.to_string()))),
            Err(_) => return Err(no_credentials(None)),
        };
        let broken = |what: &str| CallError::Answer {
            action: action.to_owned(),
            resource: call.resource.to_owned(),
            what: format!("the request's {what} cannot be written"),
        };
        let endpoint = &self.endpoints[call.service as usize];
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(call.content_type));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(target) = call.target {
            let target = HeaderValue::from_str(&format!("{target}.{}", call.action));
            headers.insert(TARGET, target.map_err(|_| broken("target"))?);
        }
        let mut unsigned = HttpRequest::new(HttpRequestBody::from(call.body.clone()));
        *unsigned.method_mut() = Method::POST;
        *unsigned.uri_mut() = endpoint.as_str().parse().map_err(|_| broken("URL"))?;
        *unsigned.headers_mut() = headers;
        AwsAuthorizer::new(&credential, call.service.name(), &self.region).authorize(&mut unsigned, None);
        let mut signed = reqwest::Request::new(Method::POST, endpoint.clone());
        *signed.headers_mut() = std::mem::take(unsigned.headers_mut());
        // It was signed; on the wire it follows from the URL.
        signed.headers_mut().remove(HOST);
        *signed.body_mut() = Some(call.body.clone().into());
        Ok(signed)
    }
}

/// Whether the same call may succeed a moment later.
fn can_change(status: StatusCode, code: &str) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || code.starts_with("Throttl")
        || matches!(
            code,
            "RequestThrottled" | "RequestLimitExceeded" | "TooManyRequestsException" | "SlowDown"
        )
}

/// The signer takes this for granted.
fn fits_a_header(credential: &AwsCredential) -> bool {
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    visible(&credential.key_id) && credential.token.as_deref().is_none_or(visible)
}

/// An endpoint in AWS's place; without encryption only on this machine, unless it is allowed.
fn stand_in(variable: String, url: &str, allow_http: bool) -> Result<Url, SetupError> {
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

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::HashMap;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    /// A client of a server that gives these answers, a connection each, and hands back the requests.
    pub async fn scripted(answers: &[(u16, &str)]) -> (Client, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/", listener.local_addr().unwrap());
        let answers: Vec<(u16, String)> = answers.iter().map(|(s, body)| (*s, (*body).to_owned())).collect();
        let served = tokio::spawn(async move {
            let mut requests = Vec::new();
            for (status, body) in answers {
                let (mut connection, _) = listener.accept().await.unwrap();
                requests.push(read_request(&mut connection).await);
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                );
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
            requests
        });
        (client(&[("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL", &endpoint)]).unwrap(), served)
    }

    async fn read_request(connection: &mut tokio::net::TcpStream) -> String {
        let mut request = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let read = connection.read(&mut chunk).await.unwrap();
            request.extend_from_slice(&chunk[..read]);
            let text = String::from_utf8_lossy(&request).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.unwrap_or("0").parse::<usize>().unwrap() || read == 0 {
                return text;
            }
        }
    }

    fn client(variables: &[(&str, &str)]) -> Result<Client, SetupError> {
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let credentials = AmazonS3Builder::new()
            .with_access_key_id("AKID")
            .with_secret_access_key("secret")
            .with_token("token");
        Client::new(|name| variables.get(name).cloned(), credentials)
    }

    fn call() -> Call<'static> {
        Call {
            service: Service::Glue,
            action: "GetTable",
            resource: "arn:aws:glue:eu-west-1:*:table/lake/orders",
            content_type: "application/x-amz-json-1.1",
            target: Some("AWSGlue"),
            body: "{}".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_call_is_signed_for_its_service_and_shows_no_secret() {
        let (client, served) = scripted(&[(200, "{\"a\":1}")]).await;
        assert_eq!(client.call(&call()).await.unwrap(), "{\"a\":1}");
        let request = served.await.unwrap().remove(0);
        assert!(request.contains("x-amz-target: AWSGlue.GetTable"), "{request}");
        assert!(request.contains("/eu-west-1/glue/aws4_request, SignedHeaders="), "{request}");
        assert!(request.contains("x-amz-security-token: token"), "{request}");
        assert!(!request.contains("secret"), "{request}");
    }

    #[tokio::test]
    async fn throttling_and_faults_of_the_service_are_tried_again() {
        let throttled = "{\"__type\":\"ThrottlingException\",\"message\":\"slow\"}";
        let (client, served) = scripted(&[(400, throttled), (503, ""), (200, "done")]).await;
        assert_eq!(client.call(&call()).await.unwrap(), "done");
        assert_eq!(served.await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn tries_are_bounded_and_the_last_failure_is_told() {
        let answers = vec![
            (500, "{\"__type\":\"InternalServiceException\",\"message\":\"sorry\"}");
            TRIES_MAX as usize
        ];
        let (client, served) = scripted(&answers).await;
        let error = client.call(&call()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "glue:GetTable on arn:aws:glue:eu-west-1:*:table/lake/orders: status 500, InternalServiceException: sorry"
        );
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_denial_is_told_at_once_with_what_is_missing() {
        let denied = "{\"__type\":\"AccessDeniedException\",\"Message\":\"User is not authorized\"}";
        let (client, served) = scripted(&[(400, denied)]).await;
        let error = client.call(&call()).await.unwrap_err();
        assert!(matches!(&error, CallError::Denied { action, .. } if action == "glue:GetTable"), "{error}");
        assert!(error.to_string().contains("User is not authorized"), "{error}");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn nobody_there_is_told_without_an_address() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let endpoint = format!("http://{closed}/");
        let client = client(&[("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL_GLUE", &endpoint)]).unwrap();
        let error = client.call(&call()).await.unwrap_err();
        assert!(matches!(error, CallError::NoAnswer { .. }), "{error}");
    }

    #[test]
    fn what_the_environment_lacks_is_named() {
        let error = |variables: &[(&str, &str)]| client(variables).unwrap_err().to_string();
        assert!(error(&[]).contains("AWS_REGION"));
        let region = ("AWS_REGION", "eu-west-1");
        assert!(error(&[region, ("AWS_ENDPOINT_URL", "moto")]).starts_with("AWS_ENDPOINT_URL is not"));
        let plain = ("AWS_ENDPOINT_URL_SQS", "http://10.0.0.1:4566");
        assert!(error(&[region, plain]).starts_with("AWS_ENDPOINT_URL_SQS is http:// to another machine"));
        client(&[region, plain, ("AWS_ALLOW_HTTP", "true")]).unwrap();
    }

    #[test]
    fn without_a_stand_in_a_service_is_at_its_own_host_in_the_region() {
        let client = client(&[("AWS_DEFAULT_REGION", "cn-north-1")]).unwrap();
        assert_eq!(
            client.endpoints[Service::Athena as usize].as_str(),
            "https://athena.cn-north-1.amazonaws.com.cn/"
        );
    }
}
