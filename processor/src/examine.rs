//! The middle of the road, as a table of contents: an object's bytes become accepted rows and discard
//! rows. `decode` gives rows, `conform` types them, `check` judges them, `redact` takes personal data out.
//!
//! Pure: bytes and time are arguments. Nothing is lost: every row is accepted or discarded, with every
//! rule that it failed. Duplicates are not looked for here; silver knows what it has.

mod judge;
mod record;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::arrow::error::ArrowError;

use crate::bronze::BronzeKey;
use crate::check::{CheckError, Checker};
use crate::conform::{Conformed, Conformer};
use crate::contract::{Contract, Severity};
use crate::decode::{Aside, Fault, FrameHeader, OBJECT_BYTES_MAX, Object, Span};

use judge::{Stop, judge};
use record::Records;

/// Column of [`Examined::accepted`] with each row's place in its object.
pub const ORDINAL: &str = "ordinal";

/// Most rows of one object: with names of 64 bytes, what one column of text can hold.
pub const ROWS_MAX: usize = 16_000_000;

/// What an object holds.
#[derive(Debug)]
pub struct Examined {
    /// The contract's columns, redacted, and [`ORDINAL`]; in the order of the object.
    pub accepted: RecordBatch,
    /// In the order of the object.
    pub discards: Vec<DiscardRow>,
    /// Rows in the object: accepted and discarded ones.
    pub rows_in: u64,
    /// Accepted rows that failed a check of severity `warn`, by check.
    pub warnings: BTreeMap<String, u64>,
    /// Rows with a field that the contract does not know, by the field's name.
    pub unknown_fields: BTreeMap<String, u64>,
    /// The headers of the sound frames, in the order of the object.
    pub frames: Vec<FrameHeader>,
}

/// A row that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscardRow {
    /// Its place in the object, from 0.
    pub ordinal: i64,
    /// Every rule that it failed; the first one names its reason.
    pub rules: Vec<String>,
    /// What it was, after redaction, at most [`crate::redact::RECORD_BYTES_MAX`] bytes.
    pub record: String,
    /// First byte in the decompressed object.
    pub byte_offset: i64,
    /// Bytes there; for a reading, those of its frame.
    pub byte_len: i64,
}

/// An object that gives no rows; the others go on.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// It does not fit into memory.
    #[error("{key} has {bytes} bytes, at most {OBJECT_BYTES_MAX} are examined; split it")]
    TooLarge {
        /// The object.
        key: String,
        /// Its size.
        bytes: usize,
    },
    /// It has more rows than a batch may have.
    #[error("{key} has more than {ROWS_MAX} rows; split it")]
    TooManyRows {
        /// The object.
        key: String,
    },
    /// A check of severity `fail` found bad rows.
    #[error("{key}: {rows} row(s) fail the check {check}, whose severity is fail")]
    Failed {
        /// The object.
        key: String,
        /// The check.
        check: String,
        /// Rows that fail it.
        rows: usize,
    },
    /// A check of severity `quarantine` found bad rows.
    #[error("{key}: {rows} of {rows_in} row(s) fail the check {check}, whose severity is quarantine")]
    Quarantined {
        /// The object.
        key: String,
        /// The check.
        check: String,
        /// Rows that fail it.
        rows: usize,
        /// Rows in the object.
        rows_in: u64,
        /// The headers of its sound frames.
        frames: Vec<FrameHeader>,
    },
    /// A check could not be evaluated.
    #[error("{key}: {source}")]
    Check {
        /// The object.
        key: String,
        /// Why.
        source: CheckError,
    },
    /// The columns do not make a batch.
    #[error("{key}: {source}")]
    Batch {
        /// The object.
        key: String,
        /// Why.
        source: ArrowError,
    },
}

