//! Landing: MQTT to bronze, for those without AWS IoT Core.
//!
//! Stores each message as the bronze object that the IoT rule would have written, under the same key,
//! and acknowledges it after the object is on disk. A message that cannot be stored is not
//! acknowledged, so the broker keeps it. Memory: at most [`MESSAGES_WAITING_MAX`] messages.

use std::time::Duration;

use rumqttc::mqttbytes::v5::{Packet, Publish, SubscribeReasonCode};
use rumqttc::{
    AckMode, AsyncClient, BrokerSessionResumePolicy, Event, EventLoop, MqttOptions, QoS, SessionMode,
};
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::bronze::topic_to_key;
use crate::lake::{Lake, LakeError};

/// What a gateway publishes to: gateway, day, batch; plain, and with the prefix of Basic Ingest.
const FILTERS: [&str; 2] = ["ingot/bronze/+/+/+", "$aws/rules/ingot_bronze/ingot/bronze/+/+/+"];
/// Messages received and not yet stored; the broker sends no more than these without an acknowledgement.
const MESSAGES_WAITING_MAX: u16 = 100;
/// Largest message, the limit of AWS IoT Core, with room for topic and header.
const PACKET_BYTES_MAX: u32 = 150_000;
const KEEP_ALIVE_S: u16 = 30;
const RETRY_MS_MIN: u64 = 50;
const RETRY_MS_MAX: u64 = 5_000;
/// How long a farewell to the broker may take.
const DISCONNECT_MAX: Duration = Duration::from_secs(2);

/// What was landed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Landed {
    /// Messages stored and acknowledged, redeliveries included.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages on a topic that is not a gateway's, or with other bytes for a stored key: acknowledged,
    /// warned of, not stored.
    pub refused: u64,
}

/// Lands messages from the broker at `host:port` until `shutdown` resolves. `client_id` names the
/// broker's session, which holds what arrives while this program is away.
pub async fn land(
    lake: &Lake,
    host: &str,
    port: u16,
    client_id: &str,
    shutdown: impl Future<Output = ()>,
) -> Result<Landed, LakeError> {
    lake.check_writable()?;
    let mut options = MqttOptions::new(client_id, (host, port));
    options
        .set_keep_alive(KEEP_ALIVE_S)
        .set_session_mode(SessionMode::Persistent)
        .set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly)
        .set_receive_maximum(Some(MESSAGES_WAITING_MAX))
        .set_max_packet_size(Some(PACKET_BYTES_MAX))
        .set_ack_mode(AckMode::Manual);
    let (client, connection) =
        AsyncClient::builder(options).capacity(usize::from(MESSAGES_WAITING_MAX) + 8).build();
    let (arrived, mut waiting) = mpsc::channel(usize::from(MESSAGES_WAITING_MAX));
    let receiving = tokio::spawn(receive(connection, client.clone(), arrived));

    let mut landed = Landed::default();
    let storing = async {
        while let Some(message) = waiting.recv().await {
            store_until_done(lake, &message, &mut landed).await;
            if client.ack(&message).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = shutdown => {}
        () = storing => {}
    }
    let _ = client.disconnect().await;
    let _ = tokio::time::timeout(DISCONNECT_MAX, receiving).await;
    Ok(landed)
}

/// Returns when the message may be acknowledged: stored, or refused for good. A failing lake is tried again.
async fn store_until_done(lake: &Lake, message: &Publish, landed: &mut Landed) {
    let topic = String::from_utf8_lossy(&message.topic);
    let Some(key) = topic_to_key(&topic) else {
        warn!(%topic, "not stored: the topic is not ingot/bronze/<gateway>/<dt>/<boot>-<seq>");
        landed.refused += 1;
        return;
    };
    let mut retry_ms = RETRY_MS_MIN;
    loop {
        match lake.put_durable(&key, message.payload.clone()).await {
            Ok(()) => {
                landed.messages += 1;
                landed.bytes += message.payload.len() as u64;
                return;
            }
            Err(error @ LakeError::Rewritten { .. }) => {
                warn!(%error, "not stored");
                landed.refused += 1;
                return;
            }
            Err(error) => {
                warn!(%error, retry_ms, "the message waits without its acknowledgement");
                tokio::time::sleep(Duration::from_millis(retry_ms)).await;
                retry_ms = (retry_ms * 2).min(RETRY_MS_MAX);
            }
        }
    }
}

/// Keeps the connection alive and hands over what arrives; subscribes anew where the broker forgot us.
async fn receive(mut connection: EventLoop, client: AsyncClient, arrived: mpsc::Sender<Publish>) {
    let mut retry_ms = RETRY_MS_MIN;
    loop {
        match connection.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                info!(session = connack.session_present, "connected to the broker");
                retry_ms = RETRY_MS_MIN;
                // Always: a resumed session may never have had the subscription. There is room for it.
                for filter in FILTERS {
                    if client.try_subscribe(filter, QoS::AtLeastOnce).is_err() {
                        warn!(
                            filter,
                            "the subscription could not be queued; the next connection tries again"
                        );
                    }
                }
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                let taken = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                if !suback.return_codes.iter().all(taken) {
                    error!(codes = ?suback.return_codes, "the broker refuses the subscription to one of {FILTERS:?}; allow it there");
                }
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                // Never full: the broker sends at most as many unacknowledged messages as it holds.
                if arrived.send(message).await.is_err() {
                    return;
                }
            }
            Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => {
                if arrived.is_closed() {
                    return;
                }
                warn!(%error, retry_ms, "the broker is away");
                tokio::time::sleep(Duration::from_millis(fastrand::u64(..=retry_ms))).await;
                retry_ms = (retry_ms * 2).min(RETRY_MS_MAX);
            }
        }
    }
}
