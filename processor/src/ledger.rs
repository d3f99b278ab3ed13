//! The ledger: one row per bronze object, written last. Its sums are the proof that nothing is lost:
//! `rows_in = silver + discarded + duplicates`, and what the edge gave up stands beside it by cause.

pub(crate) mod recount;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::{JoinType, col, lit};
use serde::{Deserialize, Serialize};

use crate::column::{number, text, utc};
use crate::decode::FrameHeader;
use crate::lake::{BronzeObject, Lake};
use crate::session;
use crate::table::{Table, TableError};

/// Where the table is, below the lake.
pub const PATH: &str = "ledger";

/// What became of one bronze object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The dataset that its key names.
    pub dataset: String,
    /// The object's key.
    pub bronze_key: String,
    /// The object's tag.
    pub bronze_etag: String,
    /// The object's size.
    pub bytes: i64,
    /// Records in it.
    pub rows_in: i64,
    /// Of these, promoted by this object: to silver, or where versions are kept, to these.
    pub silver: i64,
    /// Of these, discarded by a rule.
    pub discarded: i64,
    /// Of these, in silver already by another object or an earlier row.
    pub duplicates: i64,
    /// Discarded rows by their first failing rule.
    pub rules: BTreeMap<String, u64>,
    /// Rows that failed a check of severity `warn`, by check.
    pub warnings: BTreeMap<String, u64>,
    /// The gateway's batches in it; none for a website's file.
    pub batches: Vec<Batch>,
    /// The contract's version.
    pub contract_version: String,
    /// When it was processed: milliseconds since 1970-01-01 UTC.
    pub processed_ms: i64,
}

impl Entry {
    /// The object's id.
    pub(crate) fn id(&self) -> String {
        BronzeObject::id_of(&self.bronze_key, &self.bronze_etag)
    }

    /// Whether each record is somewhere.
    pub(crate) fn is_even(&self) -> bool {
        self.rows_in == self.silver + self.discarded + self.duplicates
    }
}

/// A gateway's batch, as its frame's header says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The gateway that sealed it.
    pub gateway: String,
    /// The gateway's run.
    pub boot: u64,
    /// The position in that run.
    pub seq: u64,
    /// When it was sealed: milliseconds since 1970-01-01 UTC.
    pub sealed_ms: i64,
    /// The same moment since the boot of the sealing machine, in milliseconds; 0: not known.
    #[serde(default)] // ledgers of before have none
    pub uptime_ms: u64,
    /// Readings in it.
    pub readings: u32,
    /// Readings that the edge gave up since its previous batch, by cause.
    pub dropped: BTreeMap<String, u64>,
}

impl From<&FrameHeader> for Batch {
    fn from(frame: &FrameHeader) -> Self {
        let dropped = frame.drops.iter().map(|(cause, readings)| (cause.name().to_owned(), *readings));
        Self {
            gateway: frame.gateway.clone(),
            boot: frame.boot,
            seq: frame.seq,
            sealed_ms: frame.sealed_ms,
            uptime_ms: frame.uptime_ms,
            readings: frame.readings,
            dropped: dropped.collect(),
        }
    }
}

/// Reading the ledger failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The query failed.
    #[error("reading the ledger: {0}")]
    Query(#[from] DataFusionError),
    /// A cell is not what this program writes.
    #[error("the ledger's row of {bronze_key} is damaged: {source}")]
    Cell {
        /// The row.
        bronze_key: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// Opens the ledger.
pub async fn open(lake: &Lake) -> Result<Table, TableError> {
    Table::open_or_create(lake, PATH, &schema(), &["dataset"]).await
}

/// The table's columns; `rules`, `warnings` and `batches` are JSON.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("dataset"),
        text("bronze_key"),
        text("bronze_etag"),
        number("bytes"),
        number("rows_in"),
        number("silver"),
        number("discarded"),
        number("duplicates"),
        text("rules"),
        text("warnings"),
        text("batches"),
        text("contract_version"),
        utc("processed_at"),
    ]))
}

impl Entry {
    /// The entry as the table has it.
    pub fn row(&self) -> Result<RecordBatch, ArrowError> {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let number = |number: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![number])) };
        let json = |value: serde_json::Result<String>| {
            value.map(|value| text(&value)).map_err(|error| ArrowError::JsonError(error.to_string()))
        };
        let at = TimestampMicrosecondArray::from_value(self.processed_ms * 1_000, 1);
        RecordBatch::try_new(
            schema(),
            vec![
                text(&self.dataset),
                text(&self.bronze_key),
                text(&self.bronze_etag),
                number(self.bytes),
                number(self.rows_in),
                number(self.silver),
                number(self.discarded),
                number(self.duplicates),
                json(serde_json::to_string(&self.rules))?,
                json(serde_json::to_string(&self.warnings))?,
                json(serde_json::to_string(&self.batches))?,
                text(&self.contract_version),
                Arc::new(at.with_timezone("UTC")),
            ],
        )
    }
}

/// The `(key, etag)` of every object that is done.
pub async fn processed(ledger: &Table) -> Result<HashSet<(String, String)>, LedgerError> {
    let rows = session::context()
        .read_table(ledger.provider().await?)?
        .select_columns(&["bronze_key", "bronze_etag"])?
        .collect()
        .await?;
    ids(rows)
}

