//! The gateway against a broker that throttles as AWS IoT Core does: paced, it is never throttled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::pending;
use std::time::Duration;

use ingot_gateway::config::{Config, Overrides, UplinkConfig};
use ingot_gateway::health::Summary;
use ingot_sim::broker::{Broker, BrokerFaults, BrokerStats, Limits};
use tokio::time::timeout;

const READINGS: u64 = 25_000;

/// Small frames, many of them; the broker's rule takes them all, as with Basic Ingest.
async fn run(settings: &str) -> (Summary, BrokerStats) {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_limited(BrokerFaults::default(), Limits::AWS).await.unwrap();
    let text = format!(
        "source = []\n[batch]\nframe_bytes_max = 256\n[spool]\ndir = {:?}\n\
         [uplink]\nbackoff_base_ms = 2\nbackoff_cap_ms = 20\n[uplink.mqtt]\nhost = \"127.0.0.1\"\n\
         port = {}\ntopic_prefix = \"$aws/rules/ingot_bronze/\"\n{settings}",
        dir.path().join("spool"),
        broker.addr().port(),
    );
    let mut config = Config::from_toml(&text, Overrides::default()).unwrap();
    let UplinkConfig::Mqtt(mqtt) = &mut config.uplink else { panic!("MQTT was configured") };
    mqtt.keep_alive_s = 1; // a discarded publish is noticed after twice this time
    let lines: String = (0..READINGS)
        .map(|seq| {
            let value = (seq * 2_654_435_761 % 1_000) as f64 / 100.0;
            format!("{{\"device\":\"d\",\"channel\":\"temperature\",\"value\":{value},\"at\":{seq},\"seq\":{seq},\"boot\":1}}\n")
        })
        .collect();
    let run = ingot_gateway::run(config, vec![Box::new(lines.leak().as_bytes())], pending());
    let summary = timeout(Duration::from_secs(60), run).await.expect("it ends").unwrap();
    assert_eq!((summary.produced, summary.acked_readings), (READINGS, READINGS), "{summary}");
    assert!(summary.is_complete(), "{summary}");
    (summary, broker.stats())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paced_gateway_is_never_throttled() {
    let (summary, stats) = run("").await;
    assert!(summary.sealed_frames > 200, "more than two seconds' worth: {summary}");
    assert_eq!((stats.throttled, stats.delayed, stats.overrun), (0, 0, 0), "{stats:?}");
    assert_eq!((summary.outages, summary.refusals), (0, 0), "{summary}");
    assert_eq!((stats.published, stats.pubacks), (summary.sealed_frames, summary.sealed_frames));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaced_one_is_throttled_and_has_to_send_again() {
    let (summary, stats) = run("publishes_per_s_max = 0\nbytes_per_s_max = 0\nin_flight_max = 100\n").await;
    assert!(stats.throttled > 0, "{stats:?}");
    assert!(summary.outages > 0, "{summary}");
}