/// Decodes, types, checks and redacts one object. `now_ms`: milliseconds since 1970-01-01 UTC.
pub fn examine(
    checker: &Checker,
    key: &BronzeKey,
    bytes: Bytes,
    now_ms: i64,
) -> Result<Examined, ExamineError> {
    if bytes.len() > OBJECT_BYTES_MAX {
        return Err(ExamineError::TooLarge { key: key.key.clone(), bytes: bytes.len() });
    }
    let batch_error = |source| ExamineError::Batch { key: key.key.clone(), source };
    let contract = checker.contract();

    let object = Object::open(key, bytes);
    if object.is_too_large() {
        return Err(ExamineError::TooLarge {
            key: key.key.clone(),
            bytes: OBJECT_BYTES_MAX.saturating_add(1),
        });
    }
    let mut conformer = Conformer::new(contract);
    let mut spans: Vec<Span> = Vec::new();
    let mut faults: Vec<(Span, Fault)> = Vec::new();
    let mut rows_over = false;
    let mut recall = checker.forgotten().recall(contract);
    let Aside { frames, unknown } = object.rows(key.format, contract, |span, row| match row {
        _ if spans.len() + faults.len() == ROWS_MAX => rows_over = true,
        row if recall.is_gone(key.format, object.slice(span), &row) => faults.push((span, Fault::Forgotten)),
        Ok(fields) => {
            conformer.push(fields);
            spans.push(span);
        }
        Err(fault) => faults.push((span, fault)),
    });
    if rows_over {
        return Err(ExamineError::TooManyRows { key: key.key.clone() });
    }
    let Conformed { rows, misfits } = conformer.finish().map_err(batch_error)?;

    let verdicts = checker
        .verdicts(&rows, now_ms)
        .map_err(|source| ExamineError::Check { key: key.key.clone(), source })?;
    let rows_in = (spans.len() + faults.len()) as u64;
    let judged = match judge(contract, rows.num_rows(), misfits, &verdicts) {
        Ok(judged) => judged,
        Err(Stop { check, severity: Severity::Quarantine, rows }) => {
            return Err(ExamineError::Quarantined { key: key.key.clone(), check, rows, rows_in, frames });
        }
        Err(Stop { check, rows, .. }) => {
            return Err(ExamineError::Failed { key: key.key.clone(), check, rows });
        }
    };

    let records = Records::new(checker, &object, key.format, &rows);
    let broken = faults.into_iter().map(|(span, fault)| {
        let record = records.broken(span, &fault);
        discard(span, vec![fault.rule().into()], record)
    });
    let bad = judged.discarded.into_iter().map(|(row, rules)| {
        let span = spans[row];
        discard(span, rules, records.whole(span, row))
    });
    let mut discards: Vec<DiscardRow> = broken.chain(bad).collect();
    discards.sort_by_key(|row| row.ordinal);

    let rows = accepted(contract, &rows, &spans, &judged.accepted).map_err(batch_error)?;
    let accepted = checker.redactor().rows(&rows).map_err(batch_error)?;
    let mut unknown_fields = BTreeMap::new();
    for (name, rows) in unknown.0 {
        *unknown_fields.entry(checker.redactor().field_name(&name)).or_default() += rows;
    }
    Ok(Examined { accepted, discards, rows_in, warnings: judged.warnings, unknown_fields, frames })
}

fn discard(span: Span, rules: Vec<String>, record: String) -> DiscardRow {
    DiscardRow {
        ordinal: span.ordinal,
        rules,
        record,
        byte_offset: span.offset as i64,
        byte_len: span.len as i64,
    }
}

/// The accepted rows with their places, under the contract's schema.
fn accepted(
    contract: &Contract,
    rows: &RecordBatch,
    spans: &[Span],
    accepted: &BooleanArray,
) -> Result<RecordBatch, ArrowError> {
    let ordinals: ArrayRef = Arc::new(spans.iter().map(|span| span.ordinal).collect::<Int64Array>());
    let ordinal: FieldRef = Arc::new(Field::new(ORDINAL, DataType::Int64, false));
    let nullable = Schema::new([rows.schema().fields(), &[ordinal.clone()][..]].concat());
    let rows = RecordBatch::try_new(Arc::new(nullable), [rows.columns(), &[ordinals]].concat())?;
    let rows = filter_record_batch(&rows, accepted)?;
    let schema = Schema::new([contract.row_schema().fields(), &[ordinal][..]].concat());
    RecordBatch::try_new(Arc::new(schema), rows.columns().to_vec())
}

#[cfg(test)]
mod tests;
