//! What the lake keeps as JSON or shows as a listing, as rows: batches, drops, discarded readings, bronze.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::Value;

use crate::bronze::{BronzeKey, Skip};
use crate::column::{number, text};
use crate::lake::{BronzeObject, Lake};
use crate::ledger::Batch;

/// Rows of one batch of the listing.
const STREAM_ROWS: usize = 4_096;

fn texts(batch: &RecordBatch, column: usize) -> Result<StringArray, DataFusionError> {
    Ok(cast(batch.column(column), &DataType::Utf8)?.as_string::<i32>().clone())
}

pub(super) fn batch_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("bronze_key"),
        text("gateway"),
        text("boot"),
        number("seq"),
        number("readings"),
    ]))
}

/// The ledger's batches, a row each.
pub(super) fn batch_rows(entries: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
    let (mut keys, mut gateways, mut boots) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seqs, mut readings) = (Vec::new(), Vec::new());
    for (key, batch) in batches(entries)? {
        keys.push(key);
        gateways.push(batch.gateway);
        boots.push(format!("{:016x}", batch.boot));
        seqs.push(signed(batch.seq));
        readings.push(i64::from(batch.readings));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(keys)),
        Arc::new(StringArray::from(gateways)),
        Arc::new(StringArray::from(boots)),
        Arc::new(Int64Array::from(seqs)),
        Arc::new(Int64Array::from(readings)),
    ];
    Ok(RecordBatch::try_new(batch_schema(), columns)?)
}

pub(super) fn drop_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("gateway"),
        text("boot"),
        number("seq"),
        text("cause"),
        number("readings"),
    ]))
}

/// What the ledger's batches say was given up, a row for each cause.
pub(super) fn drop_rows(entries: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
    let (mut gateways, mut boots, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut causes, mut readings) = (Vec::new(), Vec::new());
    for (_, batch) in batches(entries)? {
        for (cause, count) in batch.dropped {
            gateways.push(batch.gateway.clone());
            boots.push(format!("{:016x}", batch.boot));
            seqs.push(signed(batch.seq));
            causes.push(cause);
            readings.push(signed(count));
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(gateways)),
        Arc::new(StringArray::from(boots)),
        Arc::new(Int64Array::from(seqs)),
        Arc::new(StringArray::from(causes)),
        Arc::new(Int64Array::from(readings)),
    ];
    Ok(RecordBatch::try_new(drop_schema(), columns)?)
}

fn batches(entries: &RecordBatch) -> Result<Vec<(String, Batch)>, DataFusionError> {
    let (keys, cells) = (texts(entries, 0)?, texts(entries, 1)?);
    let mut found = Vec::new();
    for (key, cell) in keys.iter().zip(&cells) {
        let key = key.unwrap_or_default();
        let batches: Vec<Batch> = serde_json::from_str(cell.unwrap_or("[]")).map_err(|error| {
            DataFusionError::Execution(format!("the ledger's row of {key} is damaged: {error}"))
        })?;
        found.extend(batches.into_iter().map(|batch| (key.to_owned(), batch)));
    }
    Ok(found)
}

pub(super) fn reading_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("dataset"),
        text("gateway"),
        text("rule"),
        text("device"),
        number("boot"),
        number("seq"),
    ]))
}

/// Discard rows with the reading that their record names, where it names one.
pub(super) fn reading_rows(rows: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
    let (datasets, keys, rules, records) =
        (texts(rows, 0)?, texts(rows, 1)?, texts(rows, 2)?, texts(rows, 3)?);
    let gateways: StringArray = keys.iter().map(|key| key.map(|key| gateway_of(key).to_owned())).collect();
    let (mut devices, mut boots, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    for record in &records {
        let record: Value = record.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let reading = (
            record["device"].as_str().map(str::to_owned),
            record["boot"].as_i64(),
            record["seq"].as_i64().filter(|seq| *seq >= 0),
        );
        let (device, boot, seq) = match reading {
            (Some(device), Some(boot), Some(seq)) => (Some(device), Some(boot), Some(seq)),
            _ => (None, None, None),
        };
        devices.push(device);
        boots.push(boot);
        seqs.push(seq);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(datasets),
        Arc::new(gateways),
        Arc::new(rules),
        Arc::new(StringArray::from(devices)),
        Arc::new(Int64Array::from(boots)),
        Arc::new(Int64Array::from(seqs)),
    ];
    Ok(RecordBatch::try_new(reading_schema(), columns)?)
}

/// The gateway that a key names, or nothing; in SQL it is [`GATEWAY_SQL`].
fn gateway_of(key: &str) -> &str {
    key.split_once("/gateway=").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
}

/// The gateway of `bronze_key`.
pub(in crate::audit) const GATEWAY_SQL: &str = "split_part(split_part(bronze_key, '/gateway=', 2), '/', 1)";

pub(super) fn listing_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("bronze_key"),
        text("bronze_etag"),
        number("bytes"),
        number("modified_ms"),
        text("dataset"),
        text("gateway"),
        text("boot"),
        number("seq"),
        Field::new("misnamed", DataType::Boolean, false),
    ]))
}

/// Bronze as it is listed; `dataset` is null where the object is not processed, and `misnamed` where it should be.
pub(super) fn listing(lake: &Lake, datasets: Vec<String>) -> SendableRecordBatchStream {
    let objects = lake.bronze_stream().map_err(|error| DataFusionError::External(error.into()));
    let rows = chunks(objects).map(move |objects| listing_rows(&objects?, &datasets));
    Box::pin(RecordBatchStreamAdapter::new(listing_schema(), rows))
}

fn chunks<E>(
    objects: impl Stream<Item = Result<BronzeObject, E>>,
) -> impl Stream<Item = Result<Vec<BronzeObject>, E>> {
    objects.chunks(STREAM_ROWS).map(|objects| objects.into_iter().collect())
}

fn listing_rows(objects: &[BronzeObject], datasets: &[String]) -> Result<RecordBatch, DataFusionError> {
    let is_dataset = |name: &str| datasets.iter().any(|known| known == name);
    let parsed = objects.iter().map(|object| BronzeKey::parse(&object.key, is_dataset));
    let (keys, misnamed): (Vec<Option<BronzeKey>>, Vec<bool>) = parsed
        .map(|key| {
            let misnamed = key.as_ref().is_err_and(Skip::is_misnamed);
            (key.ok(), misnamed)
        })
        .unzip();
    let key_text = |of: fn(&BronzeKey) -> Option<String>| -> ArrayRef {
        Arc::new(keys.iter().map(|key| key.as_ref().and_then(of)).collect::<StringArray>())
    };
    let number = |of: fn(&BronzeObject) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(objects.iter().map(of)))
    };
    let seqs: Int64Array = keys.iter().map(|key| key.as_ref()?.batch.map(|(_, seq)| signed(seq))).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(objects.iter().map(|object| &object.key))),
        Arc::new(StringArray::from_iter_values(objects.iter().map(|object| &object.etag))),
        number(|object| signed(object.bytes)),
        number(|object| object.modified_ms),
        key_text(|key| Some(key.dataset.clone())),
        key_text(|key| Some(key.gateway.clone().unwrap_or_default())),
        key_text(|key| key.batch.map(|(boot, _)| format!("{boot:016x}"))),
        Arc::new(seqs),
        Arc::new(BooleanArray::from(misnamed)),
    ];
    Ok(RecordBatch::try_new(listing_schema(), columns)?)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
