//! What an invocation brings, told apart by its shape: a batch of a queue, an event of S3, or a task.
//!
//! Pure. S3 encodes keys in its own events (decoded once, here) and not in EventBridge's. A message of a batch that is none
//! of what is known is wrong alone; the others of the batch stay what they are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::bronze::decode_event_key;

/// An invocation's event.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Messages of a queue of SQS; each succeeds or fails by itself.
    Batch(Vec<Message>),
    /// An event of S3 itself, or by way of EventBridge.
    Created(Vec<Created>),
    /// Work by the clock.
    Task(Task),
}

/// A message of a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The id under which the queue is told of its failure.
    pub id: String,
    /// What it says.
    pub body: Result<Body, EventError>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Objects were created; none where S3 tries the way or tells something else.
    Created(Vec<Created>),
    /// AWS IoT could not store a gateway's batch.
    Undelivered(Undelivered),
}

/// An object was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its bucket.
    pub bucket: String,
    /// Its key, decoded.
    pub key: String,
}

/// A gateway's batch that a rule of AWS IoT could not store, as the rule's error action tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Undelivered {
    /// The topic that it was published to.
    pub topic: String,
    /// The batch, byte for byte.
    pub payload: Bytes,
    /// Why it was not stored.
    pub reason: String,
}

/// Work by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Gold, checks of datasets, alerts.
    Gold,
    /// Compaction, checkpoints, vacuum, retention.
    Maintain,
    /// The audit; what the cloud forgot goes to the queue again.
    Audit,
    /// What Athena sees.
    Catalog,
}

/// An event or a message is none that is known. Its text is not shown: it may have readings in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// No JSON.
    #[error("it is no JSON: line {line}, column {column}")]
    Json {
        /// Where it ends to be JSON.
        line: usize,
        /// Where it ends to be JSON.
        column: usize,
    },
    /// JSON of another shape.
    #[error("it is no {0}")]
    Shape(&'static str),
    /// A key in it is not UTF-8.
    #[error("a key in it is not UTF-8 when it is decoded")]
    Key,
    /// A payload in it is not base64.
    #[error("its payload is not base64")]
    Payload,
}

/// Reads an invocation's event.
///
/// # Errors
/// It is none that is known.
pub fn parse(event: &[u8]) -> Result<Event, EventError> {
    let event = json(event)?;
    if let Some(task) = event.get("task") {
        let task = Task::deserialize(task);
        return task
            .map(Event::Task)
            .map_err(|_| EventError::Shape("task: gold, maintain, audit or catalog"));
    }
    if event.pointer("/Records/0/eventSource").is_some_and(|source| source == "aws:sqs") {
        let Batch { records } = typed(event, "batch of SQS")?;
        return Ok(Event::Batch(records.into_iter().map(Message::from).collect()));
    }
    match created(event)? {
        Some(created) => Ok(Event::Created(created)),
        None => Err(EventError::Shape("batch of SQS, event of S3, or task")),
    }
}

impl From<SqsRecord> for Message {
    fn from(record: SqsRecord) -> Self {
        Self { id: record.message_id, body: body(record.body.as_bytes()) }
    }
}

fn body(text: &[u8]) -> Result<Body, EventError> {
    let message = json(text)?;
    if message.get("base64OriginalPayload").is_some() {
        return undelivered(message).map(Body::Undelivered);
    }
    match created(message)? {
        Some(created) => Ok(Body::Created(created)),
        None => Err(EventError::Shape("event of S3 or error message of an IoT rule")),
    }
}

