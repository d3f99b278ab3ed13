//! A short connection to the MQTT endpoint: to prove a certificate, or to ask a question and get its answer.
//!
//! AWS answers a request on `<topic>` at `<topic>/accepted` or `<topic>/rejected`. Each part has the same
//! time limit. A connection is proven by its CONNACK.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::mqttbytes::v5::{PubAckReason, SubscribeReasonCode};
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, IncomingPacketSizeLimit, MqttOptions, PublishOptions, QoS,
    SessionMode, SubscribeFilter, TlsConfiguration, Transport,
};
use serde::Deserialize;
use tokio::time::timeout;

use crate::uplink::tls::{TlsPaths, client_config};

/// Requests that wait in the client: a subscription and a question.
const REQUESTS_MAX: usize = 4;

/// Largest answer, in bytes; a certificate is 2 KiB.
const ANSWER_BYTES_MAX: u32 = 150_000;

/// Where to connect, and how long to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// TCP port of MQTT with TLS; AWS IoT has 8883.
    pub port: u16,
    /// Longest time to connect, and for an answer, in milliseconds.
    pub wait_ms_max: u64,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// The far end says no, with a status, a code and a message of its own.
    Rejected(Rejection),
    /// It did not answer, or the connection broke.
    Lost(String),
}

/// What AWS says on a `rejected` topic.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rejection {
    /// As of HTTP.
    pub status_code: u16,
    /// Its name, e.g. `InvalidCertificateOwnershipToken`.
    pub error_code: String,
    /// Its explanation.
    pub error_message: String,
}

impl fmt::Display for AskError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(Rejection { status_code, error_code, error_message }) => {
                write!(out, "rejected with status {status_code}, {error_code}: {error_message}")
            }
            Self::Lost(why) => out.write_str(why),
        }
    }
}

/// One connection.
pub struct Connection {
    client: AsyncClient,
    event_loop: EventLoop,
    limit: Duration,
}

impl Connection {
    /// Connects under `client_id`; done with the CONNACK. The error is in words, for the user.
    ///
    /// # Errors
    /// The PEM files cannot be used, or the far end is not there or does not want this client.
    pub async fn open(endpoint: &Endpoint, tls: &TlsPaths, client_id: &str) -> Result<Self, String> {
        let config = client_config(tls).map_err(|error| error.to_string())?;
        let limit = Duration::from_millis(endpoint.wait_ms_max);
        let mut options = MqttOptions::new(client_id, (endpoint.host.clone(), endpoint.port));
        options
            .set_session_mode(SessionMode::Clean)
            .set_keep_alive(30)
            .set_connect_timeout(limit)
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(ANSWER_BYTES_MAX))
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))));
        let (client, event_loop) = AsyncClient::builder(options).capacity(REQUESTS_MAX).build();
        let mut connection = Self { client, event_loop, limit };
        let connected = async {
            while !matches!(connection.next().await?, Incoming::ConnAck(_)) {}
            Ok::<(), String>(())
        };
        let outcome = timeout(limit, connected).await;
        let Endpoint { host, port, wait_ms_max } = endpoint;
        match outcome {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(why)) => Err(format!("{host}:{port} does not take the connection: {why}")),
            Err(_) => Err(format!("{host}:{port} does not answer within {wait_ms_max} ms")),
        }
    }

    /// Sends `question` on `topic` and waits for what comes back on `accepted` or `rejected`.
    ///
    /// # Errors
    /// A rejection, or no answer.
    pub async fn ask(&mut self, topic: &str, question: String) -> Result<Vec<u8>, AskError> {
        let limit = self.limit;
        let answer = timeout(limit, self.ask_unlimited(topic, question)).await;
        answer.unwrap_or_else(|_| {
            let why = format!("no answer on {topic}/accepted or /rejected within {} ms", limit.as_millis());
            Err(AskError::Lost(why))
        })
    }

    async fn ask_unlimited(&mut self, topic: &str, question: String) -> Result<Vec<u8>, AskError> {
        let lost = |error: rumqttc::ClientError| AskError::Lost(error.to_string());
        let (accepted, rejected) = (format!("{topic}/accepted"), format!("{topic}/rejected"));
        let filters =
            [&accepted, &rejected].map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
        self.client.subscribe_many(filters).await.map_err(lost)?;
        loop {
            match self.next().await.map_err(AskError::Lost)? {
                Incoming::SubAck(suback) => {
                    let taken = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                    if suback.return_codes.iter().all(taken) {
                        break;
                    }
                    let why = format!("may not subscribe to {accepted} and {rejected}");
                    return Err(AskError::Lost(format!("{why}; its policy needs iot:Subscribe for them")));
                }
                _ => continue,
            }
        }
        let options = PublishOptions::new(QoS::AtLeastOnce);
        self.client.publish(topic, question, options).await.map_err(lost)?;
        loop {
            match self.next().await.map_err(AskError::Lost)? {
                Incoming::Publish(answer) if answer.topic == accepted.as_bytes() => {
                    return Ok(answer.payload.to_vec());
                }
                Incoming::Publish(answer) if answer.topic == rejected.as_bytes() => {
                    let rejection = serde_json::from_slice(&answer.payload).unwrap_or_default();
                    return Err(AskError::Rejected(rejection));
                }
                Incoming::PubAck(puback)
                    if !matches!(
                        puback.reason,
                        PubAckReason::Success | PubAckReason::NoMatchingSubscribers
                    ) =>
                {
                    let why = format!("may not publish to {topic} ({:?})", puback.reason);
                    return Err(AskError::Lost(format!("{why}; its policy needs iot:Publish for it")));
                }
                _ => {}
            }
        }
    }

    /// Says goodbye, so that the far end does not take the end for a failure.
    pub async fn close(mut self) {
        let closed = async {
            if self.client.disconnect().await.is_ok() {
                while self.event_loop.poll().await.is_ok() {}
            }
        };
        let _ = timeout(Duration::from_secs(1), closed).await;
    }

    async fn next(&mut self) -> Result<Incoming, String> {
        loop {
            match self.event_loop.poll().await {
                Ok(Event::Incoming(packet)) => return Ok(packet),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
