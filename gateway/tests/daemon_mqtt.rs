//! The real program against a real Mosquitto with mutual TLS, killed again and again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pki.rs"]
mod pki;
#[path = "common/witness.rs"]
mod witness;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Bronze, Row, objects};
use ingot_gateway::uplink::tls::TlsPaths;
use mosquitto::{ACL, Mosquitto};
use pki::{Ca, Validity};
use witness::{Seen, Witness};

const READINGS: u64 = 6_000;

fn start(dir: &Path, port: u16, tls: &TlsPaths) -> Child {
    let config = format!(
        "name = \"gw\"\n[batch]\nframe_bytes_max = 256\nage_ms_max = 15\n[spool]\ndir = {:?}\n\
         fsync_interval_ms = 20\nsegment_bytes_max = 4096\nbytes_max = 1000000\n\
         [uplink]\nbackoff_base_ms = 10\n[uplink.mqtt]\nhost = \"localhost\"\nport = {port}\n\
         keep_alive_s = 5\n[uplink.mqtt.tls]\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
        dir.join("spool"),
        tls.ca,
        tls.cert,
        tls.key
    );
    fs::write(dir.join("gateway.toml"), config).unwrap();
    Command::new(env!("CARGO_BIN_EXE_ingot-gateway"))
        .args(["run", "--format", "json", "--config"])
        .arg(dir.join("gateway.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn reading(seq: u64) -> (String, Row) {
    let (value, at) = (20.0 + (seq * 2_654_435_761 % 1_000) as f64 / 100.0, 1_767_225_600_000 + seq);
    let line = format!(
        "{{\"device\":\"d\",\"channel\":\"temperature\",\"value\":{value},\"at\":{at},\"seq\":{seq},\"boot\":9}}\n"
    );
    (line, ("d".into(), 9, seq, "temperature".into(), at as i64, value.to_bits(), 0))
}

/// Each object that was delivered, once; what came twice under one name must be the same.
fn delivered(seen: &Seen) -> (Bronze, usize) {
    let (mut bronze, mut duplicates) = (Bronze::default(), 0);
    for (topic, payloads) in seen {
        assert!(payloads.iter().all(|payload| payload == &payloads[0]), "{topic} has two contents");
        duplicates += payloads.len() - 1;
        bronze.add(&mut payloads[0].clone());
    }
    (bronze, duplicates)
}

/// What a person would find after the kill: delivered, or in whole frames of the spool.
fn stored(dir: &Path, seen: &Seen) -> BTreeSet<Row> {
    let mut found = delivered(seen).0;
    let spool = objects(&dir.join("spool"));
    for path in spool.iter().filter(|path| path.extension().is_some_and(|end| end == "ingot")) {
        let mut content = fs::read(path).unwrap();
        let whole = content.iter().rposition(|byte| *byte == 0).map_or(0, |end| end + 1);
        found.add(&mut content[..whole]);
    }
    found.rows.into_keys().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kill_9_in_the_middle_of_publishes_loses_nothing_that_was_stored() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new(dir.path(), "ca");
    let broker = Mosquitto::start(dir.path(), &ca.cert, &ca.server(Validity::NOW), ACL);
    let bridge = ca.tls(&ca.client("bridge", Validity::NOW));
    let witness = Witness::start(broker.port, &bridge, &["ingot/bronze/#"]).await;
    let tls = ca.tls(&ca.client("gw", Validity::NOW));

    let (mut next, mut kills) = (0, 0);
    while next < READINGS {
        let mut child = start(dir.path(), broker.port, &tls);
        let mut stdin = child.stdin.take().unwrap();
        let fed_to = READINGS.min(next + 300 + random.u64(..1_000));
        for seq in next..fed_to {
            stdin.write_all(reading(seq).0.as_bytes()).unwrap();
            if random.u8(..) == 0 {
                tokio::time::sleep(Duration::from_millis(random.u64(..30))).await;
            }
        }
        // Some kills hit the connection's start, most of them its publishes.
        tokio::time::sleep(Duration::from_millis(random.u64(..200))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;

        witness.quiet_for(Duration::from_millis(100)).await;
        let stored = stored(dir.path(), &witness.seen(0).await);
        next = (next..fed_to).find(|seq| !stored.contains(&reading(*seq).1)).unwrap_or(fed_to);
        assert!((next..fed_to).all(|seq| !stored.contains(&reading(seq).1)), "a hole before {fed_to}");
    }
    let last = start(dir.path(), broker.port, &tls).wait_with_output().unwrap();
    assert_eq!(last.status.code(), Some(0), "{}", String::from_utf8_lossy(&last.stderr));

    witness.quiet_for(Duration::from_millis(300)).await;
    let (bronze, duplicates) = delivered(&witness.seen(0).await);
    assert_eq!(bronze.rows.len() as u64, READINGS, "nothing is invented");
    assert!((0..READINGS).all(|seq| bronze.rows.get(&reading(seq).1) == Some(&1)), "each is there once");
    println!("{kills} kills, {} objects, {duplicates} sent twice", bronze.frames);
    assert!(kills >= 4);
}