/// The objects of an event of S3, in either dress; `None` where it is no such event.
fn created(event: Value) -> Result<Option<Vec<Created>>, EventError> {
    if event.get("Event").is_some_and(|event| event == "s3:TestEvent") {
        return Ok(Some(Vec::new()));
    }
    if event.get("source").is_some_and(|source| source == "aws.s3") {
        if event.get("detail-type").is_none_or(|kind| kind != "Object Created") {
            return Ok(Some(Vec::new()));
        }
        let Bridged { detail } = typed(event, "event of S3 by way of EventBridge")?;
        return Ok(Some(vec![Created { bucket: detail.bucket.name, key: detail.object.key }]));
    }
    if event.pointer("/Records/0/eventSource").is_none_or(|source| source != "aws:s3") {
        return Ok(None);
    }
    let Notification { records } = typed(event, "event of S3")?;
    let created = records.into_iter().filter(|record| record.event_name.starts_with("ObjectCreated:"));
    let created = created.map(|record| {
        let key = decode_event_key(&record.s3.object.key).ok_or(EventError::Key)?;
        Ok(Created { bucket: record.s3.bucket.name, key })
    });
    created.collect::<Result<_, _>>().map(Some)
}

fn undelivered(message: Value) -> Result<Undelivered, EventError> {
    let RuleError { topic, base64_original_payload, failures } =
        typed(message, "error message of an IoT rule")?;
    let payload = STANDARD.decode(base64_original_payload).map_err(|_| EventError::Payload)?;
    let reason = failures.into_iter().map(|failure| failure.error_message).collect::<Vec<_>>().join("; ");
    Ok(Undelivered { topic, payload: payload.into(), reason })
}

fn json(text: &[u8]) -> Result<Value, EventError> {
    serde_json::from_slice(text)
        .map_err(|error| EventError::Json { line: error.line(), column: error.column() })
}

fn typed<T: for<'a> Deserialize<'a>>(event: Value, what: &'static str) -> Result<T, EventError> {
    serde_json::from_value(event).map_err(|_| EventError::Shape(what))
}

#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<SqsRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SqsRecord {
    message_id: String,
    body: String,
}

#[derive(Deserialize)]
struct Notification {
    #[serde(rename = "Records")]
    records: Vec<S3Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct S3Record {
    event_name: String,
    s3: Detail,
}

#[derive(Deserialize)]
struct Bridged {
    detail: Detail,
}

#[derive(Deserialize)]
struct Detail {
    bucket: Named,
    object: Keyed,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Keyed {
    key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleError {
    topic: String,
    base64_original_payload: String,
    #[serde(default)]
    failures: Vec<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    #[serde(default)]
    error_message: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn s3(name: &str, keys: &[&str]) -> Value {
        let record = |key: &&str| {
            json!({"eventSource": "aws:s3", "eventName": name, "awsRegion": "eu-west-1",
                   "s3": {"bucket": {"name": "lake"}, "object": {"key": key, "size": 1, "eTag": "e"}}})
        };
        json!({"Records": keys.iter().map(record).collect::<Vec<_>>()})
    }

    fn bridge(kind: &str, key: &str) -> Value {
        json!({"version": "0", "source": "aws.s3", "detail-type": kind,
               "detail": {"bucket": {"name": "lake"}, "object": {"key": key, "size": 1}}})
    }

    fn rule_error() -> Value {
        json!({"ruleName": "ingot_bronze", "topic": "ingot/bronze/gw/2026-01-01/00000000000000ab-0000000012",
               "clientId": "gw", "base64OriginalPayload": "AAEC/w==",
               "failures": [{"failedAction": "S3Action", "failedResource": "lake", "errorMessage": "denied"}]})
    }

    fn objects(keys: &[&str]) -> Vec<Created> {
        keys.iter().map(|key| Created { bucket: "lake".to_owned(), key: (*key).to_owned() }).collect()
    }

    fn read(event: &Value) -> Result<Event, EventError> {
        parse(event.to_string().as_bytes())
    }

    /// What a message of this text says.
    fn said(text: &str) -> Result<Body, EventError> {
        let event = json!({"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": text}]});
        match read(&event).unwrap() {
            Event::Batch(mut messages) => messages.remove(0).body,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_created_object_is_known_in_every_dress_and_its_key_is_decoded_once() {
        let written = ["bronze/orders/dt%3D2026-01-01/a+b%2Bc.csv", "f%C3%BCnf/100%2525"];
        let decoded = objects(&["bronze/orders/dt=2026-01-01/a b+c.csv", "fünf/100%25"]);
        let plain = ["bronze/orders/dt=2026-01-01/a b+c%3D.csv"];
        for (event, created) in [
            (s3("ObjectCreated:Put", &written), decoded.clone()),
            (s3("ObjectCreated:CompleteMultipartUpload", &written), decoded.clone()),
            (s3("ObjectRemoved:Delete", &written), vec![]),
            (bridge("Object Created", plain[0]), objects(&plain)),
            (bridge("Object Deleted", plain[0]), vec![]),
            (json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "lake"}), vec![]),
        ] {
            assert_eq!(read(&event), Ok(Event::Created(created.clone())), "{event}");
            assert_eq!(said(&event.to_string()), Ok(Body::Created(created)), "{event}");
        }
    }

