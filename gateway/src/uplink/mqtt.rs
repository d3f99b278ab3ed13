//! The only file that knows the MQTT client (`docs/decisions/0002-mqtt-client.md`).
//!
//! One connection is one client: a clean start, QoS 1, an event loop in a task of its own that ends at
//! the first error. Nothing is carried over; the spool sends again what was not confirmed. A frame is
//! confirmed by a PUBACK with success. "No matching subscribers" is a success only with a topic prefix
//! (AWS Basic Ingest, where a rule takes the message); elsewhere it means that nobody has the frame.
//!
//! What the CONNACK says of the window and the largest packet is kept to: a frame that is larger than the
//! broker takes is refused here, because sending it would end the connection, again and again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::v5::{PubAckReason, SubscribeFilter};
use rumqttc::{
    AsyncClient, ConnAck, ConnectionError, Event, EventLoop, Incoming, IncomingPacketSizeLimit, LastWill,
    MqttOptions, PublishOptions, PublishResult, QoS, SessionMode, SubscribeReasonCode, TlsConfiguration,
    Transport,
};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::inbox::{Inbox, Message};
use super::limits::{HEADER_BYTES_MAX, Limits};
use super::reasons;
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
    /// What may be sent.
    pub limits: Limits,
    /// The ALPN protocol of TLS; `None` asks for none.
    pub alpn: Option<String>,
    /// Where the broker keeps the retained word `online` or `offline` for this gateway; `None`: nowhere.
    pub status_topic: Option<String>,
    /// TLS; `None` is plain TCP.
    pub tls: Option<TlsPaths>,
}

/// MQTT 5 to a broker.
pub struct Mqtt {
    config: Arc<MqttConfig>,
    subscriptions: Arc<[(String, Inbox)]>,
    connection: Option<Connection>,
}

struct Connection {
    client: AsyncClient,
    event_loop: JoinHandle<()>,
    /// Frames in flight that the broker takes.
    in_flight_max: u16,
    /// Its largest packet, in bytes.
    packet_bytes_max: Option<u32>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.event_loop.abort();
    }
}

impl Mqtt {
    /// Tries the certificates; connects later, and reads them again then.
    ///
    /// # Errors
    /// The PEM files are not usable.
    pub fn new(config: MqttConfig) -> Result<Self, TlsError> {
        config.tls.as_ref().map(client_config).transpose()?;
        Ok(Self { config: Arc::new(config), subscriptions: Arc::default(), connection: None })
    }

    /// From the next connect on, messages of these topics (QoS 1) go to the inbox.
    pub fn subscribe(&mut self, filter: impl Into<String>, inbox: Inbox) {
        let former = self.subscriptions.iter().cloned();
        self.subscriptions = former.chain([(filter.into(), inbox)]).collect();
    }

    fn options(&self) -> Result<MqttOptions, TlsError> {
        let config = &self.config;
        let mut options = MqttOptions::new(config.client_id.clone(), (config.host.clone(), config.port));
        options
            .set_session_mode(SessionMode::Clean)
            .set_keep_alive(config.keep_alive_s)
            .set_connect_timeout(Duration::from_millis(config.connect_ms_max))
            .set_outgoing_inflight_upper_limit(config.in_flight_max)
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(INCOMING_BYTES_MAX));
        if let Some(topic) = &config.status_topic {
            // The connection is never closed with a DISCONNECT, so the broker says this at every end.
            options.set_last_will(LastWill::new(topic, "offline", QoS::AtLeastOnce, true, None));
        }
        if let Some(paths) = &config.tls {
            let mut tls = client_config(paths)?;
            tls.alpn_protocols = config.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))));
        }
        Ok(options)
    }

    /// What is done once over each connection, before any frame.
    async fn greet(&self, client: &AsyncClient) -> Result<(), ConnectError> {
        let lost = |_| ConnectError("the connection was lost at once".into());
        if !self.subscriptions.is_empty() {
            // In one packet: the answers come in its order.
            let filters =
                self.subscriptions.iter().map(|(filter, _)| SubscribeFilter::new(filter, QoS::AtLeastOnce));
            client.subscribe_many(filters).await.map_err(lost)?;
        }
        if let Some(topic) = &self.config.status_topic {
            let options = PublishOptions::new(QoS::AtLeastOnce).retained();
            client.publish(topic, "online", options).await.map_err(lost)?;
        }
        Ok(())
    }

    /// One alarm a connection, before the frames are met one by one.
    fn check_frame_size(&self, packet_bytes_max: Option<u32>) {
        let needed = self.config.limits.frame_bytes_max + HEADER_BYTES_MAX;
        if let Some(packet_bytes_max) = packet_bytes_max.map(u64::from).filter(|most| *most < needed) {
            tracing::error!(
                packet_bytes_max,
                "the broker takes smaller packets than batch.frame_bytes_max allows: set it to at most {}",
                packet_bytes_max.saturating_sub(HEADER_BYTES_MAX)
            );
        }
    }
}

