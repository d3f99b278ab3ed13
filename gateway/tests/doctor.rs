//! `ingot-gateway doctor` against a real Mosquitto with mutual TLS: each trouble is named in words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common {
    pub mod mosquitto;
    pub mod pki;
}

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::mosquitto::{ACL, Mosquitto};
use common::pki::{Ca, PemFiles, Validity};
use serde_json::Value;
use tempfile::TempDir;

/// An authority, a broker that trusts its clients, and a directory for both.
struct Site {
    dir: TempDir,
    ca: Ca,
    broker: Mosquitto,
}

impl Site {
    fn new(server: impl FnOnce(&Ca) -> PemFiles, acl: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new(dir.path(), "ca");
        let server = server(&ca);
        let broker = Mosquitto::start(dir.path(), &ca.cert, &server, acl);
        Self { dir, ca, broker }
    }

    fn good() -> Self {
        Self::new(|ca| ca.server(Validity::NOW), ACL)
    }

    fn client(&self, validity: Validity) -> PemFiles {
        private(self.ca.client("gw-1", validity))
    }

    fn config(&self, host: &str, port: u16, ca: &Path, client: &PemFiles) -> String {
        format!(
            "name = \"gw-1\"\n[uplink.mqtt]\nhost = \"{host}\"\nport = {port}\nconnect_ms_max = 3000\n\
             [uplink.mqtt.tls]\nca = {ca:?}\ncert = {:?}\nkey = {:?}\n",
            client.cert, client.key
        )
    }

    fn doctor_with(&self, client: &PemFiles, more: &[&str]) -> Findings {
        doctor(self.dir.path(), &self.config("localhost", self.broker.port, &self.ca.cert, client), more)
    }
}

fn private(files: PemFiles) -> PemFiles {
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
    files
}

struct Findings {
    failed: bool,
    all: Vec<Value>,
}

impl Findings {
    /// The check's verdict and words are as wanted; a failure is told by the exit code, too.
    fn has(&self, check: &str, verdict: &str, part: &str) {
        let found = self.all.iter().any(|finding| {
            let words = format!("{} {}", finding["what"], finding["todo"]);
            finding["check"] == check && finding["verdict"] == verdict && words.contains(part)
        });
        assert!(found, "{check} {verdict} {part:?} in {:#?}", self.all);
        assert!(self.failed || verdict != "fail", "the exit code says so");
    }
}

