//! Canaries where secrets are: none of them may be in anything that the gateway says, at any level.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pki.rs"]
mod pki;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

use daemon::{Daemon, program, write_config};
use mosquitto::{ACL, Mosquitto};
use pki::{Ca, Validity};

/// The password of a source's broker.
const PASSWORD: &str = "canary7f3apassword";
/// What comes in by mistake, as a reading, as a message, and inside the settings.
const MISTAKE: &str = "canary7f3amistake";
/// In the environment of the process.
const ENVIRONMENT: &str = "canary7f3aenvironment";

/// A broker that takes the login, and publishes one message that is no reading.
struct SourceBroker {
    port: u16,
    login: JoinHandle<Vec<u8>>,
}

impl SourceBroker {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let login = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let connect = packet(&mut socket);
            socket.write_all(&[0x20, 3, 0, 0, 0]).unwrap(); // CONNACK: success
            let subscribe = packet(&mut socket);
            socket.write_all(&[0x90, 4, subscribe[2], subscribe[3], 0, 1]).unwrap(); // SUBACK: QoS 1
            let topic = b"sensors/d";
            let mut publish = vec![0x30, 0, 0, topic.len() as u8];
            publish.extend_from_slice(topic);
            publish.push(0);
            write!(publish, "{{\"temperature\":\"{MISTAKE}\"}}").unwrap();
            publish[1] = publish.len() as u8 - 2;
            socket.write_all(&publish).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
            connect
        });
        Self { port, login }
    }
}

fn packet(socket: &mut TcpStream) -> Vec<u8> {
    let mut packet = vec![0; 1_024];
    let bytes = socket.read(&mut packet).unwrap();
    packet.truncate(bytes);
    packet
}

/// What a command says on both of its outputs.
fn said(dir: &Path, command: &[&str]) -> String {
    let output = program()
        .args(command)
        .arg("--config")
        .arg(dir.join("gateway.toml"))
        .arg("--spool")
        .arg(dir.join("spool"))
        .env("RUST_LOG", "trace")
        .env("INGOT_PASSWORD", ENVIRONMENT)
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn served(dir: &Path, path: &str) -> String {
    let mut socket = UnixStream::connect(dir.join("spool/health.sock")).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

#[test]
fn no_secret_is_in_a_log_metrics_page_status_doctor_or_check() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new(dir.path(), "ca");
    let broker = Mosquitto::start(dir.path(), &ca.cert, &ca.server(Validity::NOW), ACL);
    let source = SourceBroker::start();
    let client = ca.client("gateway", Validity::NOW);
    let key = fs::read_to_string(&client.key).unwrap();
    let password_file = dir.path().join("password");
    fs::write(&password_file, format!("{PASSWORD}\n")).unwrap();
    let config = format!(
        r#"
        drain_ms_max = 300
        [uplink.mqtt]
        host = "localhost"
        port = {}
        [uplink.mqtt.tls]
        ca = {:?}
        cert = {:?}
        key = {:?}
        [[source]]
        kind = "ndjson"
        [[source]]
        kind = "mqtt"
        port = {}
        user = "gateway"
        password_file = {password_file:?}
        [[source.map]]
        topic = "sensors/{{device}}"
        channels = {{ temperature = "/temperature" }}
        "#,
        broker.port, ca.cert, client.cert, client.key, source.port
    );
    let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    notify.set_nonblocking(true).unwrap();
    let environment = [
        ("RUST_LOG", "trace"),
        ("NOTIFY_SOCKET", dir.path().join("notify").to_str().unwrap()),
        ("INGOT_PASSWORD", ENVIRONMENT),
        ("AWS_SECRET_ACCESS_KEY", ENVIRONMENT),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut daemon = Daemon::start(dir.path(), &config, &environment);
    daemon.until("a connection with the key", |now| now.uplink.connected);
    daemon.feed(&format!("{{\"device\":\"d\",\"password\":\"{MISTAKE}\"}}\n"));
    daemon
        .until("the bad line and the bad message are counted", |now| now.readings.dropped["malformed"] == 2);

    let mut all = String::new();
    for path in ["/", "/metrics", "/health"] {
        all += &served(dir.path(), path);
    }
    for command in [
        &["check"][..],
        &["doctor"],
        &["doctor", "--format", "json"],
        &["status", "--once"],
        &["status", "--format", "json"],
    ] {
        let said = said(dir.path(), command);
        assert!(!said.is_empty());
        all += &said;
    }
    // Settings with a secret where none belongs, in good TOML and in bad.
    for (mistake, part) in [
        (format!("password = \"{MISTAKE}\"\n{config}"), "password: is unknown here"),
        (format!("{config}\npassword = {MISTAKE}\n"), "is not TOML, line"),
        (config.replace(&format!("{:?}", client.key), &format!("{key:?}")), "uplink.mqtt.tls.key: wants"),
        (config.replace(password_file.to_str().unwrap(), MISTAKE), "source[1].password_file: wants"),
        (format!("{config}\n[uplink.lake]\nurl = \"https://u:{MISTAKE}@lake\"\n"), "uplink.lake.url: wants"),
    ] {
        write_config(dir.path(), &mistake);
        let said = said(dir.path(), &["check"]);
        assert!(said.contains(part), "{said}");
        all += &said;
        let before = daemon.log().matches("the old ones stay in effect").count();
        daemon.signal("-HUP");
        daemon.until_logged("the old ones stay in effect", before + 1);
    }
    // A key that is damaged: the message must not show what it could not read.
    write_config(dir.path(), &config);
    fs::write(&client.key, key.replace("PRIVATE KEY", "PRIVATE LOCK")).unwrap();
    daemon.signal("-HUP");
    daemon.until_logged("the old settings stay in effect", 1);
    all += &said(dir.path(), &["doctor"]);
    daemon.signal("-TERM");
    let (output, _) = daemon.finish();
    let mut buffer = [0; 4_096];
    while let Ok(bytes) = notify.recv(&mut buffer) {
        all += &String::from_utf8_lossy(&buffer[..bytes]);
    }

    let login = source.login.join().unwrap();
    assert!(String::from_utf8_lossy(&login).contains(PASSWORD), "the password was used");
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("DEBUG") && all.contains("STATUS="), "the level was high enough to mean something");
    all += &log;
    all += &String::from_utf8_lossy(&output.stdout);
    let secrets: Vec<_> = key.lines().filter(|line| !line.starts_with('-') && line.len() > 8).collect();
    assert!(!secrets.is_empty());
    for secret in [PASSWORD, MISTAKE, ENVIRONMENT].iter().chain(&secrets) {
        let place = all.lines().find(|line| line.contains(secret));
        assert!(place.is_none(), "a secret stands in {place:?}");
    }
}
