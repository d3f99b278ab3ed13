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

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringArray};
use datafusion::arrow::compute::{SortOptions, cast, concat_batches, filter_record_batch, sort_to_indices};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::{Expr, JoinType, col, ident, lit};

use crate::contract::Contract;
use crate::lake::{BronzeObject, Lake, LakeError};
use crate::table::{CONFLICTS_MAX, CommitError, Table, TableError, after_conflict};
use crate::{latest, session};

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
    Ok(Table::open_or_create(lake, &rows_path(contract), &schema(contract), &["dt"]).await?)
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
            let next_version = i64::try_from(table.version()).unwrap_or(i64::MAX).saturating_add(1);
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

/// What becomes of an accepted row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its key is new: it goes to silver.
    Fresh,
    /// This very row is in silver already.
    Present,
    /// Another row with its key was first.
    Duplicate,
}

async fn decide(
    table: &Table,
    contract: &Contract,
    objects: &[(&BronzeObject, &RecordBatch)],
) -> Result<Vec<Vec<Fate>>, DataFusionError> {
    let identities = project(contract, objects, identity(contract))?;
    let known = known_rows(table, contract, &identities).await?;

    let mut seen = HashSet::new();
    let identity_rows = converter(&identities)?.convert_columns(identities.columns())?;
    let mut row = 0;
    let mut decisions = Vec::with_capacity(objects.len());
    for (object, accepted) in objects {
        let ordinals = ordinals(accepted)?;
        let mut fates = Vec::with_capacity(accepted.num_rows());
        for ordinal in ordinals.values() {
            let own = |(key, etag, at): &(String, String, i64)| {
                *key == object.key && *etag == object.etag && at == ordinal
            };
            fates.push(match known.get(&row) {
                Some(places) if places.iter().any(own) => Fate::Present,
                Some(_) => Fate::Duplicate,
                None if seen.insert(identity_rows.row(row).owned()) => Fate::Fresh,
                None => Fate::Duplicate,
            });
            row += 1;
        }
        decisions.push(fates);
    }
    Ok(decisions)
}

/// What makes a row the same row: its key; where versions are kept, all that it says.
fn identity(contract: &Contract) -> Vec<&str> {
    if contract.latest_by.is_empty() {
        contract.key.iter().map(String::as_str).collect()
    } else {
        let others = contract.columns.iter().filter(|column| !contract.key.contains(&column.name));
        let others = others.map(|column| column.name.as_str());
        contract.key.iter().map(String::as_str).chain(others).collect()
    }
}

/// The named columns of all objects' rows, one after another.
fn project(
    contract: &Contract,
    objects: &[(&BronzeObject, &RecordBatch)],
    names: Vec<&str>,
) -> Result<RecordBatch, ArrowError> {
    let schema = contract.row_schema();
    let indices: Vec<usize> =
        names.into_iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?;
    let rows: Vec<RecordBatch> =
        objects.iter().map(|(_, rows)| rows.project(&indices)).collect::<Result<_, _>>()?;
    concat_batches(&Arc::new(schema.project(&indices)?), &rows)
}

fn converter(rows: &RecordBatch) -> Result<RowConverter, ArrowError> {
    RowConverter::new(
        rows.columns().iter().map(|column| SortField::new(column.data_type().clone())).collect(),
    )
}

/// For each row of `identities` that the table has: the bronze key, etag and ordinal of the rows that it is.
/// The key's columns come first, and join; the others, if there are any, are compared then.
async fn known_rows(
    table: &Table,
    contract: &Contract,
    identities: &RecordBatch,
) -> Result<HashMap<usize, Vec<(String, String, i64)>>, DataFusionError> {
    let mut known: HashMap<usize, Vec<_>> = HashMap::new();
    if identities.num_rows() == 0 {
        return Ok(known);
    }
    let context = session::context();
    let mut silver =
        context.read_table(table.provider().await.map_err(|e| DataFusionError::External(e.into()))?)?;
    // The bounds let the scan skip every file whose statistics lie outside.
    for (name, column) in contract.key.iter().zip(identities.columns()) {
        if let Some((min, max)) = bounds(column)? {
            silver = silver.filter(ident(name).between(lit(min), lit(max)))?;
        }
    }
    let incoming_names: Vec<String> = contract.key.iter().map(|name| format!("incoming_{name}")).collect();
    let mut fields: Vec<Field> = identities
        .schema()
        .fields()
        .iter()
        .zip(&incoming_names)
        .map(|(field, name)| field.as_ref().clone().with_name(name))
        .collect();
    fields.push(Field::new("incoming_row", DataType::Int64, false));
    let mut columns = identities.columns()[..contract.key.len()].to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(0..identities.num_rows() as i64)));
    let incoming = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;

    // As written: an upper-case name is no other name.
    let same_key = contract.key.iter().zip(&incoming_names).map(|(there, new)| ident(new).eq(ident(there)));
    let same_key: Vec<Expr> = same_key.collect();
    let schema = identities.schema();
    let names = schema.fields().iter().map(|field| ident(field.name()));
    let found = context
        .read_batch(incoming)?
        .join_on(silver, JoinType::Inner, same_key)?
        .select(["incoming_row", "bronze_key", "bronze_etag", "ordinal"].map(col).into_iter().chain(names))?
        .collect()
        .await?;
    let converter = converter(identities)?;
    let incoming = converter.convert_columns(identities.columns())?;
    for batch in found {
        let row = batch.column(0).as_primitive::<Int64Type>();
        let key = cast(batch.column(1), &DataType::Utf8)?;
        let etag = cast(batch.column(2), &DataType::Utf8)?;
        let ordinal = batch.column(3).as_primitive::<Int64Type>();
        let there: Vec<ArrayRef> = batch.columns()[4..]
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| cast(column, field.data_type()))
            .collect::<Result<_, _>>()?;
        let there = converter.convert_columns(&there)?;
        for i in 0..batch.num_rows() {
            let place = row.value(i) as usize;
            if incoming.row(place) == there.row(i) {
                known.entry(place).or_default().push((
                    key.as_string::<i32>().value(i).to_owned(),
                    etag.as_string::<i32>().value(i).to_owned(),
                    ordinal.value(i),
                ));
            }
        }
    }
    Ok(known)
}

fn bounds(column: &ArrayRef) -> Result<Option<(ScalarValue, ScalarValue)>, DataFusionError> {
    let end = |descending| -> Result<ScalarValue, DataFusionError> {
        let options = SortOptions { descending, nulls_first: false };
        let first = sort_to_indices(column, Some(options), Some(1))?;
        ScalarValue::try_from_array(column, first.value(0) as usize)
    };
    Ok(if column.is_empty() { None } else { Some((end(false)?, end(true)?)) })
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
