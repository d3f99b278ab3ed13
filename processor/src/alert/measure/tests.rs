#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{ArrayRef, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;

use super::*;
use crate::column;

/// An object with one batch of the gateway's first run.
fn entry(gateway: &str, seq: u64, processed_ms: i64, dropped: &[(&str, u64)]) -> Entry {
    let batch = Batch {
        gateway: gateway.to_owned(),
        boot: 1,
        seq,
        sealed_ms: processed_ms,
        uptime_ms: 0,
        readings: 10,
        dropped: dropped.iter().map(|(cause, readings)| ((*cause).to_owned(), *readings)).collect(),
    };
    Entry {
        dataset: "sensor_readings".to_owned(),
        bronze_key: format!("{gateway}-{seq}"),
        bronze_etag: String::new(),
        bytes: 0,
        rows_in: 10,
        silver: 10,
        discarded: 0,
        duplicates: 0,
        rules: BTreeMap::new(),
        warnings: BTreeMap::new(),
        batches: vec![batch],
        contract_version: "1".to_owned(),
        processed_ms,
    }
}

fn signal(entries: &[Entry], window_start_ms: i64) -> Signal {
    let recent: Vec<&Entry> = entries.iter().filter(|entry| entry.processed_ms > window_start_ms).collect();
    lost(&recent, entries, window_start_ms)
}

#[test]
fn lost_are_readings_given_up_in_the_window_and_batches_that_something_later_overtook() {
    let entries = [
        entry("gw-1", 0, 100, &[("queue_full", 90)]),
        // Out of order, and twice: neither is a hole.
        entry("gw-1", 2, 200, &[]),
        entry("gw-1", 1, 300, &[]),
        entry("gw-1", 1, 310, &[]),
        entry("gw-1", 5, 400, &[]),
        entry("gw-1", 6, 1_100, &[("queue_full", 4), ("bad_name", 1)]),
    ];
    let found = signal(&entries, 1_000);
    assert_eq!(found.value, 7.0);
    assert_eq!(found.summary, "5 readings given up at the edge: 1 bad_name, 4 queue_full, 2 batches missing");
    assert_eq!(found.common, BTreeMap::from([("gateway".to_owned(), "gw-1".to_owned())]));
    // While what overtook them is young they may still be on their way.
    assert_eq!(signal(&entries[..5], 350).value, 0.0);
}

#[test]
fn batches_that_a_full_spool_gave_up_are_counted_as_its_readings_alone() {
    let entries = [
        entry("gw-1", 0, 100, &[]),
        entry("gw-1", 9, 1_100, &[("spool_full", 80)]),
        entry("gw-2", 0, 100, &[]),
        entry("gw-2", 2, 200, &[]),
        entry("gw-3", 0, 1_100, &[]),
    ];
    let found = signal(&entries, 1_000);
    assert_eq!(found.value, 81.0);
    assert!(found.common.is_empty(), "two gateways have lost something");
    assert_eq!(signal(&entries[4..], 1_000).value, 0.0);
}

/// Orders and sensors' readings, whose silver shall not grow older than half an hour.
fn watched() -> Vec<Contract> {
    let orders = include_str!("../../../../contracts/orders.yaml");
    let readings = include_str!("../../../../contracts/sensor_readings.yaml");
    let watched = |text: &str| {
        let (start, end) = ("  - property: alerts\n", "  - property: examples\n");
        let (start, end) = (text.find(start).unwrap() + start.len(), text.find(end).unwrap());
        let late = "{ name: late, watch: freshness, openAboveMinutes: 30, resolveBelowMinutes: 10 }";
        Contract::parse(&format!("{}    value: [{late}]\n{}", &text[..start], &text[end..])).unwrap()
    };
    vec![watched(readings), watched(orders)]
}

fn lake() -> (tempfile::TempDir, Lake) {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::create(&format!("file://{}", dir.path().display())).unwrap();
    (dir, lake)
}

fn at(time: &str) -> DateTime<Utc> {
    time.parse().unwrap()
}

/// Adds a row to silver with nothing but a time.
async fn land(lake: &Lake, dataset: &str, time: Field, value: ArrayRef) {
    let schema = Arc::new(Schema::new(vec![time]));
    let mut table = Table::open_or_create(lake, &format!("silver/{dataset}"), &schema, &[]).await.unwrap();
    table.append(RecordBatch::try_new(schema, vec![value]).unwrap(), &[]).await.unwrap();
}

async fn order_of(lake: &Lake, time: &str) {
    let time = TimestampMicrosecondArray::from(vec![at(time).timestamp_micros()]).with_timezone("UTC");
    land(lake, "orders", column::utc("created_at"), Arc::new(time)).await;
}

#[tokio::test]
async fn a_row_that_is_dated_ahead_of_time_neither_counts_as_fresh_nor_ends_the_measuring() {
    let (_dir, lake) = lake();
    let orders = watched().remove(1);
    let minutes = async |now: &str| {
        let signals = freshness(&lake, &orders, at(now).timestamp_millis()).await.unwrap();
        signals.map(|signals| signals[0].value)
    };
    order_of(&lake, "9999-12-31T23:59:59.999999Z").await;
    assert_eq!(minutes("2026-01-01T12:00:00Z").await, None);
    for time in
        ["2026-01-01T10:00:00Z", "2026-01-01T11:30:00Z", "2026-01-01T12:05:00Z", "2262-04-12T00:00:00Z"]
    {
        order_of(&lake, time).await;
    }
    assert_eq!(minutes("2026-01-01T12:00:00Z").await, Some(30.0));
    assert_eq!(minutes("2026-01-01T12:05:00Z").await, Some(0.0));
    assert_eq!(minutes("2262-04-12T00:01:00Z").await, Some(1.0));
}

#[tokio::test]
async fn a_dataset_that_cannot_be_measured_is_named_and_the_others_go_on() {
    let (_dir, lake) = lake();
    ledger::open(&lake).await.unwrap();
    // Somebody wrote another table in its place.
    let other: ArrayRef = Arc::new(datafusion::arrow::array::StringArray::from(vec!["x"]));
    land(&lake, "sensor_readings", column::text("other"), other).await;
    order_of(&lake, "2026-01-01T10:00:00Z").await;
    let now_ms = at("2026-01-01T11:00:00Z").timestamp_millis();
    let (measured, unmeasured) = measure(&lake, &watched(), &OpenAlerts::new(), now_ms).await.unwrap();
    let values = |one: &Measured| one.signals.as_ref().map(|signals| signals[0].value);
    assert_eq!(measured.iter().map(values).collect::<Vec<_>>(), [None, Some(60.0)]);
    assert_eq!(unmeasured.keys().collect::<Vec<_>>(), ["the alert late of sensor_readings"]);
}
