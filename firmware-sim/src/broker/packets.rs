//! Packets in and out of a socket, which of them are refused, and why a connection ended.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes;
use rumqttc::{ConnAckProperties, DisconnectReasonCode, Packet, Publish, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{PACKET_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the client left")]
    Left,
    #[error("the client was silent for {0:?}")]
    Silent(Duration),
    #[error("another connection took the session")]
    TakenOver,
    #[error("a PUBACK was lost on purpose")]
    PubackLost,
    #[error("the client broke the protocol: {0:?}")]
    Refused(DisconnectReasonCode),
    #[error("a packet is malformed: {0}")]
    Malformed(#[from] mqttbytes::Error),
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
}

impl Ended {
    /// What the client is told before the socket closes.
    pub(super) fn reason(&self) -> Option<DisconnectReasonCode> {
        match self {
            Self::Silent(_) => Some(DisconnectReasonCode::KeepAliveTimeout),
            Self::TakenOver => Some(DisconnectReasonCode::SessionTakenOver),
            Self::Refused(reason) => Some(*reason),
            Self::Malformed(mqttbytes::Error::PayloadSizeLimitExceeded { .. }) => {
                Some(DisconnectReasonCode::PacketTooLarge)
            }
            Self::Malformed(_) => Some(DisconnectReasonCode::MalformedPacket),
            Self::Left | Self::PubackLost | Self::Io(_) => None,
        }
    }
}

/// The client's bytes, cut into packets.
pub(super) struct Input {
    socket: OwnedReadHalf,
    buffer: BytesMut,
}

impl Input {
    pub(super) fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, buffer: BytesMut::new() }
    }

    /// The next packet.
    pub(super) async fn packet(&mut self) -> Result<Packet, Ended> {
        loop {
            match Packet::read(&mut self.buffer, Some(PACKET_BYTES_MAX)) {
                Ok(packet) => return Ok(packet),
                Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(error.into()),
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(Ended::Left);
            }
        }
    }
}

/// Writes one packet at once.
pub(super) async fn send(socket: &mut OwnedWriteHalf, packet: &Packet) -> Result<(), Ended> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, None)?;
    Ok(socket.write_all(&bytes).await?)
}

/// Whether the broker takes this message.
pub(super) fn check(publish: &Publish) -> Result<(), DisconnectReasonCode> {
    if publish.qos == QoS::ExactlyOnce {
        return Err(DisconnectReasonCode::QoSNotSupported);
    }
    if publish.retain {
        return Err(DisconnectReasonCode::RetainNotSupported);
    }
    if publish.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(DisconnectReasonCode::PacketTooLarge);
    }
    // The CONNACK allows no aliases, so each message names its topic.
    if publish.topic.is_empty() {
        return Err(DisconnectReasonCode::TopicAliasInvalid);
    }
    Ok(())
}

/// All properties unset: the codec's type has no default.
pub(super) fn connack_properties() -> ConnAckProperties {
    ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}
