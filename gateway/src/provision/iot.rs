//! AWS IoT Core's registry over HTTP, as far as an operator needs it to make and retire identities.
//!
//! AWS's own crates find region and credentials and sign; the calls themselves are few and plain. (Source: AWS IoT
//! API reference, whose own client compiles longer than the gateway: docs/decisions/0014.) What is
//! throttled, fails inside the service or gets no answer is tried again, [`TRIES_MAX`] times in all or as often as
//! `AWS_MAX_ATTEMPTS` says; a call may so be made twice, which all callers bear.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::SigningSettings;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use reqwest::{Method, StatusCode};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::signed::{Asked, client};

/// Tries of one call, unless `AWS_MAX_ATTEMPTS` says otherwise.
pub const TRIES_MAX: u32 = 3;
/// The longest pause before the second try; doubled before each further one.
pub const PAUSE_MS: u64 = 200;
/// One try, in all.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// What is called.
#[derive(Clone)]
pub(super) struct Call<'a> {
    action: &'static str,
    method: Method,
    path: &'a [&'a str],
    query: Vec<(&'static str, String)>,
    principal: Option<&'a str>,
    body: Option<Value>,
}

impl<'a> Call<'a> {
    /// A call by its name, which is also that of the right it needs (`DescribeThing`); `path` in segments.
    pub(super) fn new(action: &'static str, method: Method, path: &'a [&'a str]) -> Self {
        Self { action, method, path, query: Vec::new(), principal: None, body: None }
    }

    /// With a parameter in the query.
    pub(super) fn query(mut self, name: &'static str, value: &str) -> Self {
        self.query.push((name, value.to_owned()));
        self
    }

    /// For this certificate, by its ARN.
    pub(super) fn principal(self, arn: &'a str) -> Self {
        Self { principal: Some(arn), ..self }
    }

    /// With a body.
    pub(super) fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    fn url(&self, endpoint: &str) -> String {
        let path = self.path.iter().map(|segment| format!("/{}", encoded(segment)));
        let query = self.query.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let query = query.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{endpoint}{}{mark}{query}", path.collect::<String>())
    }
}

/// A call failed; without request, answer or credentials.
#[derive(Debug, thiserror::Error)]
#[error("iot:{action}: {why}")]
pub(super) struct CallError {
    action: &'static str,
    code: String,
    why: String,
}

impl CallError {
    /// Whether AWS refused it with this code.
    pub(super) fn is(&self, code: &str) -> bool {
        self.code == code
    }

    fn can_change(&self, status: Option<StatusCode>) -> bool {
        let throttled = self.code.contains("Throttl") || self.code == "TooManyRequestsException";
        throttled || status.is_none_or(|status| status.is_server_error() || status.as_u16() == 429)
    }
}

/// The registry of an account, with the operator's credentials.
pub(super) struct Iot {
    http: reqwest::Client,
    config: SdkConfig,
    region: String,
    endpoint: String,
    credentials: OnceCell<Credentials>,
}

impl Iot {
    /// Finds the region, and where credentials come from; asks AWS for nothing yet. The error is in words.
    pub(super) async fn new(region: Option<String>) -> Result<Self, String> {
        let smithy = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(smithy);
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        let config = loader.load().await;
        let Some(region) = config.region().map(ToString::to_string) else {
            return Err("no region; give --region, or set AWS_REGION".into());
        };
        let endpoint = match config.endpoint_url() {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None if region.starts_with("cn-") => format!("https://iot.{region}.amazonaws.com.cn"),
            None => format!("https://iot.{region}.amazonaws.com"),
        };
        let http = http().map_err(|error| format!("TLS cannot be set up: {error}"))?;
        Ok(Self { http, config, region, endpoint, credentials: OnceCell::new() })
    }

