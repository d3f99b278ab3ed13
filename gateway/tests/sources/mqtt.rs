//! A real Mosquitto on loopback: the shipped examples, logins, a broker that goes and comes back.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ingot_agent::Drop;
use rumqttc::{AsyncClient, MqttOptions, PublishOptions, QoS};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::common::Bronze;
use super::running::{Gateway, PATIENCE, value};

/// Plain TCP with optional logins; killed when it is dropped.
struct Broker(Child);

impl Broker {
    async fn start(dir: &Path, port: u16, rest: &str) -> Self {
        let config = dir.join("mosquitto.conf");
        fs::write(&config, format!("user root\nlistener {port} 127.0.0.1\n{rest}\n")).unwrap();
        let child = Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed (apt-get install mosquitto)");
        let broker = Self(child);
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(started.elapsed() < PATIENCE, "mosquitto does not start");
            sleep(Duration::from_millis(10)).await;
        }
        broker
    }
}

impl std::ops::Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A device that publishes; its event loop ends with the test.
async fn device(port: u16) -> AsyncClient {
    let mut options = MqttOptions::new("device", ("127.0.0.1", port));
    options.set_keep_alive(5);
    let (client, mut event_loop) = AsyncClient::builder(options).capacity(100).build();
    tokio::spawn(async move {
        loop {
            if event_loop.poll().await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        }
    });
    client
}

async fn publish(device: &AsyncClient, topic: &str, message: &str) {
    device
        .publish(topic.to_owned(), message.to_owned(), PublishOptions::new(QoS::AtLeastOnce))
        .await
        .unwrap();
}

/// Publishes until the gateway's subscription, which nobody else sees, is there.
async fn until_heard(gateway: &Gateway, device: &AsyncClient, topic: &str, message: &str, channel: &str) {
    for _ in 0..200 {
        publish(device, topic, message).await;
        sleep(Duration::from_millis(50)).await;
        let seen = gateway.until("bronze is read", |_| true).await;
        if seen.rows.keys().any(|row| row.3 == channel) {
            return;
        }
    }
    panic!("the gateway does not hear {topic}");
}

fn example(name: &str, port: u16) -> String {
    let path = format!("{}/../config/examples/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with("port =")).unwrap_or("kind = \"mqtt\"");
    text.replace(line, &format!("{}\nport = {port}", if line.starts_with("port") { "" } else { line }))
}