impl Uplink for Mqtt {
    fn in_flight_max(&self) -> usize {
        let connection = self.connection.as_ref();
        usize::from(connection.map_or(self.config.in_flight_max, |connection| connection.in_flight_max))
    }

    fn limits(&self) -> Limits {
        self.config.limits
    }

    fn silence_max(&self) -> Duration {
        2 * Duration::from_secs(u64::from(self.config.keep_alive_s))
    }

    async fn connect(&mut self) -> Result<(), ConnectError> {
        self.connection = None;
        let options = self.options().map_err(|error| ConnectError(format!("TLS: {error}")))?;
        let (client, mut event_loop) = AsyncClient::builder(options).capacity(REQUESTS_MAX).build();
        let address = format!("{}:{}", self.config.host, self.config.port);
        let limit = Duration::from_millis(self.config.connect_ms_max);
        let connack = match timeout(limit, until_connected(&mut event_loop)).await {
            Ok(Ok(connack)) => connack,
            Ok(Err(error)) => {
                let why = reasons::connection(&error, &self.config);
                return Err(ConnectError(format!("no connection to {address}: {why}")));
            }
            Err(_) => {
                return Err(ConnectError(format!(
                    "no connection to {address} within {} ms",
                    limit.as_millis()
                )));
            }
        };
        let told = connack.properties;
        let (receive_max, packet_bytes_max) =
            told.map_or((None, None), |told| (told.receive_max, told.max_packet_size));
        let in_flight_max = receive_max.unwrap_or(u16::MAX).clamp(1, self.config.in_flight_max);
        tracing::info!(address, in_flight_max, packet_bytes_max, "connected");
        self.check_frame_size(packet_bytes_max);
        let (config, subscriptions) = (Arc::clone(&self.config), Arc::clone(&self.subscriptions));
        let event_loop = tokio::spawn(run_until_error(event_loop, config, subscriptions));
        let connection = Connection { client, event_loop, in_flight_max, packet_bytes_max };
        self.greet(&connection.client).await?;
        self.connection = Some(connection);
        Ok(())
    }

    fn send(&self, frame: Spooled) -> impl Future<Output = Result<(), SendError>> + Send + 'static {
        let connection = self
            .connection
            .as_ref()
            .map(|connection| (connection.client.clone(), connection.packet_bytes_max));
        let topic = frame.identity.topic(&self.config.topic_prefix);
        let no_subscriber_is_fine = !self.config.topic_prefix.is_empty();
        async move {
            let (client, packet_bytes_max) = connection.ok_or(SendError::Lost)?;
            let bytes = publish_bytes(&topic, &frame.bytes);
            if let Some(bytes_max) = packet_bytes_max.map(u64::from).filter(|most| bytes > *most) {
                return Err(SendError::TooLarge { bytes, bytes_max });
            }
            let options = PublishOptions::new(QoS::AtLeastOnce);
            let notice =
                client.publish_tracked(&topic, frame.bytes, options).await.map_err(|_| SendError::Lost)?;
            let result = notice.wait_async().await.map_err(|_| SendError::Lost)?;
            let PublishResult::Qos1(puback) = result else {
                return Err(SendError::Lost);
            };
            match puback.reason {
                PubAckReason::Success => Ok(()),
                PubAckReason::NoMatchingSubscribers if no_subscriber_is_fine => Ok(()),
                reason => Err(SendError::Refused(reasons::puback(reason, &topic))),
            }
        }
    }
}

/// Size of a QoS 1 PUBLISH without properties: fixed header of up to 5 bytes, topic, packet id, payload.
fn publish_bytes(topic: &str, payload: &Bytes) -> u64 {
    (5 + 2 + topic.len() + 2 + 1 + payload.len()) as u64
}

async fn until_connected(event_loop: &mut EventLoop) -> Result<ConnAck, ConnectionError> {
    loop {
        if let Event::Incoming(Incoming::ConnAck(connack)) = event_loop.poll().await? {
            return Ok(connack);
        }
    }
}

/// Dropping the event loop fails all its notices, which tells the senders.
async fn run_until_error(
    mut event_loop: EventLoop,
    config: Arc<MqttConfig>,
    subscriptions: Arc<[(String, Inbox)]>,
) {
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                let payload = publish.payload;
                let inboxes = subscriptions.iter().filter(|(filter, _)| rumqttc::matches(&topic, filter));
                for (_, inbox) in inboxes {
                    inbox.push(Message { topic: topic.clone(), payload: payload.clone() });
                }
            }
            Ok(Event::Incoming(Incoming::SubAck(answer))) => {
                let good = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                for (code, (filter, inbox)) in answer.return_codes.iter().zip(subscriptions.iter()) {
                    inbox.answered(good(code));
                    if !good(code) {
                        tracing::error!(
                            filter,
                            ?code,
                            "the broker refused a subscription; its policy must allow it"
                        );
                    }
                }
            }
            Ok(_) => {}
            Err(error) => {
                let why = reasons::connection(&error, &config);
                tracing::warn!(why, "the connection to the broker ended");
                return;
            }
        }
    }
}
