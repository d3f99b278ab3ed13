//! The direct path of a large backlog: frames are put straight into S3, beside MQTT.
//!
//! Frames go this way from a connect at which the spool holds more than `above_bytes` until it holds less
//! than half of that; the session then ends like a lost connection, and the next one is MQTT's. The object
//! has the key and the bytes that the IoT rule would have written (`crate::key`), one object a frame, so
//! both ways may be mixed and repeated: a PUT that finds the object there (412) is a success. It costs a
//! PUT a frame, as the rule's way does, and `If-None-Match` keeps it from overwriting anything. If S3 or
//! the credentials fail, frames go over MQTT, and S3 is tried again after a minute.
//! Credentials come from the gateway's own certificate ([`credentials`]). Bucket policies that ask for
//! KMS keys of their own need them as the bucket's default.

pub mod credentials;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials as Signer;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SigningSettings, UriPathNormalizationMode,
};
use bytes::Bytes;
use reqwest::{Method, StatusCode};

use super::limits::Limits;
use super::tls::{TlsPaths, server_only_config};
use super::{ConnectError, SendError, Uplink};
use crate::signed::{Asked, client};
use crate::spool::{Classes, Spooled};
use credentials::Cache;

/// After a failure, this long everything goes over MQTT.
const PAUSE: Duration = Duration::from_secs(60);

/// PUTs in flight.
const PUTS_MAX: usize = 16;

/// Longest time for one PUT.
const PUT_MAX: Duration = Duration::from_secs(60);

/// The direct path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkConfig {
    /// A spool of more bytes than this is sent straight to S3.
    pub above_bytes: u64,
    /// The bucket of bronze.
    pub bucket: String,
    /// What stands before `bronze/` in each key: empty, or ending in `/`.
    pub prefix: String,
    /// The bucket's region.
    pub region: String,
    /// An S3 in another place; `None` is AWS.
    pub endpoint: Option<String>,
    /// Host, or host and port, of the account's credentials provider.
    pub credentials_endpoint: String,
    /// The role alias.
    pub role_alias: String,
    /// The thing's name: the gateway's.
    pub thing: String,
    /// The gateway's certificate; the roots serve S3 as well.
    pub tls: TlsPaths,
}

/// Why an object was not put.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PutError(String);

/// A bucket, with the gateway's own credentials.
pub struct S3 {
    config: BulkConfig,
    client: reqwest::Client,
    credentials: Cache,
}

impl S3 {
    /// Reads the roots; asks for nothing yet.
    ///
    /// # Errors
    /// The PEM files are not usable.
    pub fn new(config: BulkConfig) -> Result<Self, PutError> {
        let tls = server_only_config(&config.tls.ca).map_err(|error| PutError(error.to_string()))?;
        let client = client(tls).map_err(|error| PutError(why(&error)))?;
        Ok(Self { config, client, credentials: Cache::default() })
    }

    /// Puts an object, unless it is there already: that is a success, because the key fixes the bytes.
    ///
    /// # Errors
    /// In words: what was refused, and which right is missing.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), PutError> {
        let mut renewed = false;
        loop {
            let credentials = self.credentials.get(&self.config).await.map_err(PutError)?;
            let request = self.signed(key, &bytes, &credentials)?;
            let response = self.client.execute(request).await.map_err(|error| PutError(why(&error)))?;
            let status = response.status();
            if status.is_success() || status == StatusCode::PRECONDITION_FAILED {
                return Ok(());
            }
            let body = response.text().await.unwrap_or_default();
            let code = between(&body, "<Code>", "</Code>").unwrap_or("no code");
            let expired = matches!(code, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired");
            if expired && !renewed {
                renewed = true;
                self.credentials.forget().await;
                continue;
            }
            return Err(PutError(self.words(status, code, key)));
        }
    }

    fn words(&self, status: StatusCode, code: &str, key: &str) -> String {
        let BulkConfig { bucket, prefix, role_alias, region, .. } = &self.config;
        let object = format!("arn:aws:s3:::{bucket}/{prefix}{key}");
        let advice = match status {
            StatusCode::FORBIDDEN => {
                format!(
                    "the role of {role_alias} needs s3:PutObject for arn:aws:s3:::{bucket}/{prefix}bronze/*"
                )
            }
            StatusCode::NOT_FOUND | StatusCode::MOVED_PERMANENTLY => {
                format!("see that the bucket exists in {region}")
            }
            _ => "it is tried again".into(),
        };
        format!("s3:PutObject {object}: status {status}, {code}; {advice}")
    }

