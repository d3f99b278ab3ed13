//! The S3 event of an object, for objects whose own event was lost: as S3 writes it, so that whoever reads the queue
//! needs no other words.

use chrono::DateTime;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use url::form_urlencoded::byte_serialize;

use super::error::CallError;
use super::queue::Queue;
use super::s3::S3Place;
use crate::lake::BronzeObject;

/// Messages on their way at once.
const SENT_AT_ONCE: usize = 16;

/// The event that S3 would send for the object. Its key is encoded as S3 does it.
pub fn created(region: &str, place: &S3Place, object: &BronzeObject) -> String {
    let S3Place { bucket, prefix } = place;
    let key = format!("{prefix}{}", object.key);
    let key: Vec<String> = key.split('/').map(|part| byte_serialize(part.as_bytes()).collect()).collect();
    let at = DateTime::from_timestamp_millis(object.modified_ms).unwrap_or_default();
    json!({"Records": [{
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": format!("arn:aws:s3:::{bucket}")},
            "object": {"key": key.join("/"), "size": object.bytes, "eTag": object.etag.trim_matches('"')},
        },
    }]})
    .to_string()
}

/// Sends the event of each object, a message each.
///
/// # Errors
/// One could not be sent; of the others some were. Sending all again is safe.
pub async fn send(queue: &Queue, place: &S3Place, objects: &[BronzeObject]) -> Result<(), CallError> {
    let region = queue.region().to_owned();
    stream::iter(objects.iter().map(|object| created(&region, place, object)))
        .map(|event| async move { queue.send(&event).await })
        .buffer_unordered(SENT_AT_ONCE)
        .try_collect()
        .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::super::client::tests::scripted;
    use super::*;

    #[test]
    fn an_event_is_as_s3_writes_it() {
        let place = S3Place::parse("s3://lake/tenant/a").unwrap();
        let object = BronzeObject {
            key: "bronze/orders/dt=2026-01-01/a b+c.ndjson".to_owned(),
            etag: "\"0123\"".to_owned(),
            bytes: 7,
            modified_ms: 1_767_225_600_001,
        };
        let event: Value = serde_json::from_str(&created("eu-west-1", &place, &object)).unwrap();
        let record = &event["Records"][0];
        assert_eq!(record["eventTime"], "2026-01-01T00:00:00.001Z");
        assert_eq!(record["s3"]["bucket"]["name"], "lake");
        assert_eq!(record["s3"]["object"]["key"], "tenant/a/bronze/orders/dt%3D2026-01-01/a+b%2Bc.ndjson");
        assert_eq!(record["s3"]["object"]["eTag"], "0123");
    }

    #[tokio::test]
    async fn each_object_is_a_message_and_a_denial_names_the_right() {
        let object =
            |key: &str| BronzeObject { key: key.to_owned(), etag: String::new(), bytes: 0, modified_ms: 0 };
        let denied = "{\"__type\":\"AccessDenied\",\"message\":\"no\"}";
        let (client, served) = scripted(&[(200, "{}"), (200, "{}"), (403, denied)]).await;
        let queue = Queue::new(client, "http://127.0.0.1/111122223333/bronze").unwrap();
        let place = S3Place::parse("s3://lake").unwrap();
        send(&queue, &place, &[object("bronze/a"), object("bronze/b")]).await.unwrap();
        let error = send(&queue, &place, &[object("bronze/c")]).await.unwrap_err().to_string();
        assert!(
            error.ends_with("needs sqs:SendMessage on arn:aws:sqs:eu-west-1:111122223333:bronze"),
            "{error}"
        );
        let sent = served.await.unwrap().concat();
        assert!(["bronze/a", "bronze/b"].iter().all(|key| sent.contains(key)), "{sent}");
    }
}
