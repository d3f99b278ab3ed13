//! One client's connection: CONNECT, then reading, routing and writing side by side until one of them
//! ends.
//!
//! Routing is apart from reading so that a publisher which waits for room in a subscriber's queue
//! still gets its pings answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::mqttbytes;
use rumqttc::{
    ConnAck, ConnAckProperties, Connect, ConnectReturnCode, Disconnect, DisconnectReasonCode, Packet, PubAck,
    PubAckReason, Publish, QoS, SubAck, Subscribe, SubscribeReasonCode, UnsubAck, UnsubAckReason,
    Unsubscribe, valid_filter,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::limits::{Meter, Verdict};
use super::packets::{Ended, Input, check, connack_properties, send};
use super::session::Session;
use super::{CONNECT_WAIT, IN_FLIGHT_MAX, PACKET_BYTES_MAX, Shared, count};

/// Answers that wait to be written; at the limit, reading waits.
const ANSWERS_MAX: usize = 2 * IN_FLIGHT_MAX as usize;
/// Packets are gathered up to this size before a write.
const WRITE_BYTES: usize = 64 * 1024;

/// Serves the client until it leaves or is sent away.
pub(super) async fn serve(shared: &Shared, socket: TcpStream, connection: u64) -> Result<(), Ended> {
    socket.set_nodelay(true)?;
    let (read, mut write) = socket.into_split();
    let mut input = Input::new(read);
    let hello = timeout(CONNECT_WAIT, input.packet()).await.map_err(|_| Ended::Silent(CONNECT_WAIT))??;
    let Packet::Connect(connect, _will, _auth) = hello else {
        return Err(Ended::Refused(DisconnectReasonCode::ProtocolError));
    };
    let client = Client::new(shared, connection, connect, &mut write).await?;

    let (answers, mut answers_out) = mpsc::channel(ANSWERS_MAX);
    let (publishes, publishes_in) = mpsc::channel(IN_FLIGHT_MAX.into());
    let ended = tokio::select! {
        ended = client.read(&mut input, &answers, publishes) => ended,
        ended = client.route(publishes_in, &answers) => ended,
        ended = client.write(&mut answers_out, &mut write) => ended,
        () = client.session.lost(connection) => Err(Ended::TakenOver),
    };
    if let Some(reason) = ended.as_ref().err().and_then(Ended::reason) {
        // A farewell to a client that may be gone; nothing follows from its failure.
        let _ = send(&mut write, &Packet::Disconnect(Disconnect::new(reason))).await;
    }
    ended
}

struct Client<'a> {
    shared: &'a Shared,
    connection: u64,
    session: Arc<Session>,
    /// QoS 1 messages taken that have no PUBACK yet.
    unconfirmed: AtomicUsize,
    /// The longest silence allowed: one and a half keep-alives (MQTT 5, section 3.1.2.10).
    silence_max: Option<Duration>,
    /// Deliveries in flight that the client takes.
    window: usize,
    /// The largest packet that the client takes.
    packet_bytes_max: Option<u32>,
}

impl<'a> Client<'a> {
    /// Gives the client its session and says CONNACK.
    async fn new(
        shared: &'a Shared,
        connection: u64,
        connect: Connect,
        write: &mut OwnedWriteHalf,
    ) -> Result<Self, Ended> {
        let asked = connect.properties.unwrap_or_default();
        let assigned = connect.client_id.is_empty().then(|| format!("assigned-{connection}"));
        let client_id = assigned.as_ref().unwrap_or(&connect.client_id);
        let expires_at_once = asked.session_expiry_interval.unwrap_or(0) == 0;
        let (session, session_present) =
            shared.sessions.connect(client_id, connection, connect.clean_start, expires_at_once);
        count(&shared.counters.connects);
        let keep_alive_s =
            shared.limits.map_or(connect.keep_alive, |limits| limits.keep_alive_s(connect.keep_alive));
        let properties = ConnAckProperties {
            server_keep_alive: (keep_alive_s != connect.keep_alive).then_some(keep_alive_s),
            receive_max: Some(IN_FLIGHT_MAX),
            max_qos: Some(1),
            retain_available: Some(0),
            max_packet_size: Some(PACKET_BYTES_MAX),
            assigned_client_identifier: assigned,
            subscription_identifiers_available: Some(0),
            shared_subscription_available: Some(0),
            ..connack_properties()
        };
        let code = ConnectReturnCode::Success;
        let connack = ConnAck { session_present, code, properties: Some(properties) };
        send(write, &Packet::ConnAck(connack)).await?;
        Ok(Self {
            shared,
            connection,
            session,
            unconfirmed: AtomicUsize::new(0),
            silence_max: (keep_alive_s > 0).then(|| Duration::from_millis(1500 * u64::from(keep_alive_s))),
            window: asked.receive_maximum.unwrap_or(IN_FLIGHT_MAX).min(IN_FLIGHT_MAX).into(),
            packet_bytes_max: asked.max_packet_size,
        })
    }