    #[test]
    fn a_batch_keeps_its_messages_apart() {
        let message =
            |id: &str, body: String| json!({"eventSource": "aws:sqs", "messageId": id, "body": body});
        let event = json!({"Records": [
            message("1", s3("ObjectCreated:Put", &["a"]).to_string()),
            message("2", "no JSON".to_owned()),
            message("3", rule_error().to_string()),
        ]});
        let Ok(Event::Batch(messages)) = read(&event) else { unreachable!("it is a batch") };
        assert_eq!(messages.iter().map(|message| message.id.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!(messages[0].body, Ok(Body::Created(objects(&["a"]))));
        assert_eq!(messages[1].body, Err(EventError::Json { line: 1, column: 2 }));
        assert!(matches!(messages[2].body, Ok(Body::Undelivered(_))));
    }

    #[test]
    fn a_batch_that_a_rule_could_not_store_keeps_its_bytes() {
        let undelivered = Undelivered {
            topic: "ingot/bronze/gw/2026-01-01/00000000000000ab-0000000012".to_owned(),
            payload: Bytes::from_static(&[0, 1, 2, 255]),
            reason: "denied".to_owned(),
        };
        assert_eq!(said(&rule_error().to_string()), Ok(Body::Undelivered(undelivered)));
        let mut broken = rule_error();
        broken["base64OriginalPayload"] = json!("?");
        assert_eq!(said(&broken.to_string()), Err(EventError::Payload));
        broken["topic"] = json!(7);
        assert_eq!(said(&broken.to_string()), Err(EventError::Shape("error message of an IoT rule")));
    }

    #[test]
    fn a_task_is_called_by_its_name() {
        for (name, task) in [
            ("gold", Task::Gold),
            ("maintain", Task::Maintain),
            ("audit", Task::Audit),
            ("catalog", Task::Catalog),
        ] {
            assert_eq!(read(&json!({"task": name})), Ok(Event::Task(task)));
        }
        assert!(matches!(read(&json!({"task": "dance"})), Err(EventError::Shape(_))));
    }

    #[test]
    fn what_is_none_of_these_is_an_error_that_shows_nothing_of_it() {
        let strange = s3("ObjectCreated:Put", &["%FF"]);
        assert_eq!(read(&strange), Err(EventError::Key));
        for event in [
            json!({}),
            json!([]),
            json!({"Records": []}),
            json!({"Records": [{"eventSource": "aws:kinesis"}]}),
        ] {
            assert!(matches!(read(&event), Err(EventError::Shape(_))), "{event}");
            assert!(matches!(said(&event.to_string()), Err(EventError::Shape(_))), "{event}");
        }
        let half = json!({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}]});
        assert_eq!(read(&half), Err(EventError::Shape("event of S3")));
        let error = parse(b"{\"temperature\": 21.5").unwrap_err().to_string();
        assert!(!error.contains("temperature"), "{error}");
    }
}
