//! Discard: every row that is not in silver, with the reason, after redaction.
//!
//! One table for all datasets. An object's rows enter once, under the object's identity; where an object is taken part
//! by part, those of each part under the part's.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{Int64Type, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::record_batch::RecordBatch;

use crate::column::{number, text, utc};
use crate::contract::Contract;
use crate::examine::DiscardRow;
use crate::lake::{BronzeObject, Lake};
use crate::table::{Partition, Table, TableError};

/// The reason of a row whose key silver already has.
pub const DUPLICATE: &str = "duplicate";
/// Where the table is, below the lake.
pub const PATH: &str = "discard";

/// Opens the discard table.
pub async fn open(lake: &Lake) -> Result<Table, TableError> {
    Table::open_or_create(lake, PATH, &schema(), &["dataset", "dt"]).await
}

/// The table's columns.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("dataset"),
        text("dt"),
        text("rule"),
        text("rules"),
        text("contract_version"),
        text("bronze_key"),
        text("bronze_etag"),
        number("ordinal"),
        number("byte_offset"),
        number("byte_len"),
        text("record"),
        utc("discarded_at"),
    ]))
}

/// The partition of a dataset's discards of a day.
pub fn partition(dataset: &str, dt: &str) -> Partition {
    [("dataset", dataset), ("dt", dt)]
        .map(|(column, value)| (column.to_owned(), Some(value.to_owned())))
        .into()
}

/// An object's discard rows as the table has them. `dt` is the object's day.
pub fn rows<'a>(
    contract: &Contract,
    object: &BronzeObject,
    dt: &str,
    discards: impl IntoIterator<Item = &'a DiscardRow, IntoIter: Clone>,
    now_ms: i64,
) -> Result<RecordBatch, ArrowError> {
    let discards = discards.into_iter();
    let count = discards.clone().count();
    let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; count])) };
    let text = |of: fn(&DiscardRow) -> Cow<'_, str>| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(discards.clone().map(of)))
    };
    let number = |of: fn(&DiscardRow) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(discards.clone().map(of)))
    };
    let now = TimestampMicrosecondArray::from_value(now_ms * 1_000, count).with_timezone("UTC");
    RecordBatch::try_new(
        schema(),
        vec![
            same(&contract.dataset),
            same(dt),
            text(|row| row.rules.first().map_or("", String::as_str).into()),
            text(|row| row.rules.join(",").into()),
            same(&contract.version),
            same(&object.key),
            same(&object.etag),
            number(|row| row.ordinal),
            number(|row| row.byte_offset),
            number(|row| row.byte_len),
            text(|row| row.record.as_str().into()),
            Arc::new(now),
        ],
    )
}

/// Accepted (and so redacted) rows that turned out to be duplicates, as discard rows.
pub fn duplicates(rows: &RecordBatch) -> Result<Vec<DiscardRow>, ArrowError> {
    let mut json = Vec::new();
    LineDelimitedWriter::new(&mut json).write(rows)?;
    let ordinals = rows
        .column_by_name("ordinal")
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| ArrowError::SchemaError("ordinal is not an Int64".to_owned()))?;
    Ok(String::from_utf8_lossy(&json)
        .lines()
        .zip(ordinals.values())
        .map(|(record, ordinal)| DiscardRow {
            ordinal: *ordinal,
            rules: vec![DUPLICATE.to_owned()],
            record: record.to_owned(),
            byte_offset: 0,
            byte_len: 0,
        })
        .collect())
}
