//! Temporary AWS credentials for the gateway's own certificate, from AWS IoT's credentials provider.
//!
//! Mutual TLS to `https://<endpoint>/role-aliases/<alias>/credentials`. Credentials are kept in memory and
//! renewed five minutes before their end; the PEM files are read anew each time, so that a rotation counts.
//! (Source: AWS IoT Core, "Authorizing direct calls to AWS services".)

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;

use super::BulkConfig;
use crate::clock;
use crate::signed::client;
use crate::uplink::tls::client_config;

/// Credentials are renewed this long before their end, in milliseconds.
const RENEW_BEFORE_MS: i64 = 300_000;

/// Longest time for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Keys that sign requests until they expire. Nothing shows the secret parts.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: String,
    expiration: String,
}

#[derive(Deserialize)]
struct Answer {
    credentials: Credentials,
}

#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    message: String,
}

impl Credentials {
    fn good_at(&self, now_ms: i64) -> bool {
        clock::parse_rfc3339_ms(&self.expiration).is_some_and(|end_ms| now_ms < end_ms - RENEW_BEFORE_MS)
    }
}

/// Where credentials come from, and those that are good now.
#[derive(Default)]
pub(super) struct Cache {
    kept: Mutex<Option<Credentials>>,
}

impl Cache {
    /// Credentials that are good for minutes; asks for new ones if it must. The error is in words.
    pub async fn get(&self, config: &BulkConfig) -> Result<Credentials, String> {
        // Held while asking: of many frames in flight one asks, the others wait for its answer.
        let mut kept = self.kept.lock().await;
        match kept.as_ref().filter(|credentials| credentials.good_at(clock::now_ms())) {
            Some(credentials) => Ok(credentials.clone()),
            None => Ok(kept.insert(ask(config).await?).clone()),
        }
    }

    /// The far end no longer takes them.
    pub async fn forget(&self) {
        *self.kept.lock().await = None;
    }
}

async fn ask(config: &BulkConfig) -> Result<Credentials, String> {
    let BulkConfig { credentials_endpoint, role_alias, thing, tls, .. } = config;
    let failed = |why: String| format!("no credentials from {credentials_endpoint}: {why}");
    let tls = client_config(tls).map_err(|error| failed(error.to_string()))?;
    let client = client(tls).map_err(|error| failed(super::why(&error)))?;
    let url = format!("https://{credentials_endpoint}/role-aliases/{role_alias}/credentials");
    let request = client.get(url).header("x-amzn-iot-thingname", thing).timeout(ANSWER_MAX);
    let response = request.send().await.map_err(|error| failed(super::why(&error)))?;
    let status = response.status();
    let body = response.bytes().await.map_err(|error| failed(super::why(&error)))?;
    if !status.is_success() {
        let Refusal { message } = serde_json::from_slice(&body).unwrap_or_default();
        return Err(failed(format!(
            "status {status}, {message:?}; thing {thing} needs iot:AssumeRoleWithCertificate for the role \
             alias {role_alias}, and the alias a role that trusts credentials.iot.amazonaws.com"
        )));
    }
    // A parser's message could quote the answer.
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|_| failed("the answer cannot be understood".into()))?;
    Ok(answer.credentials)
}
