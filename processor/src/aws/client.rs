//! One signed POST, tried again where that can help.
//!
//! A try has a time limit. What is throttled, fails inside the service or gets no answer is tried
//! again, [`TRIES_MAX`] times in all, with growing pauses of random length; a call may so be made twice,
//! which all calls of this module bear. Redirects are not followed: a signature is for one host.

use std::time::Duration;

use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::access::{Access, Service};
use super::error::{CallError, SetupError, code_and_message};

/// One try, in all.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one call.
pub const TRIES_MAX: u32 = 4;
/// The longest pause before the second try; doubled before each further one.
pub const PAUSE_MS: u64 = 200;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

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
    access: Access,
}

impl Client {
    /// Reads region, endpoints and where credentials come from; asks for nothing yet.
    ///
    /// # Errors
    /// A variable is missing or wrong.
    pub fn from_env() -> Result<Self, SetupError> {
        Self::new(Access::from_env()?)
    }

    fn new(access: Access) -> Result<Self, SetupError> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build();
        Ok(Self { http: http.map_err(SetupError::Client)?, access })
    }

    /// The region of all calls.
    pub fn region(&self) -> &str {
        self.access.region()
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
                    tries,
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
        let credential = self.access.credentials().current().await;
        let credential = credential.map_err(|why| CallError::no_credentials(action, call.resource, why))?;
        let broken = |what: &str| CallError::Answer {
            action: action.to_owned(),
            resource: call.resource.to_owned(),
            what: format!("the request's {what} cannot be written"),
        };
        let endpoint = self.access.endpoint(call.service);
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
        AwsAuthorizer::new(&credential, call.service.name(), self.region()).authorize(&mut unsigned, None);
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

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::super::access::tests::access;
    use super::*;

    /// A client of a server that gives these answers, a connection each, and hands back the requests.
    pub async fn scripted(answers: &[(u16, &str)]) -> (Client, JoinHandle<Vec<String>>) {
        let (endpoint, served) = answering(answers).await;
        (client(&[("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL", &endpoint)]).unwrap(), served)
    }

    /// Such a server's URL.
    pub async fn answering(answers: &[(u16, &str)]) -> (String, JoinHandle<Vec<String>>) {
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
        (endpoint, served)
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
        Client::new(access(variables)?)
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
}
