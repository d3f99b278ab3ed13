//! Contracts pushed to the real daemon over a real broker: taken, refused, rolled back, kept, taken away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pki.rs"]
mod pki;
#[path = "common/witness.rs"]
mod witness;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::Duration;

use common::Bronze;
use daemon::{Daemon, program};
use ingot_gateway::uplink::tls::TlsPaths;
use mosquitto::{ACL, Mosquitto};
use pki::{Ca, Validity};
use witness::Witness;

const TOPIC: &str = "ingot/contract/gw";

fn contract(temperature_max: f64) -> &'static str {
    format!(
        "kind: DataContract\ncustomProperties:\n- property: references\n  value:\n  - name: channels\n    rows:\n    - {{ channel: temperature, value_min: -40, value_max: {temperature_max} }}\n"
    )
    .leak()
}

fn config(port: u16, tls: &TlsPaths, topic: &str) -> String {
    format!(
        "name = \"gw\"\ndrain_ms_max = 500\n[range]\nout_of_range = \"drop\"\ncontract_topic = {topic:?}\n\
         contract_trial_ms = 0\n[batch]\nframe_bytes_max = 512\nage_ms_max = 30\n\
         [uplink]\nbackoff_base_ms = 10\nbackoff_cap_ms = 100\n[uplink.mqtt]\nhost = \"localhost\"\nport = {port}\n\
         keep_alive_s = 5\n[uplink.mqtt.tls]\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
        tls.ca, tls.cert, tls.key
    )
}

fn lines(value: f64, seqs: Range<u64>) -> String {
    let line = |seq| {
        format!(
            "{{\"device\":\"d\",\"channel\":\"temperature\",\"value\":{value},\"at\":{seq},\"seq\":{seq},\"boot\":1}}\n"
        )
    };
    seqs.map(line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_contract_is_taken_refused_rolled_back_kept_and_taken_away_and_no_reading_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new(dir.path(), "ca");
    let mut broker = Mosquitto::start(dir.path(), &ca.cert, &ca.server(Validity::NOW), ACL);
    let bridge = ca.tls(&ca.client("bridge", Validity::NOW));
    let witness = Witness::start(broker.port, &bridge, &["ingot/bronze/#"]).await;
    let config = config(broker.port, &ca.tls(&ca.client("gw", Validity::NOW)), TOPIC);
    let mut daemon = Daemon::start(dir.path(), &config, &[]);
    daemon.until("a connection", |now| now.uplink.connected);

    // 100 degrees are out of the built-in range, and dropped.
    daemon.feed(&lines(100.0, 0..10));
    daemon.until("the drops", |now| now.readings.dropped["range"] == 10);

    // Wider: taken at once, confirmed by its readings.
    witness.publish_retained(TOPIC, contract(120.0)).await;
    daemon.until("the trial", |now| now.contract.on_trial);
    daemon.feed(&lines(100.0, 100..300));
    let now = daemon.until("its end", |now| now.contract.pushed && !now.contract.on_trial);
    assert_eq!((now.contract.accepted, now.contract.rolled_back), (1, 0));

    // Not a contract: nothing changes.
    witness.publish_retained(TOPIC, "kind: Somebody's shopping list").await;
    let now = daemon.until("the refusal", |now| now.contract.refused == 1);
    assert!(now.notes.iter().any(|note| note.contains("refused")), "{:?}", now.notes);
    daemon.feed(&lines(100.0, 300..310));

    // Far too narrow: flagged, not dropped, and rolled back.
    witness.publish_retained(TOPIC, contract(10.0)).await;
    daemon.until("the second trial", |now| now.contract.on_trial);
    daemon.feed(&lines(50.0, 1_000..1_150));
    let now = daemon.until("the way back", |now| now.contract.rolled_back == 1);
    assert!(now.contract.pushed && !now.contract.on_trial, "{:?}", now.contract);
    daemon.feed(&lines(100.0, 310..320));
    daemon.until("all confirmed", |now| now.readings.acked == 370);
    let (output, _) = daemon.finish();
    assert_eq!(output.status.code(), Some(0));

    // Offline: the one that was kept is in force.
    broker.stop();
    let mut daemon = Daemon::start(dir.path(), &config, &[]);
    daemon.feed(&lines(100.0, 320..330));
    daemon.until("readings by the pushed contract", |now| {
        now.contract.pushed && now.spool.readings == 10 && now.readings.dropped["range"] == 0
    });
    // The narrow one is still retained, and not taken again.
    broker.start_again();
    let now = daemon.until("its refusal", |now| now.contract.refused == 1);
    assert!(now.contract.pushed && !now.contract.on_trial, "{:?}", now.contract);
    witness.subscribed().await;

    // An empty message: the configured one again.
    witness.publish_retained(TOPIC, "").await;
    daemon.until("the configured one", |now| !now.contract.pushed);
    daemon.feed(&lines(100.0, 10..20));
    daemon.until("the drops", |now| now.readings.dropped["range"] == 10 && now.readings.acked == 10);
    let (output, _) = daemon.finish();
    assert_eq!(output.status.code(), Some(0));

    witness.quiet_for(Duration::from_millis(300)).await;
    let mut bronze = Bronze::default();
    for payloads in witness.seen(0).await.values() {
        bronze.add(&mut payloads[0].clone());
    }
    assert!(bronze.rows.values().all(|times| *times == 1));
    let seqs: Vec<u64> = bronze.rows.keys().map(|row| row.2).collect();
    assert_eq!(seqs, (100..330).chain(1_000..1_150).collect::<Vec<_>>());
    let flagged =
        |seqs: Range<u64>| bronze.rows.keys().filter(|row| seqs.contains(&row.2) && row.6 & 1 == 1).count();
    assert_eq!((flagged(100..330), flagged(1_000..1_150)), (0, 150));
}

fn doctor(dir: &Path, config: &str) -> String {
    daemon::write_config(dir, config);
    let output = program().args(["doctor", "--config"]).arg(dir.join("gateway.toml")).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_doctor_tries_the_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new(dir.path(), "ca");
    let broker = Mosquitto::start(dir.path(), &ca.cert, &ca.server(Validity::NOW), ACL);
    let tls = ca.tls(&ca.client("gw", Validity::NOW));
    let spool = format!("[spool]\ndir = {:?}\n", dir.path().join("examined"));
    let good = doctor(dir.path(), &(config(broker.port, &tls, TOPIC) + &spool));
    assert!(good.contains("pushed contracts are heard under ingot/contract/gw"), "{good}");

    let plain = format!(
        "[range]\ncontract_topic = {TOPIC:?}\n[uplink.mqtt]\nhost = \"127.0.0.1\"\nport = {}\n",
        refusing()
    );
    let refused = doctor(dir.path(), &(plain + &spool));
    assert!(refused.contains("the broker refuses the subscription"), "{refused}");
    assert!(refused.contains("iot:Subscribe"), "{refused}");
}

/// The port of a broker that takes everybody and answers "not authorized" to subscriptions.
fn refusing() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for socket in listener.incoming() {
            thread::spawn(move || refuse(socket.unwrap()));
        }
    });
    port
}

fn refuse(mut socket: TcpStream) {
    let mut packet = [0; 1_024];
    while let Ok(bytes) = socket.read(&mut packet)
        && bytes > 0
    {
        let answer: &[u8] = match packet[0] >> 4 {
            1 => &[0x20, 3, 0, 0, 0],                       // CONNACK: success
            8 => &[0x90, 4, packet[2], packet[3], 0, 0x87], // SUBACK: not authorized
            _ => continue,
        };
        socket.write_all(answer).unwrap();
    }
}