    fn url(&self, key: &str) -> String {
        let BulkConfig { bucket, prefix, region, endpoint, .. } = &self.config;
        // Of what keys are made of, `=` alone has to be written in another way.
        let path = format!("{prefix}{key}").replace('=', "%3D");
        match endpoint {
            Some(endpoint) => format!("{endpoint}/{bucket}/{path}"),
            // A name with dots does not fit the certificate of `*.s3`.
            None if bucket.contains('.') => format!("https://s3.{region}.amazonaws.com/{bucket}/{path}"),
            None => format!("https://{bucket}.s3.{region}.amazonaws.com/{path}"),
        }
    }

    fn signed(
        &self,
        key: &str,
        bytes: &Bytes,
        credentials: &credentials::Credentials,
    ) -> Result<reqwest::Request, PutError> {
        let failed = |what: &str| PutError(format!("the request for {key} cannot be {what}"));
        let url = self.url(key);
        let credentials::Credentials { access_key_id, secret_access_key, session_token, .. } = credentials;
        let signer = Signer::new(access_key_id, secret_access_key, Some(session_token.clone()), None, "iot");
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let asked = Asked {
            service: "s3",
            region: &self.config.region,
            method: Method::PUT,
            url,
            headers: vec![("if-none-match", "*")],
            body: bytes.clone(),
        };
        let request = asked.signed(&self.client, signer, settings).ok_or_else(|| failed("signed"))?;
        request.timeout(PUT_MAX).build().map_err(|_| failed("made"))
    }
}

/// MQTT, or S3 while the backlog is large; chosen at each connect.
pub struct WithBulk<U> {
    mqtt: U,
    s3: Arc<S3>,
    spool: Arc<Classes>,
    /// This session's frames go to S3.
    to_s3: bool,
    /// Until then S3 is not tried.
    paused: Arc<Mutex<Option<Instant>>>,
}

impl<U> WithBulk<U> {
    /// Frames of `spool` go over `mqtt`, or straight to `s3` while there are many.
    pub fn new(mqtt: U, s3: S3, spool: Arc<Classes>) -> Self {
        Self { mqtt, s3: Arc::new(s3), spool, to_s3: false, paused: Arc::default() }
    }

    fn wants_s3(&self) -> bool {
        let paused = *self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let over = paused.is_none_or(|until| until <= Instant::now());
        over && self.spool.state().bytes > self.s3.config.above_bytes
    }

    /// Half of `above_bytes`, so that the ways do not take turns at the mark.
    fn is_small_again(&self) -> bool {
        self.spool.state().bytes < self.s3.config.above_bytes / 2
    }
}

impl<U: Uplink> Uplink for WithBulk<U> {
    fn in_flight_max(&self) -> usize {
        if self.to_s3 { PUTS_MAX } else { self.mqtt.in_flight_max() }
    }

    fn limits(&self) -> Limits {
        let limits = self.mqtt.limits();
        if !self.to_s3 {
            return limits;
        }
        // S3 takes thousands of PUTs a second below one prefix: the window is limit enough.
        let in_flight_bytes_max = PUTS_MAX as u64 * limits.frame_bytes_max;
        Limits { publishes_per_s_max: 0, bytes_per_s_max: 0, in_flight_bytes_max, ..limits }
    }

    fn silence_max(&self) -> Duration {
        if self.to_s3 { 2 * PUT_MAX } else { self.mqtt.silence_max() }
    }

    async fn connect(&mut self) -> Result<(), ConnectError> {
        self.to_s3 = self.wants_s3();
        // Connected all the same: the gateway's status and what comes down go over MQTT. It may fail.
        let connected = self.mqtt.connect().await;
        if self.to_s3 {
            tracing::info!(bytes = self.spool.state().bytes, "the backlog goes straight to S3");
            return Ok(());
        }
        connected
    }

    fn send(&self, frame: Spooled) -> impl Future<Output = Result<(), SendError>> + Send + 'static {
        let (to_s3, small_again) = (self.to_s3, self.to_s3 && self.is_small_again());
        let (s3, paused) = (Arc::clone(&self.s3), Arc::clone(&self.paused));
        let (key, bytes) = (frame.identity.object_key(), frame.bytes.clone());
        let mqtt = self.mqtt.send(frame);
        async move {
            if !to_s3 {
                return mqtt.await;
            }
            if small_again {
                tracing::info!("the backlog is small again; over MQTT");
                return Err(SendError::Lost);
            }
            s3.put(&key, bytes).await.map_err(|error| {
                tracing::warn!(%error, pause_s = PAUSE.as_secs(), "the direct path failed; over MQTT");
                *paused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PAUSE);
                SendError::Lost
            })
        }
    }
}

/// The error's innermost words: reqwest's own leave out what the network or TLS said.
fn why(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(between, _)| between)
}
