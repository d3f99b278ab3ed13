//! What an MQTT back end has to keep: the real spool and uplink, over TLS, to a real Mosquitto, with a
//! fault between the two. In every row all is delivered; what comes twice is the same, byte for byte.
//!
//! `cargo test -p ingot-gateway --test uplink_contract -- --nocapture` prints the table of
//! `docs/reliability.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pki.rs"]
mod pki;
#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/witness.rs"]
mod witness;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ingot_gateway::phase::Phase;
use ingot_gateway::spool::{Classes, Spool, SpoolConfig, WhenFull};
use ingot_gateway::uplink::limits::Limits;
use ingot_gateway::uplink::mqtt::{Mqtt, MqttConfig, TlsPaths};
use ingot_gateway::uplink::{BackoffConfig, Uplink, drain};
use mosquitto::{ACL, Mosquitto};
use pki::{Ca, PemFiles, Validity};
use proxy::Proxy;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use witness::Witness;

/// Frames of a trial: two seconds at the pace of AWS IoT Core.
const FRAMES: u64 = 180;

/// Everything of one trial; all of it ends with it.
struct World {
    broker: Mosquitto,
    proxy: Proxy,
    witness: Witness,
    ca: Ca,
    /// The gateway's certificate.
    good: PemFiles,
    dir: TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new(dir.path(), "ca");
        let broker = Mosquitto::start(dir.path(), &ca.cert, &ca.server(Validity::NOW), ACL);
        let proxy = Proxy::start(broker.port).await;
        let bridge = ca.tls(&ca.client("bridge", Validity::NOW));
        let witness = Witness::start(broker.port, &bridge, &["ingot/#"]).await;
        let good = ca.client("gw", Validity::NOW);
        Self { broker, proxy, witness, ca, good, dir }
    }

    fn mqtt(&self, tls: TlsPaths) -> Mqtt {
        Mqtt::new(MqttConfig {
            host: "127.0.0.1".into(),
            port: self.proxy.port,
            client_id: "gw".into(),
            topic_prefix: String::new(),
            keep_alive_s: 5,
            connect_ms_max: 3_000,
            in_flight_max: 20,
            limits: Limits::aws(4_096),
            alpn: None,
            status_topic: None,
            tls: Some(tls),
        })
        .unwrap()
    }

    /// The words of a connection that cannot be made.
    async fn refusal(&self, tls: TlsPaths) -> String {
        self.mqtt(tls).connect().await.expect_err("it must not connect").to_string()
    }
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    fault: &'static str,
    trials: u32,
    produced: usize,
    delivered: usize,
    duplicated: usize,
    outages: u64,
}

/// Sends all frames while `fault` does its worst, and compares what the witness has.
async fn trial<F: Future<Output = World>>(
    fault: &'static str,
    world: World,
    tls: TlsPaths,
    bad: impl FnOnce(World) -> F,
) -> Row {
    let spool = Spool::open(SpoolConfig {
        dir: world.dir.path().join("spool"),
        bytes_max: 1 << 24,
        segment_bytes_max: 16_384,
        live_share_percent: 20,
        live_lag_ms_max: 30_000,
        fsync_interval_ms: 1_000,
        when_full: WhenFull::Refuse,
    });
    let spool = spool.unwrap().0;
    let mut sealed = BTreeMap::new();
    for seq in 0..FRAMES {
        let frame = common::frame(seq, 100);
        spool.append(&frame, 100, false).unwrap();
        sealed.insert(format!("{seq:010}"), frame);
    }
    let spool = Arc::new(Classes::from(spool));
    let (phase, phases) = watch::channel(Phase::Running);
    let backoff = BackoffConfig { base_ms: 20, cap_ms: 200 };
    let sending =
        tokio::spawn(drain(world.mqtt(tls), Arc::clone(&spool), backoff, phases, watch::Sender::default()));
    let world = bad(world).await;
    phase.send_replace(Phase::Draining(Instant::now() + Duration::from_secs(20)));
    let sending = timeout(Duration::from_secs(25), sending).await.unwrap().unwrap();

    let seen = world.witness.seen(sealed.len()).await;
    world.witness.quiet_for(Duration::from_millis(200)).await;
    for (topic, payloads) in &seen {
        let frame = topic.rsplit('-').next().and_then(|seq| sealed.get(seq)).expect("nothing is invented");
        assert!(payloads.iter().all(|payload| payload == frame), "{fault}: one identity, one content");
    }
    let times: usize = seen.values().map(Vec::len).sum();
    assert_eq!((sending.acked_frames, spool.state().frames), (FRAMES, 0), "{fault}: {sending:?}");
    Row {
        fault,
        trials: 1,
        produced: sealed.len(),
        delivered: seen.len(),
        duplicated: times - seen.len(),
        outages: sending.outages,
    }
}

/// A fault of the link, some time after the first frames went out.
async fn link<F: Future<Output = World>>(fault: &'static str, bad: impl FnOnce(World) -> F) -> Row {
    let world = World::new().await;
    let tls = world.ca.tls(&world.good);
    trial(fault, world, tls, |world| async move {
        sleep(Duration::from_millis(400)).await;
        bad(world).await
    })
    .await
}

async fn broker_stops_and_starts() -> Row {
    link("broker stops and starts, three times", |mut world| async move {
        for _ in 0..3 {
            world.broker.stop();
            sleep(Duration::from_millis(100)).await;
            world.broker.start_again();
            sleep(Duration::from_millis(400)).await;
        }
        world
    })
    .await
}

