//! Retention: what a contract keeps no longer goes, tier by tier, and the books know that it went.
//!
//! Silver, discard and daily gold go by partition, in one commit each; bronze goes by object, found through the
//! ledger, so nothing goes that was not processed. Before anything goes, the table [`expired`] notes how many rows of
//! which object: so the audit tells expired from lost. What is computed from a tier outlives it: gold of a
//! day stays as it was when silver of the day went (only a `window: all` query, computed anew, sums what silver has).
//! A rebuild gives what bronze still has.

pub(crate) mod expired;

use chrono::{DateTime, Days};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;

use crate::bronze::BronzeKey;
use crate::contract::{Contract, Window};
use crate::discard::DUPLICATE;
use crate::lake::{BronzeObject, Lake, LakeError};
use crate::ledger::{self, LedgerError};
use crate::table::{CONFLICTS_MAX, CommitError, Files, Partition, Table, TableError, after_conflict};
use crate::{discard, gold, quoted, session, silver};

use expired::{Noted, note};

/// Retention failed; what is not done is due again.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A table.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A query.
    #[error("counting what goes: {0}")]
    Query(#[from] DataFusionError),
    /// Rows could not be put together.
    #[error("putting rows together: {0}")]
    Rows(#[from] ArrowError),
}

impl From<TableError> for RetentionError {
    fn from(error: TableError) -> Self {
        Self::Commit(error.into())
    }
}

/// What is kept no longer.
#[derive(Clone, Debug)]
pub struct Expiry {
    dataset: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Bronze(Vec<BronzeObject>),
    Partition { table: String, partition: Partition, files: Files, noted: bool },
}

impl Expiry {
    /// Where it is, below the lake.
    pub fn at(&self) -> String {
        match &self.what {
            What::Bronze(_) => format!("bronze/{}", self.dataset),
            What::Partition { table, partition, .. } => format!("{table}/dt={}", day(partition)),
        }
    }

    /// Files and bytes.
    pub fn size(&self) -> (u64, u64) {
        match &self.what {
            What::Bronze(objects) => (objects.len() as u64, objects.iter().map(|object| object.bytes).sum()),
            What::Partition { files, .. } => (files.count, files.bytes),
        }
    }
}

fn day(partition: &Partition) -> &str {
    partition.get("dt").and_then(Option::as_deref).unwrap_or_default()
}

/// What the contracts keep no longer at `now_ms`; nothing is changed.
pub async fn due(lake: &Lake, contracts: &[Contract], now_ms: i64) -> Result<Vec<Expiry>, RetentionError> {
    let mut due = Vec::new();
    for contract in contracts {
        let kept = contract.retention;
        let mut tables = vec![(discard::PATH.to_owned(), kept.discard_days, true)];
        let rows = silver::rows_path(contract);
        let shown = silver::path(&contract.dataset);
        if rows != shown {
            tables.push((shown, kept.silver_days, false));
        }
        tables.push((rows, kept.silver_days, true));
        let daily = contract.gold.iter().filter(|query| query.window == Window::Day);
        tables.extend(daily.map(|query| (gold::path(&query.name), kept.gold_days, false)));
        for (path, days, noted) in tables {
            let Some(first) = days.map(|days| first_kept_day(days, now_ms)) else { continue };
            let Some(table) = Table::open(lake, &path).await? else { continue };
            for (partition, files) in table.partitions(0)? {
                let is_ours = partition
                    .get("dataset")
                    .is_none_or(|dataset| dataset.as_deref() == Some(contract.dataset.as_str()));
                if is_ours && !day(&partition).is_empty() && day(&partition) < first.as_str() {
                    let what = What::Partition { table: path.clone(), partition, files, noted };
                    due.push(Expiry { dataset: contract.dataset.clone(), what });
                }
            }
        }
        if let Some(days) = kept.bronze_days {
            let objects = old_objects(lake, contract, &first_kept_day(days, now_ms)).await?;
            if !objects.is_empty() {
                due.push(Expiry { dataset: contract.dataset.clone(), what: What::Bronze(objects) });
            }
        }
    }
    Ok(due)
}

/// Days compare as they are written.
fn first_kept_day(days: u32, now_ms: i64) -> String {
    let today = DateTime::from_timestamp_millis(now_ms).unwrap_or_default().date_naive();
    today.checked_sub_days(Days::new(u64::from(days))).unwrap_or_default().to_string()
}

/// Processed objects of days before `first` that are still there.
async fn old_objects(
    lake: &Lake,
    contract: &Contract,
    first: &str,
) -> Result<Vec<BronzeObject>, RetentionError> {
    let mut objects = Vec::new();
    let Some(ledger) = Table::open(lake, ledger::PATH).await? else { return Ok(objects) };
    for entry in ledger::entries_since(&ledger, &contract.dataset, 0).await? {
        let key = BronzeKey::parse(&entry.bronze_key, |_| true).ok().and_then(|key| key.dt);
        let processed = DateTime::from_timestamp_millis(entry.processed_ms).unwrap_or_default();
        let day = key.unwrap_or_else(|| processed.format("%Y-%m-%d").to_string());
        if day.as_str() < first
            && let Some(object) = lake.bronze_object_as(&entry.bronze_key, &entry.bronze_etag).await?
        {
            objects.push(object);
        }
    }
    Ok(objects)
}

/// Notes what goes, and lets it go.
pub async fn expire(lake: &Lake, expiry: &Expiry) -> Result<(), RetentionError> {
    match &expiry.what {
        What::Bronze(objects) => {
            let noted = objects.iter().map(|object| Noted {
                tier: "bronze",
                key: object.key.clone(),
                etag: object.etag.clone(),
                rows: 0,
            });
            note(lake, &expiry.dataset, "", 0, &noted.collect::<Vec<_>>()).await?;
            for object in objects {
                // What was stored under its name since is another object.
                if lake.bronze_object_as(&object.key, &object.etag).await?.is_some() {
                    lake.remove_bronze(object).await?;
                }
            }
            Ok(())
        }
        What::Partition { table: path, partition, noted, .. } => {
            for conflicts in 0..CONFLICTS_MAX {
                let Some(mut table) = Table::open(lake, path).await? else { return Ok(()) };
                if *noted {
                    let rows = counted(&table, path, partition).await?;
                    let step = table.times_expired(partition).await?;
                    note(lake, &expiry.dataset, day(partition), step, &rows).await?;
                }
                match table.expire(partition).await {
                    Err(CommitError::Conflict { .. }) => after_conflict(conflicts).await,
                    done => return Ok(done?),
                }
            }
            Err(CommitError::Conflict { table: path.clone() }.into())
        }
    }
}

/// The partition's rows by object.
async fn counted(table: &Table, path: &str, partition: &Partition) -> Result<Vec<Noted>, RetentionError> {
    let context = session::context();
    context.register_table("rows", table.provider().await?)?;
    let is = partition
        .iter()
        .map(|(column, value)| format!("{column} = {}", quoted::text(value.as_deref().unwrap_or_default())));
    let rule = if path == discard::PATH { "rule" } else { "'' AS rule" };
    let sql = format!(
        "SELECT bronze_key, bronze_etag, rule = '{DUPLICATE}', count(*) FROM (SELECT bronze_key, bronze_etag, {rule} FROM rows WHERE {}) GROUP BY 1, 2, 3",
        is.collect::<Vec<_>>().join(" AND ")
    );
    let mut noted = Vec::new();
    for batch in context.sql(&sql).await?.collect().await? {
        let [keys, etags] = [0, 1].map(|at| cast(batch.column(at), &DataType::Utf8));
        let (keys, etags) = (keys?, etags?);
        for row in 0..batch.num_rows() {
            let tier = match (path == discard::PATH, batch.column(2).as_boolean().value(row)) {
                (true, true) => "duplicate",
                (true, false) => "discard",
                (false, _) => "silver",
            };
            noted.push(Noted {
                tier,
                key: keys.as_string::<i32>().value(row).to_owned(),
                etag: etags.as_string::<i32>().value(row).to_owned(),
                rows: batch.column(3).as_primitive::<Int64Type>().value(row),
            });
        }
    }
    Ok(noted)
}

#[cfg(test)]
mod tests;
