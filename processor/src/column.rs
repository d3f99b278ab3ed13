//! The columns of Ingot's own tables, discard and ledger: text, whole numbers, points in time.

use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};

/// A column of text.
pub fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

/// A column of whole numbers.
pub fn number(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

/// A column of points in time, in microseconds, UTC.
pub fn utc(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)
}
