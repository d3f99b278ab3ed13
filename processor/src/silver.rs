//! Silver: the accepted rows of a dataset, each once.
//!
//! A row's key decides: the first row with a key is promoted, every later one is a duplicate, in this
//! object or any other. The look-up and the commit are one step: each commit carries the dataset's
//! [`LOCK`] transaction, so of two commits built on one snapshot the second is refused and looks again.
//! Silver keeps each row's bronze object and ordinal, so a row that this very object put there
//! before (a redelivery, a crash before the ledger) is known again, not taken for a duplicate.
//!
//! Where the contract has `latestBy`, the rows go to `versions/<dataset>` in the same way, and are
//! duplicates only if all that they say is the same; [`crate::latest`] computes silver from there.

mod decide;

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringArray};
use datafusion::arrow::compute::{cast, concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{Expr, col, lit};

use crate::contract::Contract;
use crate::lake::{BronzeObject, Lake, LakeError};
use crate::latest;
use crate::table::{CONFLICTS_MAX, CommitError, Table, TableError, after_conflict};

use decide::{Fate, decide};

/// The transaction that every silver commit of a dataset takes, so that no two pass each other.
const LOCK: &str = "ingot/silver";

/// Promotion failed; nothing of it is visible.
#[derive(Debug, thiserror::Error)]
pub enum SilverError {
    /// The table failed or stayed contended.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The lake could not be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The contract has `latestBy` and its rows were promoted without, or the other way round.
    #[error(
        "silver of {dataset} was written under a contract that had another mind of `latestBy`; rebuild it from bronze"
    )]
    Kind {
        /// The dataset.
        dataset: String,
    },
    /// The look-up of keys failed.
    #[error("looking up keys in silver of {dataset}: {source}")]
    Lookup {
        /// The dataset.
        dataset: String,
        /// DataFusion's word.
        source: Box<DataFusionError>,
    },
}

impl From<TableError> for SilverError {
    fn from(error: TableError) -> Self {
        Self::Commit(error.into())
    }
}

/// Silver's columns: the contract's, then the partition and where the row came from.
pub fn schema(contract: &Contract) -> SchemaRef {
    let mut fields: Vec<_> = contract.row_schema().fields().iter().cloned().collect();
    for (name, data_type) in [
        ("dt", DataType::Utf8),
        ("bronze_key", DataType::Utf8),
        ("bronze_etag", DataType::Utf8),
        ("ordinal", DataType::Int64),
    ] {
        fields.push(Arc::new(Field::new(name, data_type, true)));
    }
    Arc::new(Schema::new(fields))
}

/// Where a dataset's silver is, below the lake.
pub fn path(dataset: &str) -> String {
    format!("silver/{dataset}")
}

/// Where all versions are kept of a dataset whose latest ones count, below the lake.
pub fn versions_path(dataset: &str) -> String {
    format!("versions/{dataset}")
}

/// Where the contract's rows are promoted to: silver, or the versions from which silver is computed.
pub fn rows_path(contract: &Contract) -> String {
    if contract.latest_by.is_empty() { path(&contract.dataset) } else { versions_path(&contract.dataset) }
}

/// Opens the table that rows are promoted to. A lake whose rows were promoted to the other one is refused.
pub async fn open(lake: &Lake, contract: &Contract) -> Result<Table, SilverError> {
    let dataset = contract.dataset.clone();
    let latest = !contract.latest_by.is_empty();
    if latest != lake.has_table(&versions_path(&dataset)).await?
        && let Some(silver) = Table::open(lake, &path(&dataset)).await?
        && latest != latest::is_computed(&silver).await?
    {
        return Err(SilverError::Kind { dataset });
    }
    Ok(Table::open_widened(lake, &rows_path(contract), &schema(contract), &["dt"]).await?)
}

/// Promotes what each object's accepted rows bring that silver does not have. `accepted` has the
/// contract's columns and `ordinal`. Returns, per object and row, whether the row is in silver; the
/// rest are duplicates.
pub async fn promote(
    table: &mut Table,
    contract: &Contract,
    objects: &[(&BronzeObject, &RecordBatch)],
) -> Result<Vec<BooleanArray>, SilverError> {
    let lookup_failed = |source: DataFusionError| SilverError::Lookup {
        dataset: contract.dataset.clone(),
        source: Box::new(source),
    };
    for conflicts in 0..CONFLICTS_MAX {
        table.refresh().await?;
        let decisions = decide(table, contract, objects).await.map_err(lookup_failed)?;
        let fresh = gather(contract, objects, &decisions).map_err(|error| lookup_failed(error.into()))?;
        let committed = if fresh.num_rows() == 0 {
            Ok(())
        } else {
            let next_version = table.next_version();
            table.append(fresh, &[(LOCK.to_owned(), next_version)]).await
        };
        match committed {
            Ok(()) => {
                return Ok(decisions
                    .into_iter()
                    .map(|rows| rows.iter().map(|fate| Some(*fate != Fate::Duplicate)).collect())
                    .collect());
            }
            Err(CommitError::Conflict { .. }) => after_conflict(conflicts).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(CommitError::Conflict { table: rows_path(contract) }.into())
}

/// The fresh rows of all objects, with silver's own columns.
fn gather(
    contract: &Contract,
    objects: &[(&BronzeObject, &RecordBatch)],
    decisions: &[Vec<Fate>],
) -> Result<RecordBatch, ArrowError> {
    let schema = schema(contract);
    let mut batches = Vec::new();
    for ((object, accepted), fates) in objects.iter().zip(decisions) {
        let fresh: BooleanArray = fates.iter().map(|fate| Some(*fate == Fate::Fresh)).collect();
        let rows = filter_record_batch(accepted, &fresh)?;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for field in contract.row_schema().fields() {
            columns.push(Arc::clone(column(&rows, field.name())?));
        }
        let days = cast(column(&rows, &contract.partition_by)?, &DataType::Date32)?;
        columns.push(cast(&days, &DataType::Utf8)?);
        columns.push(Arc::new(StringArray::from(vec![object.key.as_str(); rows.num_rows()])));
        columns.push(Arc::new(StringArray::from(vec![object.etag.as_str(); rows.num_rows()])));
        columns.push(Arc::new(ordinals(&rows)?.clone()));
        batches.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
    }
    concat_batches(&schema, &batches)
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    rows.column_by_name(name)
        .ok_or_else(|| ArrowError::SchemaError(format!("accepted rows lack the column {name}")))
}

fn ordinals(rows: &RecordBatch) -> Result<&Int64Array, ArrowError> {
    column(rows, "ordinal")?
        .as_primitive_opt::<Int64Type>()
        .ok_or_else(|| ArrowError::SchemaError("ordinal is not an Int64".to_owned()))
}

/// The predicate `dt IN (…)`.
pub fn on_days<'a>(dts: impl IntoIterator<Item = &'a String>) -> Expr {
    col("dt").in_list(dts.into_iter().map(|dt| lit(dt.as_str())).collect(), false)
}
