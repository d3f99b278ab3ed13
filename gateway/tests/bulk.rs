//! A backlog goes straight to S3 (moto's, which checks signatures and rights) under the keys of the rule.
#![cfg(feature = "aws")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/credentials.rs"]
mod credentials;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/moto.rs"]
mod moto;
#[path = "common/pki.rs"]
mod pki;
#[path = "common/witness.rs"]
mod witness;

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use common::Bronze;
use credentials::CredentialsProvider;
use ingot_gateway::config::{Config, Overrides};
use ingot_gateway::uplink::bulk::{BulkConfig, S3};
use mosquitto::{ACL, Mosquitto};
use moto::Moto;
use pki::{Ca, Validity};
use tokio::time::timeout;
use witness::Witness;

const KEY: &str = "bronze/sensor_readings/dt=2026-01-01/gateway=gw-1/0000000000000001-0000000000.ingot";
const FAR: &str = "2099-01-01T00:00:00Z";
const PAST: &str = "2020-01-01T00:00:00Z";

struct Aws {
    moto: Moto,
    provider: CredentialsProvider,
    ca: Ca,
    config: BulkConfig,
}

impl Aws {
    fn start(dir: &Path) -> Self {
        let moto = Moto::start();
        let (status, body) = moto.request("s3", "PUT", "/lake", b"<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let ca = Ca::new(dir, "ca");
        let provider = CredentialsProvider::start(&ca);
        let config = BulkConfig {
            above_bytes: 0,
            bucket: "lake".into(),
            prefix: "fleet/".into(),
            region: "eu-west-1".into(),
            endpoint: Some(format!("http://127.0.0.1:{}", moto.port)),
            credentials_endpoint: format!("localhost:{}", provider.port),
            role_alias: "ingot-bulk".into(),
            thing: "gw-1".into(),
            tls: ca.tls(&ca.client("gw-1", Validity::NOW)),
        };
        Self { moto, provider, ca, config }
    }

    /// The bytes under a key; the rights are not checked for this look.
    fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.moto.check_rights(false);
        let (status, body) =
            self.moto.request("s3", "GET", &format!("/lake/{}", key.replace('=', "%3D")), b"");
        (status == 200).then_some(body)
    }

