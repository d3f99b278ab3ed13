//! The whole gateway against brokers that lose, repeat, refuse and break off: no reading is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/broker.rs"]
mod broker;
mod common;

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use broker::{Broker, Fate, Kept};
use common::Bronze;
use ingot_gateway::config::{Config, Overrides, UplinkConfig};
use ingot_gateway::health::Summary;
use ingot_gateway::uplink::mqtt::TlsPaths;
use tokio::time::timeout;

const READINGS: u64 = 4_000;

fn config(dir: &Path, port: u16) -> Config {
    let text = format!(
        "source = []\ndrain_ms_max = 30000\n[batch]\nframe_bytes_max = 256\n\
         [spool]\ndir = {:?}\n[uplink]\nbackoff_base_ms = 2\nbackoff_cap_ms = 20\n\
         [uplink.mqtt]\nhost = \"127.0.0.1\"\nport = {port}\nin_flight_max = 20\nconnect_ms_max = 2000\n",
        dir.join("spool")
    );
    Config::from_toml(&text, Overrides::default()).unwrap()
}

fn lines(readings: u64) -> String {
    let value = |seq: u64| (seq * 2_654_435_761 % 1_000) as f64 / 100.0;
    (0..readings)
        .map(|seq| format!("{{\"device\":\"d\",\"channel\":\"temperature\",\"value\":{},\"at\":{seq},\"seq\":{seq},\"boot\":1}}\n", value(seq)))
        .collect()
}

async fn run(config: Config, text: &'static str) -> Summary {
    let run = ingot_gateway::run(config, vec![Box::new(text.as_bytes())], pending());
    timeout(Duration::from_secs(60), run).await.expect("it ends").unwrap()
}

fn bronze(kept: &Kept) -> Bronze {
    let mut bronze = Bronze::default();
    for (payload, _) in kept.values() {
        bronze.add(&mut payload.clone());
    }
    bronze
}

/// Runs all readings through a broker with this script, and finds each of them there once.
async fn check(fate: impl FnMut(&str) -> Fate + Send + 'static) -> (Summary, Broker) {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(fate).await;
    let summary = run(config(dir.path(), broker.port), lines(READINGS).leak()).await;
    assert_eq!((summary.produced, summary.acked_readings), (READINGS, READINGS), "{summary}");
    assert_eq!((summary.in_spool_frames, summary.in_spool_bytes), (0, 0));
    assert!(summary.is_complete());
    let bronze = bronze(&broker.kept.lock().unwrap());
    assert_eq!(bronze.rows.len() as u64, READINGS);
    assert!(bronze.rows.values().all(|times| *times == 1), "one identity, one content");
    (summary, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_broker_gets_each_frame_once() {
    let (summary, broker) = check(|_| Fate::Ack).await;
    assert_eq!((summary.outages, summary.refusals, *broker.connections.lock().unwrap()), (0, 0, 1));
    assert!(broker.kept.lock().unwrap().values().all(|(_, times)| *times == 1));
    let kept = broker.kept.lock().unwrap();
    let topic = kept.keys().next().unwrap();
    assert!(topic.starts_with("ingot/bronze/gateway/20") && topic.contains(&summary.boot), "{topic}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_lost_and_doubled_pubacks_lose_nothing() {
    let mut random = fastrand::Rng::with_seed(7);
    let (summary, broker) = check(move |_| match random.u32(..100) {
        0..=3 => Fate::CutAfter,
        4..=7 => Fate::CutBefore,
        8..=10 => Fate::AckTwice,
        _ => Fate::Ack,
    })
    .await;
    assert!(summary.outages >= 5, "{summary}");
    let repeated = broker.kept.lock().unwrap().values().filter(|(_, times)| *times > 1).count();
    assert!(repeated > 0, "lost PUBACKs lead to re-sends");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_frames_are_tried_again_and_hold_up_no_other() {
    let mut left = 3;
    let (summary, _) = check(move |topic| {
        let refuse = topic.ends_with("-0000000001") && left > 0;
        left -= u32::from(refuse);
        if refuse { Fate::Refuse(0x97) } else { Fate::Ack } // quota exceeded
    })
    .await;
    assert_eq!((summary.refusals, summary.outages), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_subscribers_does_not_count_as_bronze_unless_a_rule_takes_it() {
    const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
    for (prefix, acked) in [("", false), ("$aws/rules/ingot_bronze/", true)] {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(|_| Fate::Refuse(NO_MATCHING_SUBSCRIBERS)).await;
        let mut config = config(dir.path(), broker.port);
        config.drain_ms_max = 500;
        let UplinkConfig::Mqtt(mqtt) = &mut config.uplink else { panic!("MQTT was configured") };
        mqtt.topic_prefix = prefix.into();
        let summary = run(config, lines(10).leak()).await;
        assert_eq!(summary.acked_readings > 0, acked, "{summary}");
        assert_eq!(summary.acked_readings + summary.in_spool_readings, 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_falls_silent_is_left_and_what_remains_is_kept_for_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    let deaf = Broker::start(move |_| {
        count += 1;
        if count % 6 == 0 { Fate::Ack } else { Fate::Silence }
    })
    .await;
    let mut impatient = config(dir.path(), deaf.port);
    impatient.drain_ms_max = 4_500;
    let UplinkConfig::Mqtt(mqtt) = &mut impatient.uplink else { panic!("MQTT was configured") };
    mqtt.keep_alive_s = 1;
    let first = run(impatient, lines(READINGS).leak()).await;
    assert!(first.outages >= 1, "the watchdog made the connection anew: {first}");
    assert!(*deaf.connections.lock().unwrap() >= 2);
    assert!(first.in_spool_frames > 0 && !first.is_complete());
    assert_eq!(first.acked_readings + first.in_spool_readings, READINGS);

    let good = Broker::start(|_| Fate::Ack).await;
    let second = run(config(dir.path(), good.port), "").await;
    // The cursor is a watermark: frames confirmed behind an unconfirmed one are sent once more.
    let again = second.recovered_frames - first.in_spool_frames;
    assert!(again < 20 && second.in_spool_frames == 0, "{second}");
    let mut all = deaf.kept.lock().unwrap().clone();
    all.extend(good.kept.lock().unwrap().clone());
    assert_eq!(bronze(&all).rows.len() as u64, READINGS, "the same identities: no reading lost or doubled");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_cannot_be_used_are_named_before_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("no.pem");
    std::fs::write(&pem, "no certificate").unwrap();
    let mut config = config(dir.path(), 1);
    let UplinkConfig::Mqtt(mqtt) = &mut config.uplink else { panic!("MQTT was configured") };
    mqtt.tls = Some(TlsPaths { ca: pem.clone(), cert: pem.clone(), key: pem.clone() });
    let error = ingot_gateway::run(config, Vec::new(), pending()).await.unwrap_err().to_string();
    assert!(error.contains("no.pem"), "{error}");
    assert!(!dir.path().join("spool").exists());
}
