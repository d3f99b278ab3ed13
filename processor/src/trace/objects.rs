//! The bronze objects behind traced rows, and the gateway's batches in them.
//!
//! An object of frames is read and its headers are looked at, so a row's batch is known by its place in
//! the object. An object that bronze no longer has is told by its ledger row alone.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::prelude::SessionContext;
use serde::Serialize;

use super::TraceError;
use crate::bronze::{BronzeKey, Format};
use crate::contract::Contract;
use crate::decode::FrameHeader;
use crate::lake::{BronzeObject, Lake, LakeError};
use crate::ledger::{self, Entry};
use crate::quoted;
use crate::reading::Reading;
use crate::table::Table;

/// Batches that are listed of one object.
const BATCHES_MAX: usize = 20;

/// A bronze object that holds traced rows.
#[derive(Debug, Serialize)]
pub struct TracedObject {
    /// Its key.
    pub key: String,
    /// Its tag.
    pub etag: String,
    /// Traced rows in it.
    pub rows: u64,
    /// Rows in it, as the ledger says.
    pub rows_in: Option<i64>,
    /// Its size.
    pub bytes: Option<i64>,
    /// When it was processed.
    pub processed_at: Option<String>,
    /// The contract's version that judged it.
    pub contract_version: Option<String>,
    /// Whether bronze still has it in the state that was processed.
    pub in_bronze: bool,
    /// Its batches that hold traced rows; none for an object that no gateway sealed.
    pub batches: Vec<TracedBatch>,
}

/// A gateway's batch that holds traced rows.
#[derive(Debug, Serialize)]
pub struct TracedBatch {
    /// The gateway.
    pub gateway: String,
    /// Its run, in hex as in keys.
    pub boot: String,
    /// The batch's position in that run.
    pub seq: u64,
    /// When it was sealed.
    pub sealed_at: String,
    /// Readings in it.
    pub readings: u32,
    /// Of these, traced; unknown where bronze no longer has the object.
    pub rows: Option<u64>,
    /// Its first byte in the unpacked object.
    pub byte_offset: Option<u64>,
    /// Its bytes there.
    pub byte_len: Option<u64>,
}

/// The objects of the session's table `behind`, those with most rows first.
pub(super) async fn objects(
    lake: &Lake,
    contract: &Contract,
    context: &SessionContext,
    objects_max: usize,
) -> Result<Vec<TracedObject>, TraceError> {
    let sql = format!(
        "SELECT bronze_key, bronze_etag, count(*) AS rows FROM behind
         GROUP BY bronze_key, bronze_etag ORDER BY rows DESC, bronze_key LIMIT {objects_max}"
    );
    let mut found = Vec::new();
    for batch in context.sql(&sql).await?.collect().await? {
        let keys =
            cast(batch.column(0), &DataType::Utf8).map_err(datafusion::common::DataFusionError::from)?;
        let etags =
            cast(batch.column(1), &DataType::Utf8).map_err(datafusion::common::DataFusionError::from)?;
        let rows = batch.column(2).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let key = keys.as_string::<i32>().value(row).to_owned();
            found.push((key, etags.as_string::<i32>().value(row).to_owned(), rows.value(row)));
        }
    }
    let ledger = match Table::open(lake, ledger::PATH).await? {
        Some(table) => {
            let keys: BTreeSet<&str> = found.iter().map(|(key, ..)| key.as_str()).collect();
            ledger::entries_of(&table, &keys).await?
        }
        None => Vec::new(),
    };
    let mut objects = Vec::new();
    for (key, etag, rows) in found {
        let entry = ledger.iter().find(|entry| entry.bronze_key == key && entry.bronze_etag == etag);
        let frames = frames(lake, contract, &key, &etag).await?;
        let batches = match &frames {
            Some(frames) if frames.is_empty() => Vec::new(),
            Some(frames) => with_rows(frames, &ordinals(context, &key, &etag).await?),
            None => entry.map(by_the_ledger).unwrap_or_default(),
        };
        objects.push(TracedObject {
            rows: u64::try_from(rows).unwrap_or_default(),
            rows_in: entry.map(|entry| entry.rows_in),
            bytes: entry.map(|entry| entry.bytes),
            processed_at: entry.map(|entry| utc(entry.processed_ms)),
            contract_version: entry.map(|entry| entry.contract_version.clone()),
            in_bronze: frames.is_some(),
            batches,
            key,
            etag,
        });
    }
    Ok(objects)
}

/// The headers of the object's frames; `None` where bronze no longer has it in this state.
async fn frames(
    lake: &Lake,
    contract: &Contract,
    key: &str,
    etag: &str,
) -> Result<Option<Vec<FrameHeader>>, TraceError> {
    let Some(object) = lake.bronze_object_as(key, etag).await? else {
        return Ok(None);
    };
    let Ok(key) = BronzeKey::parse(key, |name| name == contract.dataset) else { return Ok(None) };
    if key.format != Format::Frames {
        return Ok(Some(Vec::new()));
    }
    match headers(lake, contract, &object, &key).await {
        Ok(frames) => Ok(Some(frames)),
        Err(LakeError::Changed { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn headers(
    lake: &Lake,
    contract: &Contract,
    object: &BronzeObject,
    key: &BronzeKey,
) -> Result<Vec<FrameHeader>, LakeError> {
    let mut frames = Vec::new();
    let mut reading = Reading::open(lake, object, key).await?;
    while reading.fill().await? {
        let Some(part) = reading.part() else { break };
        let mut taken = part.rows(contract, |_, _| {});
        frames.append(&mut taken.frames);
        reading.pass(&taken);
    }
    Ok(frames)
}

/// The places of the traced rows in one object, in order.
async fn ordinals(context: &SessionContext, key: &str, etag: &str) -> Result<Vec<i64>, TraceError> {
    let sql = format!(
        "SELECT ordinal FROM behind WHERE bronze_key = {} AND bronze_etag = {} ORDER BY ordinal",
        quoted::text(key),
        quoted::text(etag)
    );
    let mut ordinals = Vec::new();
    for batch in context.sql(&sql).await?.collect().await? {
        ordinals.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
    }
    Ok(ordinals)
}

/// The batches in which the rows at these places lie.
fn with_rows(frames: &[FrameHeader], ordinals: &[i64]) -> Vec<TracedBatch> {
    let batches = frames.iter().filter_map(|frame| {
        let first = frame.span.ordinal;
        let from = ordinals.partition_point(|ordinal| *ordinal < first);
        let to = ordinals.partition_point(|ordinal| *ordinal < first + i64::from(frame.readings));
        (to > from).then(|| TracedBatch {
            gateway: frame.gateway.clone(),
            boot: format!("{:016x}", frame.boot),
            seq: frame.seq,
            sealed_at: utc(frame.sealed_ms),
            readings: frame.readings,
            rows: Some((to - from) as u64),
            byte_offset: Some(frame.span.offset as u64),
            byte_len: Some(frame.span.len as u64),
        })
    });
    batches.take(BATCHES_MAX).collect()
}

fn by_the_ledger(entry: &Entry) -> Vec<TracedBatch> {
    let batches = entry.batches.iter().map(|batch| TracedBatch {
        gateway: batch.gateway.clone(),
        boot: format!("{:016x}", batch.boot),
        seq: batch.seq,
        sealed_at: utc(batch.sealed_ms),
        readings: batch.readings,
        rows: None,
        byte_offset: None,
        byte_len: None,
    });
    batches.take(BATCHES_MAX).collect()
}

fn utc(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}
