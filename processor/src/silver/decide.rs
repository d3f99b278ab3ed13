//! What becomes of accepted rows: each is fresh, in silver already, or a duplicate.
//!
//! Silver is asked once for all rows; the bounds of their keys let it skip the files that cannot have them. Memory holds
//! a fate for each row, whatever silver holds.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::{SortOptions, cast, concat_batches, sort_to_indices};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::{Expr, JoinType, col, ident, lit};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;

use super::ordinals;
use crate::contract::Contract;
use crate::lake::BronzeObject;
use crate::session;
use crate::table::Table;

/// What becomes of an accepted row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its key is new: it goes to silver.
    Fresh,
    /// This very row is in silver already.
    Present,
    /// Another row with its key was first.
    Duplicate,
}

/// The fates of each object's rows.
pub(super) async fn decide(
    table: &Table,
    contract: &Contract,
    objects: &[(&BronzeObject, &RecordBatch)],
) -> Result<Vec<Vec<Fate>>, DataFusionError> {
    let identities = project(contract, objects, identity(contract))?;
    let known = known(table, contract, objects, &identities).await?;

    let rows = converter(&identities)?.convert_columns(identities.columns())?;
    let mut seen = HashSet::new();
    let mut fates = known.into_iter().zip(&rows).map(|(known, row)| match known {
        Some(fate) => fate,
        None if seen.insert(row) => Fate::Fresh,
        None => Fate::Duplicate,
    });
    Ok(objects.iter().map(|(_, accepted)| fates.by_ref().take(accepted.num_rows()).collect()).collect())
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

/// For each row of `identities` that the table has: whether it has this very row, or another with its identity.
/// The key's columns come first, and join; the others, if there are any, are compared then.
async fn known(
    table: &Table,
    contract: &Contract,
    objects: &[(&BronzeObject, &RecordBatch)],
    identities: &RecordBatch,
) -> Result<Vec<Option<Fate>>, DataFusionError> {
    let mut known = vec![None; identities.num_rows()];
    if known.is_empty() {
        return Ok(known);
    }
    let mut places: Vec<(&BronzeObject, i64)> = Vec::with_capacity(known.len());
    for (object, accepted) in objects {
        places.extend(ordinals(accepted)?.values().iter().map(|ordinal| (*object, *ordinal)));
    }
    let mut found = matches(table, contract, identities).await?.execute_stream().await?;
    let schema = identities.schema();
    let converter = converter(identities)?;
    let incoming = converter.convert_columns(identities.columns())?;
    while let Some(batch) = found.try_next().await? {
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
            let at = row.value(i) as usize;
            if incoming.row(at) != there.row(i) {
                continue;
            }
            let (object, place) = places[at];
            let is_own = key.as_string::<i32>().value(i) == object.key
                && etag.as_string::<i32>().value(i) == object.etag
                && ordinal.value(i) == place;
            if is_own {
                known[at] = Some(Fate::Present);
            } else {
                known[at].get_or_insert(Fate::Duplicate);
            }
        }
    }
    Ok(known)
}

/// The rows of the table that have the key of an incoming row: that row's number, where they came from, and what their
/// identity is.
async fn matches(
    table: &Table,
    contract: &Contract,
    identities: &RecordBatch,
) -> Result<DataFrame, DataFusionError> {
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
    context
        .read_batch(incoming)?
        .join_on(silver, JoinType::Inner, same_key)?
        .select(["incoming_row", "bronze_key", "bronze_etag", "ordinal"].map(col).into_iter().chain(names))
}

fn bounds(column: &ArrayRef) -> Result<Option<(ScalarValue, ScalarValue)>, DataFusionError> {
    let end = |descending| -> Result<ScalarValue, DataFusionError> {
        let options = SortOptions { descending, nulls_first: false };
        let first = sort_to_indices(column, Some(options), Some(1))?;
        ScalarValue::try_from_array(column, first.value(0) as usize)
    };
    Ok(if column.is_empty() { None } else { Some((end(false)?, end(true)?)) })
}
