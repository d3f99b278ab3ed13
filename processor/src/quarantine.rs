//! Quarantine: the objects that are set aside whole, with the reason: a check of severity `quarantine`, or that
//! they expand further than any object may.
//!
//! Nothing of such an object is in silver, discard or the ledger; a row of this table says why. It waits
//! until its bytes or its contract change: then it is pending again, and takes the road of any other
//! object. So nothing has ever to be taken back.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use serde::Serialize;

use crate::column::{number, text, utc};
use crate::contract::Contract;
use crate::decode::{EXPANDED_BYTES_MAX, EXPANDED_RATIO_MAX};
use crate::lake::{BronzeObject, Lake};
use crate::ledger::Batch;
use crate::session;
use crate::table::{CommitError, Table, TableError};

/// Where the table is, below the lake.
pub const PATH: &str = "quarantine";
/// What stands for a check where an object expands further than [`crate::decode::expanded_bytes_max`]. No check can have
/// that name.
pub const EXPANDS_TOO_FAR: &str = "(expands too far)";

/// An object that is set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// The dataset that its key names.
    pub dataset: String,
    /// The object's key.
    pub bronze_key: String,
    /// The object's tag.
    pub bronze_etag: String,
    /// The check, or [`EXPANDS_TOO_FAR`].
    pub check: String,
    /// Rows that fail it.
    pub rows_failing: i64,
    /// Rows in the object.
    pub rows_in: i64,
    /// The gateway's batches in it, as far as they are sound.
    pub batches: Vec<Batch>,
    /// The contract's version.
    pub contract_version: String,
    /// The contract's [`Contract::fingerprint`]: under another one the object is tried again.
    pub contract_fingerprint: String,
    /// When: milliseconds since 1970-01-01 UTC.
    pub set_aside_ms: i64,
}

/// Quarantine could not be read.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The query failed.
    #[error("reading quarantine: {0}")]
    Query(#[from] DataFusionError),
    /// A cell is not what this program writes.
    #[error("quarantine's row of {bronze_key} is damaged: {source}")]
    Cell {
        /// The row.
        bronze_key: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The table's columns; `batches` is JSON.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("dataset"),
        text("bronze_key"),
        text("bronze_etag"),
        text("check"),
        number("rows_failing"),
        number("rows_in"),
        text("batches"),
        text("contract_version"),
        text("contract_fingerprint"),
        utc("set_aside_at"),
    ]))
}

impl SetAside {
    /// In words.
    pub fn reason(&self) -> String {
        if self.check == EXPANDS_TOO_FAR {
            return format!(
                "it expands to more than {EXPANDED_RATIO_MAX} times its size, or to more than {EXPANDED_BYTES_MAX} bytes; split it, or pack it less tightly"
            );
        }
        format!(
            "{} of {} rows fail the check {}; it waits until it or the contract changes",
            self.rows_failing, self.rows_in, self.check
        )
    }

    fn row(&self) -> Result<RecordBatch, ArrowError> {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let number = |number: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![number])) };
        let batches =
            serde_json::to_string(&self.batches).map_err(|error| ArrowError::JsonError(error.to_string()))?;
        let at = TimestampMicrosecondArray::from_value(self.set_aside_ms * 1_000, 1);
        RecordBatch::try_new(
            schema(),
            vec![
                text(&self.dataset),
                text(&self.bronze_key),
                text(&self.bronze_etag),
                text(&self.check),
                number(self.rows_failing),
                number(self.rows_in),
                text(&batches),
                text(&self.contract_version),
                text(&self.contract_fingerprint),
                Arc::new(at.with_timezone("UTC")),
            ],
        )
    }
}

/// Writes what was set aside; an object once for each state of its contract.
pub async fn write(lake: &Lake, set_aside: &[SetAside]) -> Result<(), CommitError> {
    if set_aside.is_empty() {
        return Ok(());
    }
    let mut table = Table::open_or_create(lake, PATH, &schema(), &["dataset"]).await?;
    let rows: Vec<(String, RecordBatch)> = set_aside
        .iter()
        .map(|object| {
            let id = format!("{}@{}#{}", object.bronze_key, object.bronze_etag, object.contract_fingerprint);
            Ok((id, object.row().map_err(|error| table.unfit(error))?))
        })
        .collect::<Result<_, TableError>>()?;
    table.append_once(&rows).await
}

/// What is in quarantine, by key and tag: of each object the newest record.
pub async fn entries(lake: &Lake) -> Result<Quarantine, QuarantineError> {
    let mut quarantine = Quarantine::default();
    let Some(table) = Table::open(lake, PATH).await? else { return Ok(quarantine) };
    let names: Vec<String> = schema().fields().iter().map(|field| field.name().clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rows = session::context().read_table(table.provider().await?)?.select_columns(&names)?;
    for batch in rows.collect().await? {
        let texts = |column: usize| cast(batch.column(column), &DataType::Utf8);
        let numbers = |column: usize| cast(batch.column(column), &DataType::Int64);
        let columns: Vec<ArrayRef> = (0..names.len())
            .map(|column| if matches!(column, 4 | 5 | 9) { numbers(column) } else { texts(column) })
            .collect::<Result<_, _>>()
            .map_err(DataFusionError::from)?;
        for row in 0..batch.num_rows() {
            let text = |column: usize| columns[column].as_string::<i32>().value(row).to_owned();
            let number = |column: usize| columns[column].as_primitive::<Int64Type>().value(row);
            let batches = serde_json::from_str(&text(6))
                .map_err(|source| QuarantineError::Cell { bronze_key: text(1), source })?;
            quarantine.add(SetAside {
                dataset: text(0),
                bronze_key: text(1),
                bronze_etag: text(2),
                check: text(3),
                rows_failing: number(4),
                rows_in: number(5),
                batches,
                contract_version: text(7),
                contract_fingerprint: text(8),
                set_aside_ms: number(9) / 1_000,
            });
        }
    }
    Ok(quarantine)
}

/// The objects in quarantine.
#[derive(Debug, Default)]
pub struct Quarantine(HashMap<(String, String), SetAside>);

impl Quarantine {
    /// Why the object waits under this contract; `None` if it is to be tried.
    pub fn holds(&self, object: &BronzeObject, contract: &Contract) -> Option<&SetAside> {
        let set_aside = self.0.get(&(object.key.clone(), object.etag.clone()))?;
        (set_aside.contract_fingerprint == contract.fingerprint).then_some(set_aside)
    }

    fn add(&mut self, set_aside: SetAside) {
        let id = (set_aside.bronze_key.clone(), set_aside.bronze_etag.clone());
        match self.0.get(&id) {
            Some(known) if known.set_aside_ms > set_aside.set_aside_ms => {}
            _ => {
                self.0.insert(id, set_aside);
            }
        }
    }
}
