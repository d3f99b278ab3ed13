//! The processor as a function of Lambda: what queues, S3 and the clock bring is done once, and what cannot be done comes
//! again, alone. The program is the real one; Lambda's Runtime API is the test's, S3, SQS, SNS and the rest are moto's.

mod events;
mod tasks;

use std::process::Command;

use serde_json::{Value, json};

use crate::moto::Moto;

const LAKE: &str = "s3://lake/tenant=a";
const PREFIX: &str = "tenant=a/";

/// What a key has to bear: signs that URLs and forms write otherwise.
const ODD: [&str; 4] = [
    "bronze/sensor_readings/dt=2026-01-01/gateway=gw+1/plus+sign.ndjson",
    "bronze/sensor_readings/dt=2026-01-01/with space.ndjson",
    "bronze/sensor_readings/dt=2026-01-01/fünf%41.ndjson",
    "bronze/sensor_readings/dt=2026-01-01/a=b&c.ndjson",
];

fn moto() -> Moto {
    let moto = Moto::start();
    moto.bucket("lake");
    moto
}

fn program(moto: &Moto) -> Command {
    let mut program = moto.command();
    program.env("INGOT_LAKE", LAKE);
    program
}

/// Good readings of a device, one that is out of range, and one twice.
fn readings(device: &str, good: u64) -> String {
    let line = |seq: u64, value: f64| {
        let at = 1_767_225_600_000_u64 + seq * 1_000;
        json!({"device": device, "boot": 1, "seq": seq, "channel": "temperature", "value": value, "at": at, "quality": 0})
    };
    let lines = (0..good).map(|seq| line(seq, 20.5)).chain([line(good, 500.5), line(0, 20.5)]);
    lines.map(|line| format!("{line}\n")).collect()
}

fn put(moto: &Moto, key: &str, text: &str) {
    moto.put("lake", &format!("{PREFIX}{key}"), text.as_bytes());
}

/// A key as S3 writes it in its events.
fn encoded(key: &str) -> String {
    let parts = format!("{PREFIX}{key}");
    let parts = parts.split('/').map(|part| url::form_urlencoded::byte_serialize(part.as_bytes()).collect());
    parts.collect::<Vec<String>>().join("/")
}

/// S3's own event of some objects.
fn created(keys: &[&str]) -> Value {
    let record = |key: &&str| {
        json!({"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
               "s3": {"bucket": {"name": "lake"}, "object": {"key": encoded(key)}}})
    };
    json!({"Records": keys.iter().map(record).collect::<Vec<_>>()})
}

/// A batch of messages, called `m0`, `m1`, ….
fn batch(bodies: &[String]) -> Value {
    let message = |(number, body): (usize, &String)| json!({"messageId": format!("m{number}"), "eventSource": "aws:sqs", "body": body});
    json!({"Records": bodies.iter().enumerate().map(message).collect::<Vec<_>>()})
}

/// The ids that the answer gives back.
fn failed(answer: &Value) -> Vec<String> {
    let failures = answer["batchItemFailures"].as_array().expect("an answer to a queue");
    let mut ids: Vec<String> =
        failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// How often each reading of a device is in silver.
fn silver(moto: &Moto, device: &str) -> (u64, u64) {
    let sql = format!(
        "SELECT count(*) AS rows, count(DISTINCT seq) AS keys FROM silver.sensor_readings WHERE device = '{device}'"
    );
    let row = moto.rows(LAKE, &sql).remove(0);
    (row["rows"].as_u64().unwrap(), row["keys"].as_u64().unwrap())
}

fn balanced(moto: &Moto) -> Value {
    let (code, audited, stderr) = moto.processor(&["audit", "--lake", LAKE]);
    // Between two tasks `gold`, gold shows older silver.
    let findings: Vec<&Value> = audited["findings"].as_array().unwrap().iter().collect();
    assert!(
        findings.iter().all(|finding| finding.as_str().unwrap().starts_with("gold ")),
        "{code} {stderr} {audited}"
    );
    let sum = ["silver", "discarded", "duplicates"].map(|name| audited[name].as_i64().unwrap());
    assert_eq!(audited["rows_in"], sum.iter().sum::<i64>(), "{audited}");
    audited
}
