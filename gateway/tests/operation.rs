//! The real daemon in its operator's hands: reload, health, notifications, ports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/daemon.rs"]
mod daemon;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use common::Bronze;
use daemon::{Daemon, program, wait, write_config};

fn lines(device: &str, channel: &str, value: f64, seqs: std::ops::Range<u64>) -> String {
    seqs.map(|seq| {
        format!(
            "{{\"device\":\"{device}\",\"channel\":\"{channel}\",\"value\":{value},\"at\":{seq},\"seq\":{seq},\"boot\":1}}\n"
        )
    })
    .collect()
}

fn lake(dir: &Path) -> String {
    format!("[uplink.lake]\nurl = \"file://{}\"\n", dir.display())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Small frames, short waits.
const FAST: &str =
    "[batch]\nframe_bytes_max = 512\nage_ms_max = 100\n[uplink]\nbackoff_base_ms = 10\nbackoff_cap_ms = 50\n";

#[test]
fn new_settings_take_effect_while_readings_flow_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let config = |more: &str, lake_dir: &Path| format!("{more}{FAST}{}", lake(lake_dir));
    let mut daemon = Daemon::start(dir.path(), &config("", &first), &[]);

    daemon.feed(&lines("d", "voltage", 99.0, 0..500));
    daemon.until("the first readings in bronze", |now| now.readings.acked == 500);

    // A changed range table, in mid-stream.
    write_config(dir.path(), &config("[range]\ndrop_channels = [\"voltage\"]\n", &first));
    daemon.signal("-HUP");
    daemon.until_logged("the new settings are in effect", 1);
    daemon.feed(&lines("d", "voltage", 99.0, 500..600));
    daemon.feed(&lines("d", "temperature", 20.0, 600..1_000));
    daemon.until("the out-of-range readings are dropped and counted", |now| {
        now.readings.dropped["range"] == 100 && now.readings.acked == 900
    });

    // Broken and half-written settings: all that is wrong is said, the old ones stay.
    write_config(dir.path(), "nmae = 1\n[batch]\nage_ms_max = 0\n[uplink.lake]\nurl = \"nowhere\"\n");
    daemon.signal("-HUP");
    daemon.until_logged("the new settings are not valid", 1);
    let log = daemon.log();
    assert!(["nmae", "batch.age_ms_max", "uplink.lake.url"].iter().all(|key| log.contains(key)), "{log}");
    let whole = config("", &second);
    write_config(dir.path(), &whole[..whole.len() - 9]);
    daemon.signal("-HUP");
    daemon.until_logged("the new settings are not valid", 2);
    daemon.feed(&lines("d", "temperature", 20.0, 1_000..1_500));

    // Another uplink, with frames on their way.
    write_config(dir.path(), &config("name = \"other\"\n", &second));
    daemon.signal("-HUP");
    daemon.until_logged("a new name needs a restart", 1);
    daemon.until_logged("the new settings are in effect", 2);
    daemon.feed(&lines("d", "temperature", 20.0, 1_500..2_000));

    let (output, summary) = daemon.finish();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((&summary["produced"], &summary["acked_readings"]), (&2_000.into(), &1_900.into()));
    assert_eq!(summary["gateway"], "gateway");
    let (first, second) = (Bronze::read(&first), Bronze::read(&second));
    assert!(second.rows.len() >= 500, "what came last went to the new uplink");
    let all: BTreeSet<_> = first.rows.keys().chain(second.rows.keys()).map(|row| row.2).collect();
    assert_eq!(all, (0..500).chain(600..2_000).collect());
}

#[test]
fn a_reload_without_changes_connects_the_uplink_anew() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = broker.local_addr().unwrap().port();
    let config = format!("[uplink.mqtt]\nhost = \"127.0.0.1\"\nport = {port}\n");
    let daemon = Daemon::start(dir.path(), &config, &[]);
    let accept = || {
        let (mut socket, _) = broker.accept().unwrap();
        let mut connect = [0; 64];
        assert!(socket.read(&mut connect).unwrap() > 0);
        socket.write_all(&[0x20, 3, 0, 0, 0]).unwrap(); // CONNACK: new session, success
        socket
    };
    let mut first = accept();
    daemon.until("connected", |now| now.uplink.connected);
    daemon.signal("-HUP");
    let _second = accept();
    first.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).unwrap();
    let now = daemon.until("connected again", |now| now.uplink.connected);
    assert_eq!(now.uplink.outages, 0, "a reload is no outage");
}

