//! An operator makes a gateway's identity through AWS's API, played by moto, whatever is cut when.
#![cfg(feature = "aws")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/moto.rs"]
mod moto;
#[path = "common/pki.rs"]
mod pki;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mosquitto::{ACL, Mosquitto};
use moto::{Cut, Moto, Proxy};
use pki::{Ca, Validity};
use serde_json::Value;

const SECRET: &str = "canary-secret-key";
const TOKEN: &str = "canary-session-token";

fn create(port: u16, dir: &Path, more: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_ingot-gateway"))
        .args(["provision", "create", "--name", "gw-1", "--format", "json", "--wait-ms-max", "2000", "--dir"])
        .arg(dir)
        .args(more)
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "AKIDTEST")
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_SESSION_TOKEN", TOKEN)
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("RUST_LOG", "debug")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = told(&output);
    let key = fs::read_to_string(dir.join("1/key.pem")).unwrap_or_default();
    let key = key.lines().nth(1).unwrap_or(SECRET).to_owned();
    for canary in [SECRET, TOKEN, "PRIVATE KEY", &key] {
        assert!(!told.contains(canary), "{canary}: {told}");
    }
    output
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}", told(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", told(output));
    told(output).lines().find(|line| line.starts_with("error: ")).unwrap().into()
}

/// One thing, one policy, and `certificate` alone: active, and tied to both.
fn is_whole(moto: &Moto, certificate: &str) {
    let things = moto.iot("/things");
    assert_eq!(things["things"].as_array().unwrap().len(), 1, "{things}");
    let certificates = moto.iot("/certificates");
    let certificates = certificates["certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), 1, "{certificates:?}");
    assert_eq!(certificates[0]["certificateId"], certificate);
    assert_eq!(certificates[0]["status"], "ACTIVE");
    let principals = moto.iot("/things/gw-1/principals");
    assert_eq!(principals["principals"].as_array().unwrap().len(), 1);
    assert_eq!(moto.iot("/policies")["policies"].as_array().unwrap().len(), 1);
    let targets = moto.request("iot", "POST", "/policy-targets/ingot-gateway", b"{}");
    let targets: Value = serde_json::from_slice(&targets.1).unwrap();
    assert_eq!(targets["targets"].as_array().unwrap().len(), 1, "{targets}");
}

#[test]
fn a_cut_at_each_request_ends_in_one_thing_and_one_active_certificate() {
    let moto = Moto::start();
    let files = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(moto.port, Ca::new(files.path(), "ca"));
    let whole = |dir: &Path| {
        let second = done(&create(proxy.port, dir, &["--no-check"]));
        let id = second["certificate_id"].as_str().unwrap();
        is_whole(&moto, id);
        assert!(fs::read_to_string(dir.join("gateway.toml")).unwrap().contains(".amazonaws.com"));
        assert!(fs::read_to_string(dir.join("current/cert.pem")).unwrap().contains("BEGIN CERTIFICATE"));
        second
    };
    let reset = || moto.request("iot", "POST", "/moto-api/reset", b"");

    // A whole run says how many requests there are; a second one changes nothing.
    let dir = tempfile::tempdir().unwrap();
    let first = done(&create(proxy.port, dir.path(), &["--no-check"]));
    let requests = proxy.requests();
    assert!(requests >= 9, "{requests}");
    assert_eq!(whole(dir.path()), first);

    for at in 1..=requests {
        for cut in [Cut::Before(at), Cut::After(at)] {
            reset();
            let dir = tempfile::tempdir().unwrap();
            proxy.cut(cut);
            let cut_off = create(proxy.port, dir.path(), &["--no-check"]);
            assert_eq!(cut_off.status.code(), Some(1), "{cut:?}: {}", told(&cut_off));
            assert!(!dir.path().join("current").exists(), "{cut:?}");
            let key = fs::read_to_string(dir.path().join("1/key.pem")).unwrap();
            proxy.cut(Cut::Never);
            whole(dir.path());
            assert_eq!(fs::read_to_string(dir.path().join("current/key.pem")).unwrap(), key, "{cut:?}");
        }
    }
}

#[test]
fn each_step_says_what_is_wrong_and_what_to_do() {
    let moto = Moto::start();
    let files = tempfile::tempdir().unwrap();
    let ca = Ca::new(files.path(), "ca");
    let broker = Mosquitto::start(files.path(), &ca.cert, &ca.server(Validity::NOW), ACL);
    let (ca, aws) = (ca.cert.clone(), Proxy::start(moto.port, ca).port);
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = done(&create(aws, dir.path(), &["--no-check"]));
    let id = first["certificate_id"].as_str().unwrap();

    let why = error(&create(aws, other.path(), &["--no-check"]));
    assert!(why.contains(id) && why.contains("--replace"), "another machine has the name: {why}");
    let why = error(&create(aws, dir.path(), &["--no-check", "--role-alias", "ingot"]));
    assert!(why.contains("the policy: ingot-gateway exists") && why.contains("--update-policy"), "{why}");
    done(&create(aws, dir.path(), &["--no-check", "--role-alias", "ingot", "--update-policy"]));

    moto.request("iot", "PUT", &format!("/certificates/{id}?newStatus=INACTIVE"), b"");
    let why = error(&create(aws, dir.path(), &["--no-check", "--role-alias", "ingot"]));
    assert!(why.contains("INACTIVE") && why.contains("--rotate"), "{why}");

    let replaced = done(&create(aws, other.path(), &["--no-check", "--replace", "--role-alias", "ingot"]));
    assert_eq!(replaced["retired"][0], id);
    is_whole(&moto, replaced["certificate_id"].as_str().unwrap());

    // A rotation that cannot be proven by a connection leaves everything in use as it is.
    let before = fs::read(other.path().join("current/key.pem")).unwrap();
    let rotate = ["--rotate", "--role-alias", "ingot", "--host", "127.0.0.1", "--port", "9"];
    let why = error(&create(aws, other.path(), &rotate));
    assert!(why.contains("connecting with the new certificate"), "{why}");
    assert!(why.contains("the old certificate stays in use"), "{why}");
    assert_eq!(fs::read(other.path().join("current/key.pem")).unwrap(), before);

    // One that can: the broker takes the new certificate, the old one is gone from the registry.
    let port = broker.port.to_string();
    let rotate = ["--rotate", "--role-alias", "ingot", "--host", "127.0.0.1", "--port", &port, "--ca"];
    let rotated = done(&create(aws, other.path(), &[&rotate[..], &[ca.to_str().unwrap()]].concat()));
    assert_eq!(rotated["retired"][0], replaced["certificate_id"]);
    assert_eq!(rotated["checked"], true);
    is_whole(&moto, rotated["certificate_id"].as_str().unwrap());
    assert_ne!(fs::read(other.path().join("current/key.pem")).unwrap(), before);

    let why = error(&create(9, dir.path(), &["--no-check"]));
    assert!(why.contains("AWS cannot be reached"), "{why}");
    let nobody = Command::new(env!("CARGO_BIN_EXE_ingot-gateway"))
        .args(["provision", "create", "--name", "gw-9", "--region", "eu-west-1", "--dir"])
        .arg(files.path().join("nobody"))
        .env_clear()
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{aws}"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap();
    let why = error(&nobody);
    assert!(why.contains("no usable credentials") && why.contains("AWS_PROFILE"), "{why}");
}
