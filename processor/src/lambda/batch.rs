//! A batch of a queue: which messages are done, and which come again.
//!
//! A message is done when every object that it names is done, or needs nothing. One whose object is missing, damaged
//! beyond its rows, or of another bucket fails alone; the queue gives it up after some tries, to where somebody looks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tracing::{info, warn};

use super::event::{Body, Created, Message, Undelivered};
use super::ingest::{Bounds, ingest};
use crate::aws::s3::S3Place;
use crate::bronze::topic_to_key;
use crate::contract::Contract;
use crate::lake::Lake;
use crate::run::RunReport;

/// Answers a batch: what it did, and the messages that failed, by id with the reason.
pub async fn take(
    lake: &Lake,
    place: &S3Place,
    contracts: &[Contract],
    messages: Vec<Message>,
    bounds: Bounds,
) -> (RunReport, BTreeMap<String, String>) {
    let mut failed: BTreeMap<String, String> = BTreeMap::new();
    let mut named: Vec<(String, Vec<String>)> = Vec::new();
    for Message { id, body } in messages {
        let keys = match body {
            Ok(Body::Created(created)) => keys(place, &created),
            Ok(Body::Undelivered(batch)) => stored(lake, batch, bounds).await.map(|()| Vec::new()),
            Err(error) => Err(error.to_string()),
        };
        match keys {
            Ok(keys) => named.push((id, keys)),
            Err(reason) => {
                failed.insert(id, reason);
            }
        }
    }
    let keys = named.iter().flat_map(|(_, keys)| keys.iter().cloned()).collect();
    let report = ingest(lake, contracts, &keys, bounds).await;
    for (id, keys) in named {
        if let Some(reason) = keys.iter().find_map(|key| Some(format!("{key}: {}", report.failed.get(key)?)))
        {
            failed.insert(id, reason);
        }
    }
    for (id, reason) in &failed {
        warn!(message = %id, %reason, "the message failed and comes again");
    }
    (report, failed)
}

/// Takes objects that S3 names itself, without a queue: what it did. Objects of another bucket are in `failed`.
pub async fn take_created(
    lake: &Lake,
    place: &S3Place,
    contracts: &[Contract],
    created: &[Created],
    bounds: Bounds,
) -> RunReport {
    let (keys, foreign): (Vec<_>, Vec<_>) =
        created.iter().partition(|created| created.bucket == place.bucket);
    let keys: BTreeSet<String> = keys.into_iter().map(|created| below(place, &created.key)).collect();
    let mut report = ingest(lake, contracts, &keys, bounds).await;
    report
        .failed
        .extend(foreign.into_iter().map(|created| (created.key.clone(), other_bucket(place, created))));
    report
}

/// The answer that the queue is given.
pub fn answer(failed: &BTreeMap<String, String>) -> Value {
    let failures: Vec<Value> = failed.keys().map(|id| json!({"itemIdentifier": id})).collect();
    json!({"batchItemFailures": failures})
}

/// The keys below the lake of a message's objects.
fn keys(place: &S3Place, created: &[Created]) -> Result<Vec<String>, String> {
    match created.iter().find(|created| created.bucket != place.bucket) {
        Some(foreign) => Err(other_bucket(place, foreign)),
        None => Ok(created.iter().map(|created| below(place, &created.key)).collect()),
    }
}

fn other_bucket(place: &S3Place, created: &Created) -> String {
    format!("the event is of the bucket {}, and the lake is in {}", created.bucket, place.bucket)
}

/// A key as the lake has it; one that is not below the lake stays as it is, and no contract will speak for it.
fn below(place: &S3Place, key: &str) -> String {
    key.strip_prefix(&place.prefix).map_or_else(|| format!("/{key}"), str::to_owned)
}

/// Stores a gateway's batch in bronze, under the key that the rule would have given it; a second time is fine.
async fn stored(lake: &Lake, batch: Undelivered, bounds: Bounds) -> Result<(), String> {
    let Some(key) = topic_to_key(&batch.topic) else {
        return Err(format!("{:?} is not the topic of a gateway's batch", batch.topic));
    };
    let bytes = batch.payload.len();
    match tokio::time::timeout_at(bounds.ends, lake.put_durable(&key, batch.payload)).await {
        Ok(Ok(())) => {
            info!(%key, bytes, reason = %batch.reason, "stored what the rule could not store");
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("out of time before it was stored".to_owned()),
    }
}
