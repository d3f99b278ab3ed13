//! Entries counted anew: from what silver and discard have of the objects, and what was let go of them.
//!
//! Absolute numbers, so that doing it again changes nothing. The ledger's snapshot is taken before the rows are
//! counted: a count that another writer has overtaken loses the race, and is made again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{col, lit};

use super::{Entry, LedgerError};
use crate::contract::Contract;
use crate::discard;
use crate::lake::{BronzeObject, Lake};
use crate::retention::expired;
use crate::table::place::{self, PLACE};
use crate::table::{CONFLICTS_MAX, CommitError, Table, TableError, after_conflict};
use crate::{quoted, session, silver};

/// Discard rows that are about to be replaced: they are counted as they will be.
pub(crate) struct Replaced {
    /// The [`places`](place::places) of the rows that leave.
    pub leaving: RecordBatch,
    /// The rows that come: by the object's id and the first rule.
    pub coming: Counts,
}

/// Rows by the object's id and the first rule.
pub(crate) type Counts = HashMap<String, BTreeMap<String, u64>>;

/// The ledger could not be counted anew; as long as it is not, the audit finds the difference.
#[derive(Debug, thiserror::Error)]
pub enum RecountError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A table.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The rows could not be counted.
    #[error("counting rows for the ledger: {0}")]
    Query(#[from] DataFusionError),
    /// Rows could not be put together.
    #[error("putting the ledger's rows together: {0}")]
    Rows(#[from] ArrowError),
}

impl From<TableError> for RecountError {
    fn from(error: TableError) -> Self {
        Self::Commit(error.into())
    }
}

/// Counts the entries of the objects with these ids, and writes those that differ. `known` sets what the caller
/// knows of an object besides.
pub(crate) async fn recount(
    lake: &Lake,
    contract: &Contract,
    ids: &BTreeSet<String>,
    replaced: Option<&Replaced>,
    known: impl Fn(&str, &mut Entry),
) -> Result<(), RecountError> {
    let keys: BTreeSet<&str> =
        ids.iter().filter_map(|id| BronzeObject::parts_of(id)).map(|(key, _)| key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    for conflicts in 0..CONFLICTS_MAX {
        let mut ledger = super::open(lake).await?;
        let before = super::entries_of(&ledger, &keys).await?;
        let expired = expired::of(lake, contract, &keys).await?;
        let in_silver = counted(lake, &silver::rows_path(contract), "''", &keys, None).await?;
        let leaving = replaced.map(|replaced| &replaced.leaving);
        let mut in_discard = counted(lake, discard::PATH, "rule", &keys, leaving).await?;
        for (id, rules) in replaced.iter().flat_map(|replaced| &replaced.coming) {
            for (rule, rows) in rules {
                *in_discard.entry(id.clone()).or_default().entry(rule.clone()).or_default() += rows;
            }
        }
        let (mut rows, mut changed, mut is_even) = (Vec::new(), false, true);
        for entry in before.into_iter().filter(|entry| entry.dataset == contract.dataset) {
            let id = entry.id();
            let mut now = entry.clone();
            if ids.contains(&id) {
                let silver = in_silver.get(&id).and_then(|rows| rows.get("")).copied().unwrap_or_default();
                let rules = in_discard.remove(&id).unwrap_or_default();
                let expired = expired.get(&id).copied().unwrap_or_default();
                now = expired.counted(&entry, silver.cast_signed(), rules);
                known(&id, &mut now);
                is_even &= now.is_even();
            }
            changed |= now != entry;
            rows.push(now.row()?);
        }
        if !changed {
            return Ok(());
        }
        if !is_even && conflicts + 1 < CONFLICTS_MAX {
            // Rows went or came while they were counted.
            after_conflict(conflicts).await;
            continue;
        }
        let these = col("bronze_key").in_list(keys.iter().map(|key| lit(*key)).collect(), false);
        let predicate = col("dataset").eq(lit(contract.dataset.as_str())).and(these);
        let rows = concat_batches(&super::schema(), &rows)?;
        match ledger.replace_where(rows, predicate).await {
            Err(CommitError::Conflict { .. }) => after_conflict(conflicts).await,
            done => return Ok(done?),
        }
    }
    Err(CommitError::Conflict { table: super::PATH.to_owned() }.into())
}

/// Rows of the table by object and rule, but those that leave.
async fn counted(
    lake: &Lake,
    path: &str,
    rule: &str,
    keys: &BTreeSet<&str>,
    leaving: Option<&RecordBatch>,
) -> Result<Counts, RecountError> {
    let mut counted = Counts::new();
    let Some(table) = Table::open(lake, path).await? else { return Ok(counted) };
    let context = session::context();
    let mut rows = context.read_table(table.provider().await?)?;
    if let Some(leaving) = leaving {
        rows = place::elsewhere(&context, rows, leaving)?;
    }
    context.register_table("rows", rows.into_view())?;
    let [key, etag, _] = PLACE;
    let sql = format!(
        "SELECT {key}, {etag}, {rule} AS rule, count(*) FROM rows WHERE {key} IN ({}) GROUP BY ALL",
        quoted::texts(keys)
    );
    for batch in context.sql(&sql).await?.collect().await? {
        let texts: Vec<_> =
            (0..3).map(|at| cast(batch.column(at), &DataType::Utf8)).collect::<Result<_, _>>()?;
        let text = |at: usize, row: usize| texts[at].as_string::<i32>().value(row);
        let counts = batch.column(3).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let object = counted.entry(BronzeObject::id_of(text(0, row), text(1, row))).or_default();
            object.insert(text(2, row).to_owned(), counts.value(row).unsigned_abs());
        }
    }
    Ok(counted)
}
