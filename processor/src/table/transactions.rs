//! Which of many transactions a table has taken, and their last versions, in one read of its log.
//!
//! delta-rs looks up one application id by reading the whole log; for a commit of 64 objects that is the
//! log 64 times. Here the newest checkpoint and the commits after it are read once. Transactions
//! that are past their retention count as taken as long as a checkpoint still has them.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use deltalake::logstore::LogStoreRef;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::{DeltaTableError, ObjectStoreError};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

/// The ids among `wanted` that a commit up to `version` carries, each with the version that the last of them gives it.
pub(super) async fn taken(
    log: &LogStoreRef,
    version: u64,
    wanted: &HashSet<&str>,
) -> Result<HashMap<String, i64>, DeltaTableError> {
    let store = log.object_store(None);
    let mut taken = HashMap::new();
    let checkpoint = newest_checkpoint(&store, log.log_path(), version).await?;
    for file in checkpoint.iter().flat_map(|checkpoint| &checkpoint.files) {
        let bytes = store.get(file).await?.bytes().await?;
        in_checkpoint(bytes, wanted, &mut taken)?;
    }
    for version in checkpoint.map_or(0, |checkpoint| checkpoint.version + 1)..=version {
        let entry = log.read_commit_entry(version).await?;
        let entry = entry.ok_or_else(|| {
            DeltaTableError::generic(format!("the log has neither commit {version} nor a checkpoint of it"))
        })?;
        taken.extend(transactions(&entry).filter(|(id, _)| wanted.contains(id.as_str())));
    }
    Ok(taken)
}

struct Checkpoint {
    version: u64,
    files: Vec<Path>,
}

/// The checkpoint that the log names, or, where that is missing or too new, the newest that is listed.
async fn newest_checkpoint(
    store: &dyn ObjectStore,
    log_path: &Path,
    version_max: u64,
) -> Result<Option<Checkpoint>, DeltaTableError> {
    let named = match store.get(&log_path.clone().join("_last_checkpoint")).await {
        Ok(found) => serde_json::from_slice::<Value>(&found.bytes().await?).ok(),
        Err(ObjectStoreError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let named = named.filter(|named| named.get("parts").is_none_or(Value::is_null));
    if let Some(version) = named.and_then(|named| named["version"].as_u64()).filter(|at| *at <= version_max) {
        let file = log_path.clone().join(format!("{version:020}.checkpoint.parquet"));
        match store.head(&file).await {
            Ok(_) => return Ok(Some(Checkpoint { version, files: vec![file] })),
            Err(ObjectStoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let listed: Vec<Path> = store.list(Some(log_path)).map_ok(|meta| meta.location).try_collect().await?;
    let mut newest: Option<Checkpoint> = None;
    for file in listed {
        let name = file.filename().unwrap_or_default();
        let Some((version, rest)) = name.split_once(".checkpoint.") else { continue };
        let Ok(version) = version.parse::<u64>() else { continue };
        if version > version_max || !rest.ends_with("parquet") {
            continue;
        }
        match &mut newest {
            Some(newest) if newest.version > version => {}
            Some(newest) if newest.version == version => newest.files.push(file),
            _ => newest = Some(Checkpoint { version, files: vec![file] }),
        }
    }
    Ok(newest)
}

fn in_checkpoint(
    bytes: Bytes,
    wanted: &HashSet<&str>,
    taken: &mut HashMap<String, i64>,
) -> Result<(), DeltaTableError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let txn = ProjectionMask::columns(reader.parquet_schema(), ["txn.appId", "txn.version"]);
    for batch in reader.with_projection(txn).build()? {
        let batch = batch?;
        let txn = batch.column_by_name("txn").and_then(|txn| txn.as_struct_opt());
        let ids = txn.and_then(|txn| txn.column_by_name("appId")?.as_string_opt::<i32>());
        let versions = txn.and_then(|txn| txn.column_by_name("version")?.as_primitive_opt::<Int64Type>());
        let (Some(ids), Some(versions)) = (ids, versions) else { continue };
        for (id, version) in ids.iter().zip(versions) {
            if let (Some(id), Some(version)) = (id.filter(|id| wanted.contains(id)), version) {
                taken.insert(id.to_owned(), version);
            }
        }
    }
    Ok(())
}

/// The transactions that a commit carries.
pub(super) fn ids(entry: &[u8]) -> impl Iterator<Item = String> {
    transactions(entry).map(|(id, _)| id)
}

fn transactions(entry: &[u8]) -> impl Iterator<Item = (String, i64)> {
    entry.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"txn\"")).filter_map(|line| {
        let action = serde_json::from_slice::<Value>(line).ok()?;
        let id = action.pointer("/txn/appId")?.as_str()?.to_owned();
        Some((id, action.pointer("/txn/version")?.as_i64()?))
    })
}

/// Whether a commit carries the transaction.
pub(super) fn carries(entry: &[u8], id: &str) -> bool {
    ids(entry).any(|taken| taken == id)
}
