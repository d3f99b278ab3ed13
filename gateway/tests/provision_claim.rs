//! A device gets its identity over MQTT from a real Mosquitto with mutual TLS, whatever is cut when, and
//! rotates it while a backlog drains.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/fleet.rs"]
mod fleet;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pki.rs"]
mod pki;
#[path = "common/witness.rs"]
mod witness;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::Bronze;
use fleet::{Fault, Fleet};
use ingot_gateway::config::{Config, Overrides};
use pki::Validity;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};
use witness::Witness;

/// Runs the command as a user would; fails if it hangs.
async fn claim(fleet: &Fleet, dir: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingot-gateway"));
    command.args([
        "provision",
        "claim",
        "--name",
        "gw-1",
        "--host",
        "127.0.0.1",
        "--template",
        "ingot-fleet",
    ]);
    command.args(["--parameter", "SerialNumber=0042", "--wait-ms-max", "1500", "--format", "json"]);
    command.arg("--port").arg(fleet.broker.port.to_string());
    for (flag, path) in [
        ("--dir", dir),
        ("--ca", &fleet.ca.cert),
        ("--claim-cert", &fleet.claim.cert),
        ("--claim-key", &fleet.claim.key),
    ] {
        command.arg(flag).arg(path);
    }
    command.args(more).env("RUST_LOG", "trace").stdin(Stdio::null());
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    timeout(Duration::from_secs(30), run).await.expect("it ends").unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// The error's line.
fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", told(output));
    told(output).lines().find(|line| line.starts_with("error: ")).unwrap().into()
}

fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}", told(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// No token, and nothing of the private keys, in anything that was said.
fn keeps_secrets(fleet: &Fleet, dir: &Path, outputs: &[Output]) {
    let mut keys = vec![fleet.claim.key.clone()];
    keys.extend(["1", "2"].map(|number| dir.join(number).join("key.pem")));
    let mut canaries = vec!["canary".to_owned(), "PRIVATE KEY".to_owned()];
    for key in keys.iter().filter_map(|key| fs::read_to_string(key).ok()) {
        canaries
            .extend(key.lines().filter(|line| line.len() > 20 && !line.contains("---")).map(str::to_owned));
    }
    assert!(canaries.len() >= 4, "there are keys to look for");
    for output in outputs {
        for canary in &canaries {
            assert!(!told(output).contains(canary), "{canary} in {}", told(output));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_at_each_step_ends_in_one_thing_and_one_certificate() {
    let cuts: &[&[(&'static str, Fault)]] = &[
        &[(Fleet::CREATE, Fault::Lost)],
        &[(Fleet::CREATE, Fault::AnswerLost)],
        &[(Fleet::PROVISION, Fault::Lost)],
        &[(Fleet::PROVISION, Fault::AnswerLost)],
        &[(Fleet::PROVISION, Fault::Refused("InternalError"))],
        &[(Fleet::CREATE, Fault::AnswerLost), (Fleet::PROVISION, Fault::AnswerLost)],
    ];
    for cut in cuts {
        let tests = tempfile::tempdir().unwrap();
        let fleet = Fleet::start(tests.path()).await;
        let dir = tests.path().join("identity");
        for (topic, fault) in *cut {
            fleet.fault(topic, *fault);
        }
        let mut outputs = Vec::new();
        for _ in *cut {
            let cut_off = claim(&fleet, &dir, &[]).await;
            assert!(!dir.join("current").exists(), "nothing is in use before it is whole: {cut:?}");
            error(&cut_off);
            outputs.push(cut_off);
        }
        let key = fs::read_to_string(dir.join("1/key.pem")).unwrap();
        let whole = claim(&fleet, &dir, &[]).await;
        let certificates = fleet.certificates("gw-1");
        assert_eq!(fleet.registry.lock().unwrap().things.len(), 1, "{cut:?}");
        assert_eq!(certificates.len(), 1, "{cut:?}");
        assert_eq!(done(&whole)["certificate_id"].as_str(), certificates.first().map(String::as_str));
        assert_eq!(fs::read_to_string(dir.join("current/key.pem")).unwrap(), key, "the key is kept: {cut:?}");
        // Once more: nothing new is asked for.
        let again = claim(&fleet, &dir, &[]).await;
        assert_eq!(done(&again), done(&whole));
        assert_eq!(fleet.certificates("gw-1"), certificates);
        outputs.extend([whole, again]);
        keeps_secrets(&fleet, &dir, &outputs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_says_what_is_wrong_and_what_to_do() {
    let tests = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(tests.path()).await;
    let dir = tests.path().join("identity");

    fleet.fault(Fleet::CREATE, Fault::Refused("Throttled"));
    let why = error(&claim(&fleet, &dir, &[]).await);
    assert!(why.contains("the certificate: rejected with status 403, Throttled: as the test wants"), "{why}");

    fleet.fault(Fleet::PROVISION, Fault::Refused("InvalidParameters"));
    let why = error(&claim(&fleet, &dir, &[]).await);
    for part in ["registering by the template", "ingot-fleet", "403, InvalidParameters", "--parameter"] {
        assert!(why.contains(part), "{why}");
    }

    // An expired token: a new certificate for the same key, in the same run.
    let key = fs::read_to_string(dir.join("1/key.pem")).unwrap();
    fleet.fault(Fleet::PROVISION, Fault::TokenExpired);
    done(&claim(&fleet, &dir, &[]).await);
    assert_eq!(fs::read_to_string(dir.join("current/key.pem")).unwrap(), key);
    assert_eq!(fleet.certificates("gw-1").len(), 1);
    assert_eq!(fleet.registry.lock().unwrap().parameters["SerialNumber"], "0042");

    fleet.broker.stop();
    let why = error(&claim(&fleet, &dir, &["--rotate"]).await);
    assert!(why.contains("connecting with the claim certificate: 127.0.0.1:"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_while_a_backlog_drains_loses_nothing() {
    const READINGS: u64 = 3_000;
    let tests = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(tests.path()).await;
    let dir = tests.path().join("identity");
    let first = done(&claim(&fleet, &dir, &[]).await);
    let bridge = fleet.ca.tls(&fleet.ca.client("bridge", Validity::NOW));
    let witness = Witness::start(fleet.broker.port, &bridge, &["ingot/bronze/#"]).await;

    let settings = fs::read_to_string(dir.join("gateway.toml")).unwrap();
    let settings = settings.replace("topic_prefix = \"$aws/rules/ingot_bronze/\"\n", "keep_alive_s = 5\n")
        + &format!(
            "[batch]\nframe_bytes_max = 256\nage_ms_max = 50\n[spool]\ndir = {:?}\n[uplink]\nbackoff_base_ms = 20\nbackoff_cap_ms = 200\n",
            tests.path().join("spool")
        );
    let config = Config::from_toml(&settings, Overrides::default()).unwrap();
    let (mut readings, input) = tokio::io::duplex(1 << 16);
    let input = Box::new(tokio::io::BufReader::new(input));
    let gateway = tokio::spawn(ingot_gateway::run(config, vec![input], std::future::pending()));
    let feed = tokio::spawn(async move {
        for seq in 0..READINGS {
            let line = format!(
                "{{\"device\":\"d\",\"channel\":\"temperature\",\"value\":{},\"at\":{seq},\"seq\":{seq},\"boot\":1}}\n",
                f64::from(seq as u32 % 97) / 8.0
            );
            readings.write_all(line.as_bytes()).await.unwrap();
            if seq % 10 == 0 {
                sleep(Duration::from_millis(10)).await;
            }
        }
    });
    sleep(Duration::from_millis(300)).await;
    let rotated = claim(&fleet, &dir, &["--rotate"]).await;
    let second = done(&rotated);
    assert_ne!(first["certificate_id"], second["certificate_id"]);
    assert_ne!(fs::read(dir.join("1/key.pem")).unwrap(), fs::read(dir.join("current/key.pem")).unwrap());

    // From here on the broker trusts the new certificate and no longer the old one.
    fleet.broker.stop();
    let old = fleet.trusted.join(format!("{}.pem", first["certificate_id"].as_str().unwrap()));
    fs::remove_file(&old).unwrap();
    assert!(Command::new("openssl").arg("rehash").arg(&fleet.trusted).status().unwrap().success());
    fleet.broker.start_again();
    witness.subscribed().await;
    let old = ingot_gateway::uplink::tls::TlsPaths {
        ca: fleet.ca.cert.clone(),
        cert: dir.join("1/cert.pem"),
        key: dir.join("1/key.pem"),
    };
    let endpoint = ingot_gateway::provision::connection::Endpoint {
        host: "127.0.0.1".into(),
        port: fleet.broker.port,
        wait_ms_max: 2_000,
    };
    let refused = ingot_gateway::provision::connection::Connection::open(&endpoint, &old, "gw-1-old").await;
    assert!(refused.is_err(), "the old certificate is no longer accepted");

    feed.await.unwrap();
    let summary = timeout(Duration::from_secs(60), gateway).await.expect("it ends").unwrap().unwrap();
    assert_eq!((summary.produced, summary.acked_readings), (READINGS, READINGS), "{summary}");
    witness.quiet_for(Duration::from_millis(300)).await;
    let mut bronze = Bronze::default();
    for payloads in witness.seen(summary.acked_frames as usize).await.values() {
        bronze.add(&mut payloads[0].clone());
    }
    assert_eq!(bronze.rows.len() as u64, READINGS);
    assert!(bronze.rows.values().all(|times| *times == 1));
    keeps_secrets(&fleet, &dir, &[rotated]);
}