async fn session_forgotten() -> Row {
    link("broker forgets all sessions", |mut world| async move {
        // The witness must not forget with it: it has what was confirmed before the broker forgets.
        world.proxy.refuse(true);
        world.proxy.cut();
        world.witness.quiet_for(Duration::from_millis(200)).await;
        world.broker.stop();
        world.broker.forget_sessions();
        sleep(Duration::from_millis(50)).await;
        world.broker.start_again();
        sleep(Duration::from_millis(50)).await;
        world.witness.subscribed().await;
        world.proxy.refuse(false);
        world
    })
    .await
}

async fn cut_mid_publish() -> Row {
    link("link cut in the middle of a publish, ten times", |world| async move {
        for bytes in 0..10 {
            // Some cuts hit the handshake, some the frames.
            world.proxy.cut_after(1_500 + 777 * bytes);
            sleep(Duration::from_millis(150)).await;
        }
        world
    })
    .await
}

async fn puback_lost() -> Row {
    link("PUBACKs lost, five times", |world| async move {
        for _ in 0..5 {
            world.proxy.lose_answers(Duration::from_millis(100)).await;
            sleep(Duration::from_millis(200)).await;
        }
        world
    })
    .await
}

async fn slow_link() -> Row {
    link("slow link, 32 kB/s", |world| async move {
        world.proxy.bytes_per_s(32_000);
        world
    })
    .await
}

async fn long_round_trip() -> Row {
    link("round trip of 100 ms, cut twice", |world| async move {
        world.proxy.delay(Duration::from_millis(50));
        for _ in 0..2 {
            sleep(Duration::from_millis(400)).await;
            world.proxy.cut();
        }
        world
    })
    .await
}

async fn refused_connection() -> Row {
    link("connections refused for a second", |world| async move {
        world.proxy.refuse(true);
        world.proxy.cut();
        sleep(Duration::from_secs(1)).await;
        world.proxy.refuse(false);
        world
    })
    .await
}

/// The gateway starts with a certificate that is refused, and is given a good one while it runs.
async fn client_certificate(fault: &'static str, wrong: impl FnOnce(&World) -> PemFiles, told: &str) -> Row {
    let world = World::new().await;
    let tls = world.ca.tls(&wrong(&world));
    let said = world.refusal(tls.clone()).await;
    assert!(said.contains("refuses this gateway's certificate") && said.contains(told), "{fault}: {said}");
    trial(fault, world, tls.clone(), |world| async move {
        sleep(Duration::from_millis(300)).await;
        fs::copy(&world.good.key, &tls.key).unwrap();
        fs::copy(&world.good.cert, &tls.cert).unwrap();
        world
    })
    .await
}

/// The broker starts with a certificate that is refused, and gets a good one.
async fn server_certificate(
    fault: &'static str,
    wrong: impl FnOnce(&Ca) -> PemFiles,
    told: &'static [&'static str],
) -> Row {
    let mut world = World::new().await;
    world.broker.configure(&world.ca.cert, &wrong(&world.ca));
    world.broker.stop();
    world.broker.start_again();
    let tls = world.ca.tls(&world.good);
    let said = world.refusal(tls.clone()).await;
    assert!(told.iter().all(|part| said.contains(part)), "{fault}: {said}");
    trial(fault, world, tls, |mut world| async move {
        sleep(Duration::from_millis(300)).await;
        world.broker.configure(&world.ca.cert, &world.ca.server(Validity::NOW));
        world.broker.stop();
        world.broker.start_again();
        world
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn every_fault_is_survived_without_loss() {
    let mut rows = JoinSet::new();
    rows.spawn(link("none", |world| async move { world }));
    rows.spawn(broker_stops_and_starts());
    rows.spawn(session_forgotten());
    rows.spawn(cut_mid_publish());
    rows.spawn(puback_lost());
    rows.spawn(slow_link());
    rows.spawn(long_round_trip());
    rows.spawn(refused_connection());
    rows.spawn(client_certificate(
        "client certificate of another CA",
        |world| Ca::new(world.dir.path(), "other").client("gw", Validity::NOW),
        "",
    ));
    rows.spawn(client_certificate(
        "client certificate expired",
        |world| world.ca.client("gw", Validity::EXPIRED),
        "",
    ));
    rows.spawn(server_certificate(
        "server certificate of another name",
        |ca| ca.server_for(&["broker.example"], Validity::NOW),
        &["another name than host"],
    ));
    rows.spawn(server_certificate(
        "clock before the server certificate",
        |ca| ca.server(Validity::NOT_YET),
        &["the clock may be wrong", "is valid from 20", "the clock here says 20"],
    ));
    let started = Instant::now();
    let mut table = rows.join_all().await;
    table.sort_by_key(|row| row.fault);
    println!("| fault | trials | produced | delivered | lost | duplicated | connections failed |");
    println!("|---|---|---|---|---|---|---|");
    for Row { fault, trials, produced, delivered, duplicated, outages } in &table {
        let lost = produced - delivered;
        println!("| {fault} | {trials} | {produced} | {delivered} | {lost} | {duplicated} | {outages} |");
    }
    for row in &table {
        assert_eq!(row.delivered, row.produced, "{row:?}");
        assert!(
            row.outages > 0 || ["none", "slow link, 32 kB/s"].contains(&row.fault),
            "it did nothing: {row:?}"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