    /// Makes a call; the answer's body.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Value, CallError> {
        let tries_max = self.config.retry_config().map_or(TRIES_MAX, |retry| retry.max_attempts());
        let mut tries = 0;
        loop {
            let request = self.signed(call).await?;
            let (failure, status) = match self.http.execute(request).await {
                Ok(answer) => {
                    let status = answer.status();
                    let code = answer.headers().get("x-amzn-errortype").cloned();
                    let code = code.as_ref().and_then(|code| code.to_str().ok());
                    match answer.bytes().await {
                        Ok(body) if status.is_success() => return understood(call, &body),
                        Ok(body) => (refusal(call, status, code, &body), Some(status)),
                        Err(_) => (no_answer(call), None),
                    }
                }
                Err(_) => (no_answer(call), None),
            };
            tries += 1;
            if tries >= tries_max || !failure.can_change(status) {
                return Err(failure);
            }
            let most_ms = PAUSE_MS << tries.min(6);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(most_ms / 4..=most_ms))).await;
        }
    }

    /// The items of a list that comes in pages, up to the first that is not `wanted`. `items` is the
    /// list's name in the answer, `mark` that of a page's mark in the query and of the next one's in the answer.
    pub(super) async fn list(
        &self,
        call: &Call<'_>,
        items: &str,
        mark: [&'static str; 2],
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<Vec<Value>, CallError> {
        let (mut listed, mut page) = (Vec::new(), call.clone());
        loop {
            let answer = self.call(&page).await?;
            for item in answer[items].as_array().into_iter().flatten() {
                if !wanted(item) {
                    return Ok(listed);
                }
                listed.push(item.clone());
            }
            match answer[mark[1]].as_str() {
                Some(next) if !next.is_empty() => page = call.clone().query(mark[0], next),
                _ => return Ok(listed),
            }
        }
    }

    async fn signed(&self, call: &Call<'_>) -> Result<reqwest::Request, CallError> {
        let cannot = |what: &str| failed(call, format!("the request cannot be {what}"));
        let credentials = self.credentials(call).await?.clone();
        let body = call.body.as_ref().map(Value::to_string).unwrap_or_default();
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(call.principal.map(|arn| ("x-amzn-principal", arn)));
        let asked = Asked {
            service: "iot",
            region: &self.region,
            method: call.method.clone(),
            url: call.url(&self.endpoint),
            headers,
            body: body.into(),
        };
        let request = asked.signed(&self.http, credentials, SigningSettings::default());
        let request = request.ok_or_else(|| cannot("signed"))?;
        request.timeout(TIMEOUT).build().map_err(|_| cannot("made"))
    }

    async fn credentials(&self, call: &Call<'_>) -> Result<&Credentials, CallError> {
        let found = self.credentials.get_or_try_init(async || {
            let provider = self.config.credentials_provider().ok_or(())?;
            provider.provide_credentials().await.map_err(|_| ())
        });
        found.await.map_err(|()| {
            let advice =
                "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run under a role";
            failed(call, format!("there are no usable credentials; {advice}"))
        })
    }
}

/// With the roots of the operating system.
fn http() -> Result<reqwest::Client, Box<dyn std::error::Error>> {
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(client(tls)?)
}

fn failed(call: &Call<'_>, why: String) -> CallError {
    CallError { action: call.action, code: String::new(), why }
}

fn no_answer(call: &Call<'_>) -> CallError {
    failed(call, "AWS cannot be reached, or broke off; see network, region and AWS_ENDPOINT_URL".into())
}

fn understood(call: &Call<'_>, body: &[u8]) -> Result<Value, CallError> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|_| failed(call, "the answer cannot be understood".into()))
}

/// AWS names the error in a header, `Name:where to read of it`, or in the body, `where#Name`.
fn refusal(call: &Call<'_>, status: StatusCode, named: Option<&str>, body: &[u8]) -> CallError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |names: [&str; 2]| names.into_iter().find_map(|name| body[name].as_str());
    let code = named.or_else(|| text(["__type", "code"])).unwrap_or_default();
    let code = code.split(':').next().and_then(|code| code.rsplit('#').next()).unwrap_or_default();
    let said = text(["message", "Message"]).unwrap_or("no message");
    let name = if code.is_empty() { status.as_str() } else { code };
    let denied =
        code.contains("AccessDenied") || code.contains("Unauthorized") || status == StatusCode::FORBIDDEN;
    let advice = match call.path.join("/") {
        resource if denied => format!("; these credentials need that action on {resource}"),
        _ => String::new(),
    };
    CallError { action: call.action, code: code.to_owned(), why: format!("{name}: {said}{advice}") }
}

/// Text as a segment of a path or a value of a query: all but RFC 3986's unreserved characters are escaped, as
/// the signature will have it.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let escaped = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_in_a_path_is_one_segment() {
        let path = ["attached-policies", "arn:aws:iot:eu-west-1:1:cert/ab"];
        let call = Call::new("ListAttachedPolicies", Method::POST, &path).query("marker", "a+b/c=");
        assert_eq!(
            call.url("https://iot.eu-west-1.amazonaws.com"),
            "https://iot.eu-west-1.amazonaws.com/attached-policies/arn%3Aaws%3Aiot%3Aeu-west-1%3A1%3Acert%2Fab?marker=a%2Bb%2Fc%3D"
        );
    }

    #[test]
    fn an_error_is_named_by_header_or_body_and_says_which_right_is_missing() {
        let path = ["things", "gw-1"];
        let call = Call::new("DescribeThing", Method::GET, &path);
        let named = Some("AccessDeniedException:http://internal.amazon.com/");
        let denied = refusal(&call, StatusCode::FORBIDDEN, named, br#"{"message":"no"}"#);
        let words =
            "iot:DescribeThing: AccessDeniedException: no; these credentials need that action on things/gw-1";
        assert_eq!(denied.to_string(), words);
        let body = br#"{"__type":"com.amazonaws.iot#ResourceNotFoundException","Message":"gone"}"#;
        let gone = refusal(&call, StatusCode::NOT_FOUND, None, body);
        assert!(gone.is("ResourceNotFoundException") && !gone.can_change(Some(StatusCode::NOT_FOUND)));
        let broken = refusal(&call, StatusCode::BAD_GATEWAY, None, b"<html>");
        assert_eq!(broken.to_string(), "iot:DescribeThing: 502: no message");
        assert!(broken.can_change(Some(StatusCode::BAD_GATEWAY)));
    }
}
