//! Who is told: the log, a webhook, and a topic of SNS.
//!
//! A webhook gets a POST with the event as JSON, its id, and, where there is a key, a signature. It is tried
//! a few times within a bounded time; then it waits for the next run. Redirects are not followed, and
//! no error shows the URL, which may hold a secret.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use ring::hmac;
use tracing::{info, warn};

use super::episode::{Event, Kind};
use crate::aws::error::CallError;
use crate::aws::topic::Topic;

/// One try, in all.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Tries of one event in one run.
pub const TRIES_MAX: u32 = 3;
/// The pause before the second try; doubled before the third.
const PAUSE_MS: u64 = 200;
const ID: HeaderName = HeaderName::from_static("ingot-alert-id");
const SIGNATURE: HeaderName = HeaderName::from_static("ingot-signature");

/// Who is told.
#[derive(Debug)]
pub enum Target {
    /// The program's log.
    Log,
    /// An HTTP endpoint.
    Webhook(Box<Webhook>),
    /// A topic of SNS.
    Topic(Box<Topic>),
}

/// An HTTP endpoint.
pub struct Webhook {
    url: Url,
    key: Option<hmac::Key>,
    client: Client,
}

/// A webhook's settings are wrong.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The URL.
    #[error("the webhook's URL is not http:// or https://")]
    Url,
    /// The client.
    #[error("the webhook's client: {0}")]
    Client(reqwest::Error),
}

/// A target was not told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// No answer.
    #[error("no answer after {TRIES_MAX} tries: {0}")]
    NoAnswer(reqwest::Error),
    /// A refusal.
    #[error("the webhook answered {0}")]
    Refused(StatusCode),
    /// SNS.
    #[error(transparent)]
    Topic(#[from] CallError),
    /// The event could not be written.
    #[error("writing the event: {0}")]
    Event(String),
}

impl Target {
    /// The name under which the lake remembers how far it has been told.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Webhook(_) => "webhook",
            Self::Topic(_) => "sns",
        }
    }

    /// Tells it one event.
    pub async fn tell(&self, event: &Event, now_ms: i64) -> Result<(), TellError> {
        match self {
            Self::Log => log(event),
            Self::Webhook(webhook) => webhook.post(event, now_ms).await?,
            Self::Topic(topic) => publish(topic, event).await?,
        }
        Ok(())
    }
}

fn log(event: &Event) {
    let Event { id, kind, value_now, episode, .. } = event;
    match kind {
        Kind::Open => warn!(%id, common = ?episode.common, "alert open: {}", episode.summary),
        Kind::Resolve => info!(%id, value_now, "alert resolved: {}", episode.summary),
    }
}

/// The event as JSON, with attributes by which a subscription can choose.
async fn publish(topic: &Topic, event: &Event) -> Result<(), TellError> {
    let message = serde_json::to_string(event).map_err(|error| TellError::Event(error.to_string()))?;
    let kind = match event.kind {
        Kind::Open => "open",
        Kind::Resolve => "resolve",
    };
    let episode = &event.episode;
    let subject = format!("Ingot: {} of {} {kind} {}", episode.alert, episode.dataset, episode.rule);
    let attributes = [
        ("kind", kind),
        ("dataset", &episode.dataset),
        ("alert", &episode.alert),
        ("rule", &episode.rule),
        ("id", &event.id),
    ];
    Ok(topic.publish(subject.trim_end(), &message, &attributes).await?)
}

impl Webhook {
    /// A webhook; with `key`, each POST is signed.
    pub fn new(url: &str, key: Option<&[u8]>) -> Result<Self, WebhookError> {
        let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let client = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build();
        Ok(Self {
            url: url.ok_or(WebhookError::Url)?,
            key: key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)),
            client: client.map_err(|error| WebhookError::Client(error.without_url()))?,
        })
    }

    async fn post(&self, event: &Event, now_ms: i64) -> Result<(), TellError> {
        let unwritten = |error: &dyn std::fmt::Display| TellError::Event(error.to_string());
        let body = serde_json::to_string(event).map_err(|error| unwritten(&error))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ID, HeaderValue::from_str(&event.id).map_err(|error| unwritten(&error))?);
        if let Some(key) = &self.key {
            let signature = signature(key, now_ms, &body);
            headers.insert(SIGNATURE, HeaderValue::from_str(&signature).map_err(|error| unwritten(&error))?);
        }
        let mut tries = 0;
        loop {
            let sent =
                self.client.post(self.url.clone()).headers(headers.clone()).body(body.clone()).send().await;
            tries += 1;
            let failure = match sent {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => TellError::Refused(answer.status()),
                Err(error) => TellError::NoAnswer(error.without_url()),
            };
            // A refusal that a second try cannot change is none for the network to heal.
            let is_final = matches!(&failure, TellError::Refused(status)
                if status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS);
            if is_final || tries == TRIES_MAX {
                return Err(failure);
            }
            let most_ms = PAUSE_MS << tries;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(most_ms / 2..=most_ms))).await;
        }
    }
}

/// `t=<milliseconds>,v1=<HMAC-SHA256 of "<milliseconds>.<body>" in hex>`: the time is signed with the body, so
/// a receiver can refuse what is old.
fn signature(key: &hmac::Key, now_ms: i64, body: &str) -> String {
    let tag = hmac::sign(key, format!("{now_ms}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now_ms},v1={hex}")
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Webhook")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::episode::Open;
    use super::*;

    #[test]
    fn the_signature_is_that_of_other_tools() {
        // printf '1.{}' | openssl dgst -sha256 -hmac key
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        assert_eq!(
            signature(&key, 1, "{}"),
            "t=1,v1=1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224"
        );
    }

    #[tokio::test]
    async fn a_topic_gets_the_event_and_a_denial_names_the_right() {
        let denied = "<ErrorResponse><Error><Code>AuthorizationError</Code></Error></ErrorResponse>";
        let (client, served) = crate::aws::client::tests::scripted(&[(200, ""), (403, denied)]).await;
        let arn = "arn:aws:sns:eu-west-1:111122223333:alerts";
        let target = Target::Topic(Box::new(Topic::new(client, arn).unwrap()));
        let event = Event {
            id: "orders/discards/bad_status@1/open".to_owned(),
            kind: Kind::Open,
            at_ms: 1,
            value_now: 50.0,
            episode: Open {
                dataset: "orders".to_owned(),
                alert: "discards".to_owned(),
                rule: "bad_status".to_owned(),
                since_ms: 1,
                value: 50.0,
                summary: "bad_status discards half".to_owned(),
                common: Default::default(),
            },
        };
        target.tell(&event, 1).await.unwrap();
        let error = target.tell(&event, 1).await.unwrap_err().to_string();
        assert!(error.ends_with(&format!("needs sns:Publish on {arn}")), "{error}");
        let request = served.await.unwrap().remove(0);
        assert!(request.contains("Subject=Ingot%3A+discards+of+orders+open+bad_status&"), "{request}");
        assert!(request.contains("%22kind%22%3A%22open%22"), "{request}");
    }

    #[test]
    fn only_http_is_posted_to() {
        assert!(matches!(Webhook::new("file:///etc/passwd", None), Err(WebhookError::Url)));
    }
}