    fn keys(&self) -> Vec<String> {
        self.moto.check_rights(false);
        let (_, body) = self.moto.request("s3", "GET", "/lake?list-type=2&max-keys=1000", b"");
        let body = String::from_utf8(body).unwrap();
        let keys = body.split("<Key>").skip(1);
        keys.map(|rest| rest.split_once("</Key>").unwrap().0.replace("%3D", "=")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_put_once_signed_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let aws = Aws::start(dir.path());
    let writer = aws.moto.role("writer", "s3:PutObject", "lake");
    aws.provider.give(&writer, FAR);
    aws.moto.check_rights(true);
    let s3 = S3::new(aws.config.clone()).unwrap();
    s3.put(KEY, Bytes::from_static(b"frame")).await.unwrap();
    s3.put(KEY, Bytes::from_static(b"other")).await.expect("it is there already: a success");
    assert_eq!(aws.object(&format!("fleet/{KEY}")).unwrap(), b"frame");
    let asked = aws.provider.asked();
    assert_eq!(asked.len(), 1, "good credentials are kept");
    assert!(asked[0].starts_with("GET /role-aliases/ingot-bulk/credentials HTTP/1.1"), "{asked:?}");
    assert!(asked[0].to_lowercase().contains("x-amzn-iot-thingname: gw-1"), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_near_their_end_are_renewed_and_refusals_name_the_missing_right() {
    let dir = tempfile::tempdir().unwrap();
    let aws = Aws::start(dir.path());
    let writer = aws.moto.role("writer", "s3:PutObject", "lake");
    let reader = aws.moto.role("reader", "s3:GetObject", "lake");
    aws.moto.check_rights(true);
    let s3 = S3::new(aws.config.clone()).unwrap();
    let frame = || Bytes::from_static(b"frame");

    aws.provider.refuse(403, "{\"message\":\"Access Denied\"}");
    let why = s3.put(KEY, frame()).await.unwrap_err().to_string();
    for part in ["403", "Access Denied", "iot:AssumeRoleWithCertificate", "ingot-bulk", "gw-1"] {
        assert!(why.contains(part), "{why}");
    }
    aws.provider.refuse(200, "{\"credentials\": \"canary\"");
    let why = s3.put(KEY, frame()).await.unwrap_err().to_string();
    assert!(!why.contains("canary"), "{why}");

    aws.provider.give(&reader, PAST);
    let why = s3.put(KEY, frame()).await.unwrap_err().to_string();
    for part in ["s3:PutObject", "arn:aws:s3:::lake/fleet/bronze", "403", "AccessDenied", "ingot-bulk"] {
        assert!(why.contains(part), "{why}");
    }
    for secret in [&reader[1], &writer[1], &reader[2]] {
        assert!(!why.contains(secret), "{why}");
    }
    let asked = aws.provider.asked().len();
    aws.provider.give(&writer, PAST);
    s3.put(KEY, frame()).await.unwrap();
    s3.put(KEY, frame()).await.unwrap();
    assert_eq!(aws.provider.asked().len(), asked + 2, "credentials at their end are asked for anew");
}

/// Sends readings with the whole gateway; the topics that the broker saw.
async fn run(aws: &Aws, dir: &Path, readings: u64) -> Vec<String> {
    std::fs::create_dir_all(dir).unwrap();
    let broker = Mosquitto::start(dir, &aws.ca.cert, &aws.ca.server(Validity::NOW), ACL);
    let bridge = aws.ca.tls(&aws.ca.client("bridge", Validity::NOW));
    let witness = Witness::start(broker.port, &bridge, &["ingot/bronze/#"]).await;
    let BulkConfig { endpoint, credentials_endpoint, tls, .. } = &aws.config;
    let text = format!(
        "name = \"gw-1\"\n[batch]\nframe_bytes_max = 256\n[spool]\ndir = {:?}\n\
         [uplink]\nbackoff_base_ms = 20\nbackoff_cap_ms = 50\n\
         [uplink.mqtt]\nhost = \"127.0.0.1\"\nport = {}\n\
         [uplink.mqtt.tls]\nca = {:?}\ncert = {:?}\nkey = {:?}\n\
         [uplink.bulk]\nabove_bytes = 0\nbucket = \"lake\"\nprefix = \"fleet/\"\nregion = \"eu-west-1\"\n\
         role_alias = \"ingot-bulk\"\nendpoint = {:?}\ncredentials_endpoint = {credentials_endpoint:?}\n",
        dir.join("spool"),
        broker.port,
        tls.ca,
        tls.cert,
        tls.key,
        endpoint.as_ref().unwrap(),
    );
    // What an earlier run left is the backlog: the way is chosen at the connect.
    let lake = Overrides { lake: Some("file:///dev/null/none".into()), ..Overrides::default() };
    let mut offline = Config::from_toml(text.split_once("[uplink.bulk]").unwrap().0, lake).unwrap();
    offline.drain_ms_max = 50;
    let lines: String = (0..readings)
        .map(|seq| format!("{{\"device\":\"d\",\"channel\":\"temperature\",\"value\":{},\"at\":{seq},\"seq\":{seq},\"boot\":1}}\n", (seq * 2_654_435_761 % 1_000) as f64 / 100.0))
        .collect();
    let first =
        ingot_gateway::run(offline, vec![Box::new(lines.leak().as_bytes())], pending()).await.unwrap();
    assert_eq!(first.in_spool_readings, readings, "{first}");
    let config = Config::from_toml(&text, Overrides::default()).unwrap();
    let second = ingot_gateway::run(config, vec![Box::new(&b""[..])], pending());
    let second = timeout(Duration::from_secs(60), second).await.expect("it ends").unwrap();
    assert_eq!((second.acked_readings, second.in_spool_frames), (readings, 0), "{second}");
    witness.quiet_for(Duration::from_millis(200)).await;
    witness.seen(0).await.into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_goes_to_s3_and_over_mqtt_when_that_fails() {
    const READINGS: u64 = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let aws = Aws::start(dir.path());
    let writer = aws.moto.role("writer", "s3:PutObject", "lake");
    let reader = aws.moto.role("reader", "s3:GetObject", "lake");
    aws.provider.give(&writer, FAR);
    aws.moto.check_rights(true);
    let topics = run(&aws, &dir.path().join("a"), READINGS).await;
    assert!(topics.is_empty(), "nothing of it went over MQTT: {topics:?}");
    let mut bronze = Bronze::default();
    for key in aws.keys() {
        assert!(
            key.starts_with("fleet/bronze/sensor_readings/dt=20") && key.contains("/gateway=gw-1/"),
            "{key}"
        );
        bronze.add(&mut aws.object(&key).unwrap());
    }
    assert_eq!(bronze.rows.len() as u64, READINGS);
    assert!(bronze.rows.values().all(|times| *times == 1) && bronze.frames > 5);

    let before = aws.keys().len();
    aws.provider.give(&reader, FAR);
    aws.moto.check_rights(true);
    let topics = run(&aws, &dir.path().join("b"), 300).await;
    assert!(!topics.is_empty(), "without the right, all of it went over MQTT");
    assert_eq!(aws.keys().len(), before);
}