/// An open HTTP port, every kind of source, the MQTT uplink: all on, nothing off loopback.
#[test]
fn nothing_listens_off_loopback() {
    let dir = tempfile::tempdir().unwrap();
    let (port, nobody) = (free_port(), free_port());
    let config = format!(
        r#"
        [health]
        listen = "127.0.0.1:{port}"
        [uplink.mqtt]
        host = "127.0.0.1"
        port = {nobody}
        [[source]]
        kind = "ndjson"
        [[source]]
        kind = "i2c"
        bus = "simulated"
        [[source.sensor]]
        chip = "bme280"
        [[source]]
        kind = "serial"
        path = "/dev/no-such-port"
        [[source]]
        kind = "w1"
        dir = "/no/such/bus"
        [[source]]
        kind = "modbus"
        host = "127.0.0.1"
        port = {nobody}
        [[source.register]]
        channel = "temperature"
        address = 0
        [[source]]
        kind = "mqtt"
        host = "127.0.0.1"
        port = {nobody}
        [[source.map]]
        topic = "sensors/{{device}}"
        channels = {{ temperature = "" }}
        "#
    );
    let daemon = Daemon::start(dir.path(), &config, &[]);
    let metrics = wait("metrics", || ask(port, "/metrics")).expect("the health server answers");
    assert!(metrics.contains("ingot_gateway_info{"), "{metrics}");
    assert!(ask(port, "/").unwrap().contains("<svg"), "the page has its picture");

    let own = sockets_of(daemon.id());
    let mut listening = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        for line in fs::read_to_string(format!("/proc/{}/net/{table}", daemon.id())).unwrap().lines().skip(1)
        {
            let fields: Vec<_> = line.split_whitespace().collect();
            let listens = fields[3] == "0A" || (table.starts_with("udp") && fields[3] == "07");
            if listens && own.contains(fields[9]) {
                listening.push(fields[1].to_owned());
            }
        }
    }
    // proc(5): the address as a hexadecimal number in the machine's byte order.
    assert_eq!(listening, [format!("0100007F:{port:04X}")]);
}

/// Inodes of a process's sockets.
fn sockets_of(id: u32) -> BTreeSet<String> {
    let files = fs::read_dir(format!("/proc/{id}/fd")).unwrap();
    let targets = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    targets
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

fn ask(port: u16, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Some(answer)
}

#[test]
fn a_health_port_that_is_taken_does_not_stop_the_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = format!("[health]\nlisten = \"127.0.0.1:{port}\"\n{}", lake(&dir.path().join("lake")));
    let mut daemon = Daemon::start(dir.path(), &config, &[]);
    daemon.feed(&lines("d", "temperature", 20.0, 0..10));
    daemon.until_logged("health and metrics cannot be served", 1);
    let (output, summary) = daemon.finish();
    assert_eq!((output.status.code(), &summary["acked_readings"]), (Some(0), &10.into()));
}

#[test]
fn status_shows_a_running_gateway_and_says_why_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let config = lake(&dir.path().join("lake"));
    let status = |more: &[&str]| {
        let output = program()
            .arg("status")
            .arg("--config")
            .arg(dir.path().join("gateway.toml"))
            .arg("--spool")
            .arg(dir.path().join("spool"))
            .args(more)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    write_config(dir.path(), &config);
    let (code, said) = status(&[]);
    assert!(code == Some(1) && said.contains("no gateway listens"), "{said}");
    let mut daemon = Daemon::start(dir.path(), &config, &[]);
    daemon.feed(&lines("d", "temperature", 20.0, 0..10));
    daemon.until("ten readings", |now| now.readings.produced == 10);
    let (code, said) = status(&["--once"]);
    assert!(code == Some(0) && said.contains("produced  10 readings"), "{said}");
    let (_, said) = status(&["--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["readings"]["produced"], 10);
    assert_eq!(daemon.finish().0.status.code(), Some(0));
    assert!(status(&[]).1.contains("no gateway listens"), "its socket went with it");
}

/// Everything that systemd hears, until `wanted`.
fn hear(manager: &UnixDatagram, wanted: &str) -> Vec<String> {
    let mut heard = Vec::new();
    let started = Instant::now();
    loop {
        let mut buffer = [0; 4_096];
        let bytes = manager.recv(&mut buffer).unwrap_or(0);
        heard.push(String::from_utf8(buffer[..bytes].to_vec()).unwrap());
        if heard.last().unwrap().starts_with(wanted) {
            return heard;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{wanted} was not heard: {heard:?}");
    }
}

#[test]
fn systemd_hears_of_the_start_a_reload_the_watchdog_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "3000000")];
    let daemon = Daemon::start(dir.path(), &lake(&dir.path().join("lake")), &environment);
    hear(&manager, "READY=1");
    hear(&manager, "WATCHDOG=1");
    assert!(hear(&manager, "STATUS=").last().unwrap().contains("frames wait in the spool"));
    daemon.signal("-HUP");
    assert!(hear(&manager, "RELOADING=1").last().unwrap().contains("\nMONOTONIC_USEC="));
    hear(&manager, "READY=1");
    daemon.signal("-TERM");
    hear(&manager, "STOPPING=1");
    assert_eq!(daemon.finish().0.status.code(), Some(0));
}
