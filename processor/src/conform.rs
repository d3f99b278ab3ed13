//! From fields to typed columns. A value that does not fit its column fails its row, by rule
//! `required.<column>` or `type.<column>`; nothing is rounded, guessed or corrected.
//!
//! Fits: text in a string column; digits within 64 bits in an integer one (`1.0` is not); a finite
//! JSON number in a number one, read to the nearest double; a number that the scale holds exactly in a
//! decimal one; `true` and `false`; RFC 3339 with an offset in a timestamp one (digits past the
//! microsecond are cut off); `YYYY-MM-DD` in a date one. JSON text is not a number; CSV text is.

pub(crate) mod decimal;
pub(crate) mod time;

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, RecordBatch,
    StringBuilder, TimestampMicrosecondBuilder,
};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;

use crate::contract::{Column, Contract, LogicalType};
use crate::decode::Field;

/// Collects rows into columns.
pub struct Conformer<'c> {
    columns: Vec<(&'c Column, Values)>,
    schema: SchemaRef,
    rows: usize,
    misfits: Vec<Misfit>,
}

/// A row that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Its place in the batch.
    pub row: usize,
    /// `required.<column>` and `type.<column>`, in the order of the columns.
    pub rules: Vec<String>,
}

/// Every row that was pushed: a value that does not fit is null here, and its row is a misfit.
pub struct Conformed {
    /// The contract's columns, all nullable.
    pub rows: RecordBatch,
    /// In row order.
    pub misfits: Vec<Misfit>,
}

/// A column's values so far.
enum Values {
    String(StringBuilder),
    Integer(Int64Builder),
    Number(Float64Builder),
    Decimal(Decimal128Builder, u8, u8),
    Boolean(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Date(Date32Builder),
}

impl<'c> Conformer<'c> {
    /// An empty batch of the contract's rows.
    pub fn new(contract: &'c Contract) -> Self {
        let columns =
            contract.columns.iter().map(|column| (column, Values::new(column.logical_type))).collect();
        Self { columns, schema: contract.unjudged_row_schema(), rows: 0, misfits: Vec::new() }
    }

    /// Adds a row: one field for each column.
    pub fn push(&mut self, fields: &[Field<'_>]) {
        let mut rules = Vec::new();
        for ((column, values), field) in self.columns.iter_mut().zip(fields) {
            if *field == Field::Missing {
                values.append_null();
                if column.required {
                    rules.push(format!("required.{}", column.name));
                }
            } else if !values.append(column, *field) {
                values.append_null();
                rules.push(format!("type.{}", column.name));
            }
        }
        if !rules.is_empty() {
            self.misfits.push(Misfit { row: self.rows, rules });
        }
        self.rows += 1;
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The batch.
    pub fn finish(self) -> Result<Conformed, ArrowError> {
        let columns = self.columns.into_iter().map(|(_, values)| values.finish()).collect();
        Ok(Conformed { rows: RecordBatch::try_new(self.schema, columns)?, misfits: self.misfits })
    }
}

impl Values {
    fn new(logical_type: LogicalType) -> Self {
        match logical_type {
            LogicalType::String => Self::String(StringBuilder::new()),
            LogicalType::Integer => Self::Integer(Int64Builder::new()),
            LogicalType::Number => Self::Number(Float64Builder::new()),
            LogicalType::Decimal { precision, scale } => {
                let builder = Decimal128Builder::new().with_data_type(logical_type.arrow());
                Self::Decimal(builder, precision, scale)
            }
            LogicalType::Boolean => Self::Boolean(BooleanBuilder::new()),
            LogicalType::Timestamp => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(logical_type.arrow()))
            }
            LogicalType::Date => Self::Date(Date32Builder::new()),
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::String(values) => values.append_null(),
            Self::Integer(values) => values.append_null(),
            Self::Number(values) => values.append_null(),
            Self::Decimal(values, ..) => values.append_null(),
            Self::Boolean(values) => values.append_null(),
            Self::Timestamp(values) => values.append_null(),
            Self::Date(values) => values.append_null(),
        }
    }

    /// Appends the value if it fits, and says whether it did.
    fn append(&mut self, column: &Column, field: Field<'_>) -> bool {
        let appended = match self {
            Self::String(values) => string(column, field).map(|text| values.append_value(text)),
            Self::Integer(values) => integer(field).map(|number| values.append_value(number)),
            Self::Number(values) => number(field).map(|number| values.append_value(number)),
            Self::Decimal(values, precision, scale) => number_text(field)
                .and_then(|text| decimal::parse(text, *precision, *scale))
                .map(|number| values.append_value(number)),
            Self::Boolean(values) => boolean(field).map(|value| values.append_value(value)),
            Self::Timestamp(values) => timestamp(column, field).map(|us| values.append_value(us)),
            Self::Date(values) => {
                text(field).and_then(|text| time::days(&text)).map(|day| values.append_value(day))
            }
        };
        appended.is_some()
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::String(mut values) => Arc::new(values.finish()),
            Self::Integer(mut values) => Arc::new(values.finish()),
            Self::Number(mut values) => Arc::new(values.finish()),
            Self::Decimal(mut values, ..) => Arc::new(values.finish()),
            Self::Boolean(mut values) => Arc::new(values.finish()),
            Self::Timestamp(mut values) => Arc::new(values.finish()),
            Self::Date(mut values) => Arc::new(values.finish()),
        }
    }
}

/// The field's text: a JSON string's content, or a CSV field.
fn text(field: Field<'_>) -> Option<Cow<'_, str>> {
    match field {
        Field::Text(text) => Some(Cow::Borrowed(text)),
        Field::Json(json) => {
            let inside = json.strip_prefix('"')?.strip_suffix('"')?;
            if inside.contains('\\') {
                serde_json::from_str(json).ok().map(Cow::Owned)
            } else {
                Some(inside.into())
            }
        }
        _ => None,
    }
}

/// The text of a JSON number, or of a CSV field that is written like one.
fn number_text(field: Field<'_>) -> Option<&str> {
    match field {
        // The text is JSON, so what starts like a number is one.
        Field::Json(json) if json.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => Some(json),
        Field::Text(text) if decimal::is_number(text) => Some(text),
        _ => None,
    }
}

fn string<'a>(column: &Column, field: Field<'a>) -> Option<Cow<'a, str>> {
    let text = text(field)?;
    match &column.pattern {
        Some(pattern) if !pattern.is_match(&text) => None,
        _ => Some(text),
    }
}

fn integer(field: Field<'_>) -> Option<i64> {
    match field {
        Field::Integer(number) => Some(number),
        // A fraction or an exponent does not parse: it is not a whole number, even if it has no rest.
        _ => number_text(field)?.parse().ok(),
    }
}

fn number(field: Field<'_>) -> Option<f64> {
    match field {
        // A frame carries what the sensor gave; what NaN means is a check's question.
        Field::Number(number) => Some(number),
        _ => number_text(field)?.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

fn boolean(field: Field<'_>) -> Option<bool> {
    match field {
        Field::Json("true") | Field::Text("true") => Some(true),
        Field::Json("false") | Field::Text("false") => Some(false),
        _ => None,
    }
}

fn timestamp(column: &Column, field: Field<'_>) -> Option<i64> {
    if column.epoch_ms
        && let Some(ms) = integer(field)
    {
        return time::from_epoch_ms(ms);
    }
    time::micros(&text(field)?)
}