fn rows(bronze: &Bronze) -> Vec<(&str, &str, Option<f64>)> {
    bronze.rows.keys().map(|row| (row.0.as_str(), row.3.as_str(), value(row))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_read_what_they_are_for() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _broker = Broker::start(dir.path(), port, "allow_anonymous true").await;
    let client_ids = ["z", "t", "m"].map(|id| format!("kind = \"mqtt\"\nclient_id = \"{id}\""));
    let sources: String = ["zigbee2mqtt", "tasmota", "mqtt"]
        .iter()
        .zip(client_ids)
        .map(|(name, id)| example(name, port).replace("kind = \"mqtt\"", &id))
        .collect();
    let device = device(port).await;
    let retained = PublishOptions::new(QoS::AtLeastOnce).retain(true);
    let old = device.publish_tracked("zigbee2mqtt/old", r#"{"temperature":99}"#, retained).await.unwrap();
    old.wait_async().await.unwrap(); // an old value, from before the gateway came
    let gateway = Gateway::start(&sources, Vec::new());
    until_heard(&gateway, &device, "zigbee2mqtt/probe", r#"{"voltage":1}"#, "voltage").await;
    until_heard(&gateway, &device, "tele/probe/SENSOR", r#"{"ENERGY":{"Power":1}}"#, "power").await;
    until_heard(
        &gateway,
        &device,
        "plant/a/b/c/state",
        r#"{"climate":[{"t":1}],"ts":1767225600}"#,
        "temperature",
    )
    .await;

    for (topic, message) in [
        ("zigbee2mqtt/kitchen", r#"{"temperature":21.3,"humidity":40,"linkquality":87}"#),
        ("zigbee2mqtt/attic/window", r#"{"temperature":-3.5,"contact":false}"#),
        ("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#),
        ("zigbee2mqtt/kitchen", "not JSON"),
        ("zigbee2mqtt/kitchen", r#"{"temperature":null}"#),
        (
            "tele/boiler/SENSOR",
            r#"{"Time":"2026-01-01T00:00:00","AM2301":{"Temperature":20.1,"Humidity":55.0}}"#,
        ),
        ("plant/north/hall/7/state", r#"{"climate":[{"t":"18.5"}],"battery":3.1,"ts":1767225601}"#),
        ("meter/oven/power", "1250.5"),
    ] {
        publish(&device, topic, message).await;
    }
    let expected = [
        ("kitchen", "temperature", Some(21.3)),
        ("kitchen", "humidity", Some(40.0)),
        ("kitchen", "temperature", None),
        ("attic.window", "temperature", Some(-3.5)),
        ("boiler", "temperature", Some(20.1)),
        ("boiler", "humidity", Some(55.0)),
        ("north-7", "temperature", Some(18.5)),
        ("north-7", "voltage", Some(3.1)),
        ("oven", "power", Some(1_250.5)),
    ];
    gateway.until("all is there", |bronze| expected.iter().all(|row| rows(bronze).contains(row))).await;
    let (summary, bronze) = gateway.stop().await;
    let others: Vec<_> =
        rows(&bronze).into_iter().filter(|(device, ..)| !["probe", "a-c"].contains(device)).collect();
    assert_eq!(others.len(), expected.len(), "each once, and nothing else: {others:?}");
    assert_eq!(summary.dropped.get(Drop::Malformed), 1);
    let at_ms = bronze.rows.keys().find(|row| row.0 == "north-7").unwrap().4;
    assert_eq!(at_ms, 1_767_225_601_000, "the message's own time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_comes_late_goes_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let map =
        "[[source.map]]\ntopic = \"t/{device}\"\nchannels = { temperature = \"/t\", humidity = \"/h\" }\n";
    let sources = format!("[[source]]\nkind = \"mqtt\"\nport = {port}\n{map}");
    let gateway = Gateway::start(&sources, Vec::new());
    sleep(Duration::from_millis(300)).await; // some tries without a broker
    let broker = Broker::start(dir.path(), port, "allow_anonymous true").await;
    let device = device(port).await;
    until_heard(&gateway, &device, "t/d", r#"{"t":20.5}"#, "temperature").await;
    drop(broker);
    let _broker = Broker::start(dir.path(), port, "allow_anonymous true").await;
    until_heard(&gateway, &device, "t/d", r#"{"h":50}"#, "humidity").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_used_and_its_password_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (port, users) = (free_port(), dir.path().join("users"));
    let made = Command::new("/usr/bin/mosquitto_passwd")
        .arg("-b")
        .arg("-c")
        .arg(&users)
        .args(["ingot", "s3cret"])
        .status();
    assert!(made.unwrap().success());
    let password = dir.path().join("password");
    fs::write(&password, "s3cret\n").unwrap();
    let _broker =
        Broker::start(dir.path(), port, &format!("allow_anonymous false\npassword_file {}", users.display()))
            .await;

    let map = "[[source.map]]\ntopic = \"t/{device}\"\nchannels = { temperature = \"/t\" }\n";
    let sources = format!(
        "[[source]]\nkind = \"mqtt\"\nport = {port}\nuser = \"ingot\"\npassword_file = {password:?}\n{map}"
    );
    let overrides =
        ingot_gateway::config::Overrides { lake: Some("file:///lake".into()), ..Default::default() };
    let config = ingot_gateway::config::Config::from_toml(&sources, overrides).unwrap();
    assert!(!config.effective().contains("s3cret"));
    let gateway = Gateway::start(&sources, Vec::new());

    let mut options = MqttOptions::new("device", ("127.0.0.1", port));
    options.set_credentials("ingot", "s3cret");
    let (client, mut event_loop) = AsyncClient::builder(options).capacity(100).build();
    tokio::spawn(async move { while event_loop.poll().await.is_ok() {} });
    until_heard(&gateway, &client, "t/d", r#"{"t":20.5}"#, "temperature").await;
    gateway.stop().await;
}