    /// Takes packets in and answers what needs no waiting.
    async fn read(
        &self,
        input: &mut Input,
        answers: &mpsc::Sender<Packet>,
        publishes: mpsc::Sender<Publish>,
    ) -> Result<(), Ended> {
        let mut meter = self.shared.limits.map(Meter::new);
        loop {
            let packet = match self.silence_max {
                Some(silence) => {
                    timeout(silence, input.packet()).await.map_err(|_| Ended::Silent(silence))??
                }
                None => input.packet().await?,
            };
            let answer = match packet {
                Packet::Publish(publish) => {
                    check(&publish).map_err(Ended::Refused)?;
                    if !self.admit(meter.as_mut(), &publish).await? {
                        continue;
                    }
                    // Closed only when routing ended, and then so has this.
                    let _ = publishes.send(publish).await;
                    continue;
                }
                Packet::PubAck(ack) => {
                    self.session.acknowledge(ack.pkid);
                    count(&self.shared.counters.delivered_pubacks);
                    continue;
                }
                Packet::Subscribe(subscribe) => Packet::SubAck(self.subscribe(subscribe)),
                Packet::Unsubscribe(unsubscribe) => Packet::UnsubAck(self.unsubscribe(unsubscribe)),
                Packet::PingReq => Packet::PingResp,
                Packet::Disconnect(_) => return Err(Ended::Left),
                _ => return Err(Ended::Refused(DisconnectReasonCode::ProtocolError)),
            };
            let _ = answers.send(answer).await; // closed only when writing ended
        }
    }

    /// Whether the limits let this message through, at once or later.
    async fn admit(&self, meter: Option<&mut Meter>, publish: &Publish) -> Result<bool, Ended> {
        let (Some(meter), Some(limits)) = (meter, self.shared.limits) else {
            return Ok(true);
        };
        let counters = &self.shared.counters;
        match meter.publish(Instant::now(), publish.topic.len() + publish.payload.len()) {
            Verdict::Take => {}
            Verdict::TakeAfter(wait) => {
                count(&counters.delayed);
                sleep(wait).await;
            }
            Verdict::Discard => {
                count(&counters.throttled);
                return Ok(false);
            }
        }
        if publish.qos != QoS::AtMostOnce
            && self.unconfirmed.fetch_add(1, Ordering::Relaxed) >= usize::from(limits.in_flight_max)
        {
            count(&counters.overrun);
            return Err(Ended::Refused(DisconnectReasonCode::ReceiveMaximumExceeded));
        }
        Ok(true)
    }

