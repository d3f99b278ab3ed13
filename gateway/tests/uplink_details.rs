//! MQTT's finer points against a real Mosquitto: status, messages to the gateway, refusals in words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pki.rs"]
mod pki;
#[path = "common/witness.rs"]
mod witness;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ingot_gateway::phase::Phase;
use ingot_gateway::spool::{Classes, Spool, SpoolConfig, WhenFull};
use ingot_gateway::uplink::inbox::{Inbox, Message};
use ingot_gateway::uplink::limits::Limits;
use ingot_gateway::uplink::mqtt::{Mqtt, MqttConfig};
use ingot_gateway::uplink::{BackoffConfig, SendError, Uplink, drain};
use mosquitto::{ACL, Mosquitto};
use pki::{Ca, Validity};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use witness::Witness;

struct World {
    broker: Mosquitto,
    witness: Witness,
    ca: Ca,
    dir: TempDir,
}

impl World {
    async fn new(filters: &'static [&'static str], setting: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new(dir.path(), "ca");
        let mut broker = Mosquitto::start(dir.path(), &ca.cert, &ca.server(Validity::NOW), ACL);
        broker.stop();
        broker.add_setting(setting);
        broker.start_again();
        let bridge = ca.tls(&ca.client("bridge", Validity::NOW));
        let witness = Witness::start(broker.port, &bridge, filters).await;
        Self { broker, witness, ca, dir }
    }

    /// A gateway whose certificate is for `name`.
    fn mqtt(&self, name: &str, status_topic: Option<&str>) -> Mqtt {
        Mqtt::new(MqttConfig {
            host: "localhost".into(),
            port: self.broker.port,
            client_id: name.into(),
            topic_prefix: String::new(),
            keep_alive_s: 5,
            connect_ms_max: 3_000,
            in_flight_max: 20,
            limits: Limits::aws(4_096),
            alpn: None,
            status_topic: status_topic.map(Into::into),
            tls: Some(self.ca.tls(&self.ca.client(name, Validity::NOW))),
        })
        .unwrap()
    }

    /// A spool with one frame for each of these numbers of readings.
    fn spool(&self, frames: &[u32]) -> Arc<Classes> {
        let spool = Spool::open(SpoolConfig {
            dir: self.dir.path().join("spool"),
            bytes_max: 1 << 24,
            segment_bytes_max: 1 << 20,
            fsync_interval_ms: 1_000,
            when_full: WhenFull::Refuse,
            live_share_percent: 20,
            live_lag_ms_max: 30_000,
        });
        let spool = spool.unwrap().0;
        for (seq, readings) in (0..).zip(frames) {
            spool.append(&common::frame(seq, *readings), *readings, false).unwrap();
        }
        Arc::new(spool.into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_topic_says_online_and_after_the_end_offline() {
    let world = World::new(&["ingot/status/#"], "").await;
    let mut mqtt = world.mqtt("gw", Some("ingot/status/gw"));
    mqtt.connect().await.unwrap();
    let said = world.witness.seen(1).await;
    assert_eq!(said["ingot/status/gw"], [b"online"]);
    drop(mqtt);
    let started = Instant::now();
    while world.witness.seen(1).await["ingot/status/gw"].last().unwrap() != b"offline" {
        assert!(started.elapsed() < Duration::from_secs(5), "the broker does not say that it is gone");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_the_gateway_come_over_each_new_connection() {
    let mut world = World::new(&["ingot/status/#"], "").await;
    let (mut mqtt, inbox) = (world.mqtt("gw", None), Inbox::new(4));
    mqtt.subscribe("ingot/cmd/gw/#", inbox.clone());
    let expect = async |text: &'static str| {
        let message = timeout(Duration::from_secs(5), inbox.next()).await.expect("a message comes");
        assert_eq!(message, Message { topic: "ingot/cmd/gw/contract".into(), payload: Bytes::from(text) });
    };
    world.witness.publish_retained("ingot/cmd/gw/contract", "first").await;
    mqtt.connect().await.unwrap();
    expect("first").await;
    world.witness.publish_retained("ingot/cmd/gw/contract", "second").await;
    expect("second").await;
    world.broker.stop();
    world.broker.start_again();
    mqtt.connect().await.unwrap();
    expect("second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_the_policy_forbids_is_refused_with_its_topic() {
    let world = World::new(&["ingot/#"], "").await;
    let mut mqtt = world.mqtt("intruder", None);
    mqtt.connect().await.unwrap();
    let (_, frame) = world.spool(&[10]).take(std::time::Instant::now(), 1).unwrap().unwrap();
    let topic = frame.identity.topic("");
    let error = mqtt.send(frame).await.unwrap_err();
    let SendError::Refused(why) = error else { panic!("{error}") };
    assert!(why.contains("policy must allow") && why.contains(&topic), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_too_large_for_the_broker_is_refused_alone_and_once() {
    let world = World::new(&["ingot/#"], "max_packet_size 6000").await;
    let spool = world.spool(&[10, 5_000, 10]);
    let (_phase, phases) = watch::channel(Phase::Draining(Instant::now() + Duration::from_millis(1_500)));
    let backoff = BackoffConfig { base_ms: 1, cap_ms: 10 };
    let sending =
        drain(world.mqtt("gw", None), Arc::clone(&spool), backoff, phases, watch::Sender::default()).await;
    assert_eq!((sending.acked_frames, sending.refusals, sending.outages), (2, 1, 0));
    assert_eq!((spool.state().frames, spool.state().readings), (1, 5_000));
    let seen = world.witness.seen(2).await;
    assert!(seen.len() == 2 && seen.keys().all(|topic| !topic.ends_with('1')), "{:?}", seen.keys());
}
