//! A discarded row's record: what stood in the object, redacted.

use std::borrow::Cow;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::util::display::array_value_to_string;
use serde_json::Value;

use crate::bronze::Format;
use crate::check::Checker;
use crate::conform::decimal::is_number;
use crate::contract::LogicalType;
use crate::decode::{Fault, Part, Span};

/// The records of one part of an object.
pub(super) struct Records<'a> {
    checker: &'a Checker,
    part: &'a Part<'a>,
    format: Format,
    rows: &'a RecordBatch,
    csv_header: Vec<String>,
}

impl<'a> Records<'a> {
    pub(super) fn new(checker: &'a Checker, part: &'a Part<'a>, rows: &'a RecordBatch) -> Self {
        let format = part.format();
        let csv_header = match format {
            Format::Csv => part.csv_header(),
            Format::Frames | Format::Ndjson => Vec::new(),
        };
        Self { checker, part, format, rows, csv_header }
    }

    /// The record of a row that had fields; `row` is its place in the batch.
    pub(super) fn whole(&self, span: Span, row: usize) -> String {
        let redactor = self.checker.redactor();
        let bytes = self.part.slice(span);
        match self.format {
            Format::Frames => {
                let schema = self.rows.schema();
                let names = schema.fields().iter().enumerate();
                redactor
                    .record(names.map(|(place, field)| (field.name().as_str(), self.typed_value(place, row))))
            }
            Format::Ndjson => match std::str::from_utf8(bytes) {
                Ok(text) => redactor.json_record(text),
                Err(_) => redactor.broken_record(bytes),
            },
            Format::Csv if !self.knows_csv_columns() && redactor.hides_any() => {
                "its columns have no known names; its values are not kept".to_owned()
            }
            Format::Csv => {
                let fields = Part::csv_fields(bytes);
                let named = self.csv_header.iter().zip(&fields);
                redactor.record(named.map(|(name, field)| (name.as_str(), self.csv_value(name, field))))
            }
        }
    }

    /// The record of a row that had none.
    pub(super) fn broken(&self, span: Span, fault: &Fault) -> String {
        let redactor = self.checker.redactor();
        let bytes = self.part.slice(span);
        match (self.format, fault) {
            (_, Fault::Frame { .. } | Fault::FrameTooLarge { .. } | Fault::Forgotten) => fault.to_string(),
            // Without its columns' names nothing tells a person's name from a product's.
            (Format::Csv, _) if redactor.hides_any() => format!("{fault}; its values are not kept"),
            (_, Fault::Packing(problem)) if self.format == Format::Frames => problem.to_string(),
            (_, Fault::Packing(problem)) => match redactor.broken_record(bytes) {
                rest if rest.is_empty() => problem.to_string(),
                rest => format!("{problem}: {rest}"),
            },
            (Format::Ndjson, Fault::DuplicateKey) => match std::str::from_utf8(bytes) {
                Ok(text) => redactor.json_record(text),
                Err(_) => redactor.broken_record(bytes),
            },
            (Format::Csv, Fault::RaggedRow { .. } | Fault::DuplicateKey | Fault::NotUtf8) => {
                redactor.ragged_record(Part::csv_fields(bytes).iter().map(String::as_str))
            }
            _ => redactor.broken_record(bytes),
        }
    }

    fn knows_csv_columns(&self) -> bool {
        let contract = self.checker.contract();
        self.csv_header.iter().any(|name| contract.column_index(name).is_some())
    }

    /// A value of the batch as JSON; what JSON has no number for, NaN above all, is text.
    fn typed_value(&self, place: usize, row: usize) -> Cow<'static, str> {
        let values = self.rows.column(place);
        let number = match values.data_type() {
            DataType::Int64 => true,
            DataType::Float64 => values.as_primitive::<Float64Type>().value(row).is_finite(),
            _ => false,
        };
        match array_value_to_string(values, row) {
            Ok(text) if number && values.is_valid(row) => Cow::Owned(text),
            Ok(text) if values.is_valid(row) => Cow::Owned(Value::from(text).to_string()),
            _ => Cow::Borrowed("null"),
        }
    }

    /// A CSV field as JSON: a number where its column holds numbers, else text; empty is null.
    fn csv_value<'f>(&self, name: &str, field: &'f str) -> Cow<'f, str> {
        let columns = &self.checker.contract().columns;
        let holds_text =
            columns.iter().all(|column| column.name != name || column.logical_type == LogicalType::String);
        match field {
            "" => Cow::Borrowed("null"),
            number if !holds_text && is_number(number) => Cow::Borrowed(number),
            text => Cow::Owned(Value::from(text).to_string()),
        }
    }
}