    /// Puts each message into every matching session, waiting where one is full, then acknowledges it.
    async fn route(
        &self,
        mut publishes: mpsc::Receiver<Publish>,
        answers: &mpsc::Sender<Packet>,
    ) -> Result<(), Ended> {
        let Shared { sessions, counters, faults, .. } = self.shared;
        while let Some(publish) = publishes.recv().await {
            let published = count(&counters.published);
            let twice = faults.duplicate_every.is_some_and(|n| published.is_multiple_of(n.get()));
            let topic = std::str::from_utf8(&publish.topic)
                .map_err(|_| Ended::Refused(DisconnectReasonCode::TopicNameInvalid))?;
            let subscribed = sessions.subscribed(topic);
            for (session, qos) in &subscribed {
                let qos = if publish.qos == QoS::AtMostOnce { QoS::AtMostOnce } else { *qos };
                session.push(publish.clone(), qos).await;
                if twice {
                    session.push(publish.clone(), qos).await;
                }
            }
            if twice {
                count(&counters.duplicated);
            }
            if publish.qos == QoS::AtMostOnce {
                continue;
            }
            let acknowledged = count(&counters.published_qos1);
            if faults.lost_puback_every.is_some_and(|n| acknowledged.is_multiple_of(n.get())) {
                count(&counters.pubacks_lost);
                return Err(Ended::PubackLost);
            }
            let mut ack = PubAck::new(publish.pkid, None);
            if subscribed.is_empty() {
                ack.reason = PubAckReason::NoMatchingSubscribers;
            }
            if self.shared.limits.is_some() {
                self.unconfirmed.fetch_sub(1, Ordering::Relaxed);
            }
            let _ = answers.send(Packet::PubAck(ack)).await; // closed only when writing ended
            count(&counters.pubacks);
        }
        Ok(())
    }

    /// Writes answers and deliveries, as many at once as are ready.
    async fn write(
        &self,
        answers: &mut mpsc::Receiver<Packet>,
        socket: &mut OwnedWriteHalf,
    ) -> Result<(), Ended> {
        let mut bytes = BytesMut::new();
        loop {
            tokio::select! {
                biased;
                Some(answer) = answers.recv() => {
                    answer.write(&mut bytes, None)?;
                }
                publish = self.session.next(self.connection, self.window) => {
                    self.deliver(publish, &mut bytes)?;
                }
                // Nothing more is ready: time to write what there is.
                () = std::future::ready(()), if !bytes.is_empty() => {
                    socket.write_all(&bytes).await?;
                    bytes.clear();
                    continue;
                }
            }
            if bytes.len() >= WRITE_BYTES {
                socket.write_all(&bytes).await?;
                bytes.clear();
            }
        }
    }

    /// A message that is larger than its receiver takes is discarded (MQTT 5, section 3.1.2.11.4).
    fn deliver(&self, publish: Publish, bytes: &mut BytesMut) -> Result<(), Ended> {
        let id = publish.pkid;
        match Packet::Publish(publish).write(bytes, self.packet_bytes_max) {
            Ok(_) => {
                count(&self.shared.counters.delivered);
                Ok(())
            }
            Err(mqttbytes::Error::OutgoingPacketTooLarge { .. }) => {
                self.session.acknowledge(id);
                count(&self.shared.counters.too_large);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn subscribe(&self, subscribe: Subscribe) -> SubAck {
        let return_codes = subscribe
            .filters
            .into_iter()
            .map(|filter| {
                if filter.path.starts_with("$share/") {
                    return SubscribeReasonCode::SharedSubscriptionsNotSupported;
                }
                if !valid_filter(&filter.path) {
                    return SubscribeReasonCode::TopicFilterInvalid;
                }
                let qos = match filter.qos {
                    QoS::AtMostOnce => QoS::AtMostOnce,
                    QoS::AtLeastOnce | QoS::ExactlyOnce => QoS::AtLeastOnce,
                };
                self.session.subscribe(filter.path, qos);
                SubscribeReasonCode::Success(qos)
            })
            .collect();
        SubAck { pkid: subscribe.pkid, return_codes, properties: None }
    }

    fn unsubscribe(&self, unsubscribe: Unsubscribe) -> UnsubAck {
        let reasons = unsubscribe
            .filters
            .iter()
            .map(|filter| match self.session.unsubscribe(filter) {
                true => UnsubAckReason::Success,
                false => UnsubAckReason::NoSubscriptionExisted,
            })
            .collect();
        UnsubAck { pkid: unsubscribe.pkid, reasons, properties: None }
    }
}
