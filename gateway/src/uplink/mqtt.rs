//! The only file that knows the MQTT client (`docs/decisions/0002-mqtt-client.md`).
//!
//! One connection is one client: a clean start, QoS 1, an event loop in a task of its own that ends at
//! the first error. Nothing is carried over; the spool sends again what was not confirmed. A frame is
//! confirmed by a PUBACK with success. "No matching subscribers" is a success only with a topic prefix
//! (AWS Basic Ingest, where a rule takes the message); elsewhere it means that nobody has the frame.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::mqttbytes::v5::PubAckReason;
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, IncomingPacketSizeLimit, MqttOptions, PublishOptions,
    PublishResult, QoS, SessionMode, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::tls::client_config;
pub use super::tls::{TlsError, TlsPaths};
use super::{ConnectError, SendError, Uplink};
use crate::spool::Spooled;

/// Requests that wait in the client. Small: the spool is the queue.
const REQUESTS_MAX: usize = 10;

/// Largest packet taken from the broker, in bytes; nothing large is expected.
const INCOMING_BYTES_MAX: u32 = 150_000;

/// How the broker is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttConfig {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The client's id; a broker ends the older one of two connections with the same id.
    pub client_id: String,
    /// Before each topic: `$aws/rules/<rule>/` for AWS Basic Ingest, else empty.
    pub topic_prefix: String,
    /// Longest silence before a ping, in seconds; without a PUBACK for twice this time while frames
    /// are in flight, the connection is made anew.
    pub keep_alive_s: u16,
    /// Longest time to connect, in milliseconds.
    pub connect_ms_max: u64,
    /// Frames in flight; AWS IoT Core takes up to 100.
    pub in_flight_max: u16,
    /// TLS; `None` is plain TCP.
    pub tls: Option<TlsPaths>,
}

/// MQTT 5 to a broker.
pub struct Mqtt {
    config: MqttConfig,
    tls: Option<Arc<ClientConfig>>,
    connection: Option<Connection>,
}

struct Connection {
    client: AsyncClient,
    event_loop: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.event_loop.abort();
    }
}

impl Mqtt {
    /// Reads the certificates; connects later.
    ///
    /// # Errors
    /// The PEM files are not usable.
    pub fn new(config: MqttConfig) -> Result<Self, TlsError> {
        let tls = config.tls.as_ref().map(client_config).transpose()?.map(Arc::new);
        Ok(Self { config, tls, connection: None })
    }

    fn options(&self) -> MqttOptions {
        let config = &self.config;
        let mut options = MqttOptions::new(config.client_id.clone(), (config.host.clone(), config.port));
        options
            .set_session_mode(SessionMode::Clean)
            .set_keep_alive(config.keep_alive_s)
            .set_connect_timeout(Duration::from_millis(config.connect_ms_max))
            .set_outgoing_inflight_upper_limit(config.in_flight_max)
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(INCOMING_BYTES_MAX));
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))));
        }
        options
    }
}

impl Uplink for Mqtt {
    fn in_flight_max(&self) -> usize {
        usize::from(self.config.in_flight_max)
    }

    fn silence_max(&self) -> Duration {
        2 * Duration::from_secs(u64::from(self.config.keep_alive_s))
    }

    async fn connect(&mut self) -> Result<(), ConnectError> {
        self.connection = None;
        let (client, mut event_loop) = AsyncClient::builder(self.options()).capacity(REQUESTS_MAX).build();
        let address = format!("{}:{}", self.config.host, self.config.port);
        let limit = Duration::from_millis(self.config.connect_ms_max);
        match timeout(limit, until_connected(&mut event_loop)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(ConnectError(format!("no connection to {address}: {why}"))),
            Err(_) => {
                return Err(ConnectError(format!(
                    "no connection to {address} within {} ms",
                    limit.as_millis()
                )));
            }
        }
        tracing::info!(address, "connected");
        let event_loop = tokio::spawn(run_until_error(event_loop));
        self.connection = Some(Connection { client, event_loop });
        Ok(())
    }

    fn send(&self, frame: Spooled) -> impl Future<Output = Result<(), SendError>> + Send + 'static {
        let client = self.connection.as_ref().map(|connection| connection.client.clone());
        let topic = frame.identity.topic(&self.config.topic_prefix);
        let no_subscriber_is_fine = !self.config.topic_prefix.is_empty();
        async move {
            let client = client.ok_or(SendError::Lost)?;
            let options = PublishOptions::new(QoS::AtLeastOnce);
            let notice =
                client.publish_tracked(topic, frame.bytes, options).await.map_err(|_| SendError::Lost)?;
            let result = notice.wait_async().await.map_err(|_| SendError::Lost)?;
            let PublishResult::Qos1(puback) = result else {
                return Err(SendError::Lost);
            };
            match puback.reason {
                PubAckReason::Success => Ok(()),
                PubAckReason::NoMatchingSubscribers if no_subscriber_is_fine => Ok(()),
                PubAckReason::NoMatchingSubscribers => {
                    Err(SendError::Refused("nobody subscribes to the topic at the broker".into()))
                }
                reason => Err(SendError::Refused(format!("the broker says {reason:?}"))),
            }
        }
    }
}

async fn until_connected(event_loop: &mut EventLoop) -> Result<(), String> {
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Dropping the event loop fails all its notices, which tells the senders.
async fn run_until_error(mut event_loop: EventLoop) {
    loop {
        if let Err(error) = event_loop.poll().await {
            tracing::warn!(%error, "the connection to the broker ended");
            return;
        }
    }
}