/// Keys and tags, of rows with these two columns.
fn ids(rows: Vec<RecordBatch>) -> Result<HashSet<(String, String)>, LedgerError> {
    let mut ids = HashSet::new();
    for batch in rows {
        let texts = texts(&batch)?;
        ids.extend((0..batch.num_rows()).map(|i| (texts(0, i), texts(1, i))));
    }
    Ok(ids)
}

/// The `(key, etag)` of those objects of the dataset with these keys that are done. Files of other days are passed over, as keys
/// have their day in front.
pub async fn processed_of(
    ledger: &Table,
    dataset: &str,
    keys: &BTreeSet<&str>,
) -> Result<HashSet<(String, String)>, LedgerError> {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(HashSet::new()) };
    let rows = session::context()
        .read_table(ledger.provider().await?)?
        .filter(col("dataset").eq(lit(dataset)))?
        .filter(col("bronze_key").between(lit(*first), lit(*last)))?
        .select_columns(&["bronze_key", "bronze_etag"])?
        .collect()
        .await?;
    Ok(ids(rows)?.into_iter().filter(|(key, _)| keys.contains(key.as_str())).collect())
}

/// The entries of some keys, by key.
pub async fn entries_of(ledger: &Table, keys: &BTreeSet<&str>) -> Result<Vec<Entry>, LedgerError> {
    let these = col("bronze_key").in_list(keys.iter().map(|key| lit(*key)).collect(), false);
    let rows = session::context().read_table(ledger.provider().await?)?.filter(these)?.collect().await?;
    read_entries(rows)
}

/// The dataset's entries of the objects with these ids, by key.
pub async fn entries_with(
    ledger: &Table,
    dataset: &str,
    ids: &BTreeSet<String>,
) -> Result<Vec<Entry>, LedgerError> {
    let (mut keys, mut etags) = (Vec::new(), Vec::new());
    for (key, etag) in ids.iter().filter_map(|id| BronzeObject::parts_of(id)) {
        keys.push(key);
        etags.push(etag);
    }
    let (Some(first), Some(last)) = (keys.iter().min(), keys.iter().max()) else { return Ok(Vec::new()) };
    let near = col("dataset").eq(lit(dataset)).and(col("bronze_key").between(lit(*first), lit(*last)));
    let wanted = Schema::new(vec![text("wanted_key"), text("wanted_etag")]);
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(keys)), Arc::new(StringArray::from(etags))];
    let wanted = RecordBatch::try_new(Arc::new(wanted), columns).map_err(DataFusionError::from)?;
    let context = session::context();
    let these = [col("bronze_key").eq(col("wanted_key")), col("bronze_etag").eq(col("wanted_etag"))];
    let rows = context
        .read_table(ledger.provider().await?)?
        .filter(near)?
        .join_on(context.read_batch(wanted)?, JoinType::LeftSemi, these)?
        .collect()
        .await?;
    read_entries(rows)
}

/// The dataset's entries that were processed after `since_ms` (since 1970-01-01 UTC), by key.
pub async fn entries_since(ledger: &Table, dataset: &str, since_ms: i64) -> Result<Vec<Entry>, LedgerError> {
    let since = ScalarValue::TimestampMicrosecond(Some(since_ms.saturating_mul(1_000)), Some("UTC".into()));
    let rows = session::context()
        .read_table(ledger.provider().await?)?
        .filter(col("dataset").eq(lit(dataset)))?
        .filter(col("processed_at").gt(lit(since)))?
        .collect()
        .await?;
    read_entries(rows)
}

fn read_entries(rows: Vec<RecordBatch>) -> Result<Vec<Entry>, LedgerError> {
    let mut entries = Vec::new();
    for batch in rows {
        let order: Vec<usize> = schema()
            .fields()
            .iter()
            .map(|field| batch.schema().index_of(field.name()))
            .collect::<Result<_, _>>()
            .map_err(DataFusionError::from)?;
        let batch = batch.project(&order).map_err(DataFusionError::from)?;
        let texts = texts(&batch)?;
        let number = |column: usize, row: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
        let times = cast(batch.column(12), &DataType::Int64).map_err(DataFusionError::from)?;
        for row in 0..batch.num_rows() {
            let damaged = |source| LedgerError::Cell { bronze_key: texts(1, row), source };
            entries.push(Entry {
                dataset: texts(0, row),
                bronze_key: texts(1, row),
                bronze_etag: texts(2, row),
                bytes: number(3, row),
                rows_in: number(4, row),
                silver: number(5, row),
                discarded: number(6, row),
                duplicates: number(7, row),
                rules: serde_json::from_str(&texts(8, row)).map_err(damaged)?,
                warnings: serde_json::from_str(&texts(9, row)).map_err(damaged)?,
                batches: serde_json::from_str(&texts(10, row)).map_err(damaged)?,
                contract_version: texts(11, row),
                processed_ms: times.as_primitive::<Int64Type>().value(row) / 1_000,
            });
        }
    }
    entries.sort_by(|a, b| a.bronze_key.cmp(&b.bronze_key));
    Ok(entries)
}

/// Reads text cells whatever kind of string the reader chose; other columns read as empty.
fn texts(batch: &RecordBatch) -> Result<impl Fn(usize, usize) -> String, DataFusionError> {
    let columns: Vec<Option<ArrayRef>> =
        batch.columns().iter().map(|column| cast(column, &DataType::Utf8).ok()).collect();
    Ok(move |column: usize, row: usize| {
        columns[column]
            .as_ref()
            .map(|column| column.as_string::<i32>().value(row).to_owned())
            .unwrap_or_default()
    })
}
