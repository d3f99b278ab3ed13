//! Places: where in bronze a row came from, by the columns of that name.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{Expr, JoinType, ident};
use datafusion::prelude::{DataFrame, SessionContext};

/// The columns that say where a row came from: the object's key and tag, and the row's number in it.
pub(crate) const PLACE: [&str; 3] = ["bronze_key", "bronze_etag", "ordinal"];

/// Places in a table of their own ([`PLACE`]'s columns).
pub(crate) fn places<'a>(
    places: impl IntoIterator<Item = (&'a str, &'a str, i64)>,
) -> Result<RecordBatch, ArrowError> {
    let (mut keys, mut etags, mut ordinals) = (Vec::new(), Vec::new(), Vec::new());
    for (key, etag, ordinal) in places {
        keys.push(key);
        etags.push(etag);
        ordinals.push(ordinal);
    }
    let [key, etag, ordinal] = PLACE;
    let schema = Schema::new(vec![
        Field::new(key, DataType::Utf8, true),
        Field::new(etag, DataType::Utf8, true),
        Field::new(ordinal, DataType::Int64, true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(keys)),
        Arc::new(StringArray::from(etags)),
        Arc::new(Int64Array::from(ordinals)),
    ];
    RecordBatch::try_new(Arc::new(schema), columns)
}

/// The rows at the places.
pub(crate) fn at(
    context: &SessionContext,
    rows: DataFrame,
    places: &RecordBatch,
) -> Result<DataFrame, DataFusionError> {
    joined(context, rows, places, JoinType::LeftSemi)
}

/// The rows at none of the places.
pub(crate) fn elsewhere(
    context: &SessionContext,
    rows: DataFrame,
    places: &RecordBatch,
) -> Result<DataFrame, DataFusionError> {
    joined(context, rows, places, JoinType::LeftAnti)
}

fn joined(
    context: &SessionContext,
    rows: DataFrame,
    places: &RecordBatch,
    join: JoinType,
) -> Result<DataFrame, DataFusionError> {
    let other = |name: &str| format!("place_{name}");
    let places = context.read_batch(places.clone())?;
    let places = places.select(PLACE.map(|name| ident(name).alias(other(name))))?;
    let same: Vec<Expr> = PLACE.iter().map(|name| ident(*name).eq(ident(other(name)))).collect();
    rows.join_on(places, join, same)
}