fn doctor(dir: &Path, config: &str, more: &[&str]) -> Findings {
    fs::write(dir.join("gateway.toml"), config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ingot-gateway"))
        .args(["doctor", "--format", "json", "--config"])
        .arg(dir.join("gateway.toml"))
        .arg("--spool")
        .arg(dir.join("spool"))
        .args(more)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON on stdout");
    let failed = match output.status.code() {
        Some(0) => false,
        Some(1) => true,
        other => panic!("{other:?}"),
    };
    Findings { failed, all: report["findings"].as_array().unwrap().clone() }
}

#[test]
fn a_good_site_is_all_ok_down_to_a_publish() {
    let site = Site::good();
    let client = site.client(Validity { from_s: -86_400, until_s: 90 * 86_400 });
    let found = site.doctor_with(&client, &["--publish"]);
    for check in
        ["config", "spool", "clock", "certificate", "subject", "key mode", "key", "dns", "tcp", "tls", "mqtt"]
    {
        found.has(check, "ok", "");
    }
    // Nobody subscribes here, so the broker has nobody to give the frame to: that is said, too.
    found.has("publish", "fail", "subscribes");
    assert!(!site.doctor_with(&client, &[]).failed);
}

#[test]
fn certificates_that_end_are_over_or_do_not_fit_are_named() {
    let site = Site::good();
    let soon = site.client(Validity { from_s: -86_400, until_s: 3 * 86_400 });
    site.doctor_with(&soon, &[]).has("certificate", "warn", "expires on");
    let found = site.doctor_with(&site.client(Validity::EXPIRED), &[]);
    found.has("certificate", "fail", "expired on");
    found.has("tls", "fail", "expired");
    found.has("mqtt", "skip", "not tried");
    site.doctor_with(&site.client(Validity::NOT_YET), &[]).has(
        "certificate",
        "fail",
        "clock is most likely behind",
    );

    let (one, other) = (site.client(Validity::NOW), site.client(Validity::NOW));
    let mixed = PemFiles { cert: one.cert.clone(), key: other.key };
    site.doctor_with(&mixed, &[]).has("key", "fail", "is not the key of");

    fs::set_permissions(&one.key, fs::Permissions::from_mode(0o644)).unwrap();
    site.doctor_with(&one, &[]).has("key mode", "fail", "chmod 600");
    fs::set_permissions(&one.key, fs::Permissions::from_mode(0o640)).unwrap();
    site.doctor_with(&one, &[]).has("key mode", "warn", "group");

    let stranger = private(site.ca.client("gw-2", Validity::NOW));
    site.doctor_with(&stranger, &[]).has("subject", "warn", "gw-2");
    let junk = site.dir.path().join("junk.pem");
    fs::write(&junk, "no certificate").unwrap();
    site.doctor_with(&private(PemFiles { cert: junk, ..one }), &[]).has(
        "certificate",
        "fail",
        "BEGIN CERTIFICATE",
    );
}

#[test]
fn the_layer_of_the_link_that_fails_is_named() {
    let site = Site::good();
    let client = site.client(Validity::NOW);
    let dir = site.dir.path();
    let at = |host: &str, port: u16, ca: &Path| doctor(dir, &site.config(host, port, ca, &client), &[]);

    let found = at("no-such-host.invalid", site.broker.port, &site.ca.cert);
    found.has("dns", "fail", "name server");
    found.has("tcp", "skip", "");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    at("127.0.0.1", nobody, &site.ca.cert).has("tcp", "fail", "nothing listens there");
    let other = Ca::new(dir, "other");
    at("localhost", site.broker.port, &other.cert).has("tls", "fail", "roots in tls.ca");
    let wrong_name = Site::new(|ca| ca.server_for(&["broker.example"], Validity::NOW), ACL);
    let client = wrong_name.client(Validity::NOW);
    wrong_name.doctor_with(&client, &[]).has("tls", "fail", "not for localhost");
    let expired = Site::new(|ca| ca.server(Validity::EXPIRED), ACL);
    let client = expired.client(Validity::NOW);
    expired.doctor_with(&client, &[]).has("tls", "fail", "broker's certificate is expired");

    let foreign = private(other.client("gw-1", Validity::NOW));
    site.doctor_with(&foreign, &[]).has("tls", "fail", "who signed this gateway's certificate");
}

#[test]
fn a_port_that_is_not_tls_and_a_policy_that_forbids_are_named() {
    let forbidding = Site::new(|ca| ca.server(Validity::NOW), "user nobody\ntopic read nothing\n");
    let client = forbidding.client(Validity::NOW);
    let found = forbidding.doctor_with(&client, &["--publish"]);
    found.has("mqtt", "ok", "gw-1");
    found.has("publish", "fail", "not authorised");

    // A plain broker that wants a password.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("plain.conf"), format!("listener {port} 127.0.0.1\nallow_anonymous false\n"))
        .unwrap();
    let plain =
        Command::new("/usr/sbin/mosquitto").arg("-c").arg(dir.path().join("plain.conf")).spawn().unwrap();
    let _plain = Ended(plain);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let config = format!("[uplink.mqtt]\nhost = \"127.0.0.1\"\nport = {port}\n");
    doctor(dir.path(), &config, &[]).has("mqtt", "fail", "iot:Connect");
    let tls = forbidding.config("localhost", port, &forbidding.ca.cert, &client);
    doctor(dir.path(), &tls, &[]).has("tls", "fail", "");
}

struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn settings_devices_and_directories_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let found =
        doctor(dir.path(), "nmae = 1\n[batch]\nage_ms_max = 0\n[uplink.lake]\nurl = \"file:///tmp\"\n", &[]);
    found.has("config", "fail", "nmae");
    found.has("config", "fail", "batch.age_ms_max");
    let config = format!(
        "[[source]]\nkind = \"i2c\"\nbus = \"/dev/no-such-bus\"\n[[source.sensor]]\nchip = \"sht4x\"\n\
         [uplink.lake]\nurl = \"file://{}/lake\"\n",
        dir.path().display()
    );
    let found = doctor(dir.path(), &config, &[]);
    found.has("source", "fail", "i2c-dev");
    found.has("lake", "ok", "");
    fs::write(dir.path().join("spool"), "a file").unwrap();
    doctor(dir.path(), &config, &[]).has("spool", "fail", "is a file");
}
