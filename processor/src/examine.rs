//! The middle of the road, as a table of contents: an object's bytes become accepted rows and discard
//! rows. `decode` gives rows, `conform` types them, `check` judges them, `redact` takes personal data out.
//!
//! Pure: bytes and time are arguments. Nothing is lost: every row is accepted or discarded, with every
//! rule that it failed. Duplicates are not looked for here; silver knows what it has. An object is examined part by
//! part ([`crate::reading`]); a check that concerns the whole object is asked when all parts are.

mod judge;
mod record;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;

use crate::bronze::BronzeKey;
use crate::check::{CheckError, Checker};
use crate::conform::{Conformed, Conformer};
use crate::contract::{Contract, Severity};
use crate::decode::{Fault, FrameHeader, Limits, Part, Parts, Span, Taken};

pub use judge::Failing;
use judge::judge;
pub(crate) use judge::judges_objects;
use record::Records;

/// Column of [`Examined::accepted`] with each row's place in its object.
pub const ORDINAL: &str = "ordinal";

/// An object that is examined in memory, as one part: 512 MiB, and as many rows as one column of names can hold.
pub const WHOLE: Limits = Limits { bytes_max: 512 * 1024 * 1024, rows_max: 16_000_000 };

/// What an object, or a part of it, holds.
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
    /// Rows that decide for the whole object.
    pub failing: Failing,
}

impl Examined {
    /// An object without rows.
    pub(crate) fn nothing(contract: &Contract) -> Self {
        Self {
            accepted: RecordBatch::new_empty(accepted_schema(contract)),
            discards: Vec::new(),
            rows_in: 0,
            warnings: BTreeMap::new(),
            unknown_fields: BTreeMap::new(),
            frames: Vec::new(),
            failing: Failing::default(),
        }
    }
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
    /// First byte in the unpacked object.
    pub byte_offset: i64,
    /// Bytes there; for a reading, those of its frame.
    pub byte_len: i64,
}

/// An object that gives no rows; the others go on.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// It does not fit into memory.
    #[error("{key} has more than {} bytes or {} rows, and is examined in memory; split it", WHOLE.bytes_max, WHOLE.rows_max)]
    TooLarge {
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
        rows: u64,
    },
    /// A check of severity `quarantine` found bad rows.
    #[error("{key}: {rows} of {rows_in} row(s) fail the check {check}, whose severity is quarantine")]
    Quarantined {
        /// The object.
        key: String,
        /// The check.
        check: String,
        /// Rows that fail it.
        rows: u64,
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

/// Decodes, types, checks and redacts an object that is in memory. `now_ms`: milliseconds since 1970-01-01 UTC.
pub fn examine(
    checker: &Checker,
    key: &BronzeKey,
    bytes: Bytes,
    now_ms: i64,
) -> Result<Examined, ExamineError> {
    let mut parts = Parts::open(key, bytes, WHOLE);
    parts.fill();
    let (examined, taken) = examine_part(checker, &key.key, &parts.part(), now_ms)?;
    if !taken.last {
        return Err(ExamineError::TooLarge { key: key.key.clone() });
    }
    examined.failing.verdict(checker.contract(), &key.key, examined.rows_in, &examined.frames)?;
    Ok(examined)
}

/// Decodes, types, checks and redacts a part of the object that `key` names.
pub(crate) fn examine_part(
    checker: &Checker,
    key: &str,
    part: &Part<'_>,
    now_ms: i64,
) -> Result<(Examined, Taken), ExamineError> {
    let batch_error = |source| ExamineError::Batch { key: key.to_owned(), source };
    let contract = checker.contract();

    let mut conformer = Conformer::new(contract);
    let mut spans: Vec<Span> = Vec::new();
    let mut faults: Vec<(Span, Fault)> = Vec::new();
    let mut recall = checker.forgotten().recall(contract);
    let mut taken = part.rows(contract, |span, row| match row {
        row if recall.is_gone(part.format(), part.slice(span), &row) => faults.push((span, Fault::Forgotten)),
        Ok(fields) => {
            conformer.push(fields);
            spans.push(span);
        }
        Err(fault) => faults.push((span, fault)),
    });
    let Conformed { rows, misfits } = conformer.finish().map_err(batch_error)?;

    let verdicts = checker
        .verdicts(&rows, now_ms)
        .map_err(|source| ExamineError::Check { key: key.to_owned(), source })?;
    let judged = judge(contract, rows.num_rows(), misfits, &verdicts);

    let records = Records::new(checker, part, &rows);
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
    for (name, rows) in std::mem::take(&mut taken.unknown.0) {
        *unknown_fields.entry(checker.redactor().field_name(&name)).or_default() += rows;
    }
    let examined = Examined {
        accepted,
        discards,
        rows_in: taken.rows as u64,
        warnings: judged.warnings,
        unknown_fields,
        frames: std::mem::take(&mut taken.frames),
        failing: judged.failing,
    };
    Ok((examined, taken))
}

impl Failing {
    /// Whether the object passes, of which these are all the rows that decide for it.
    pub(crate) fn verdict(
        &self,
        contract: &Contract,
        key: &str,
        rows_in: u64,
        frames: &[FrameHeader],
    ) -> Result<(), ExamineError> {
        let Some((check, rows)) = self.decisive(contract) else { return Ok(()) };
        let (key, check_id) = (key.to_owned(), check.id.clone());
        Err(if check.severity == Severity::Quarantine {
            ExamineError::Quarantined { key, check: check_id, rows, rows_in, frames: frames.to_vec() }
        } else {
            ExamineError::Failed { key, check: check_id, rows }
        })
    }
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
    let nullable = Schema::new([rows.schema().fields(), &[ordinal][..]].concat());
    let rows = RecordBatch::try_new(Arc::new(nullable), [rows.columns(), &[ordinals]].concat())?;
    let rows = filter_record_batch(&rows, accepted)?;
    RecordBatch::try_new(accepted_schema(contract), rows.columns().to_vec())
}

fn accepted_schema(contract: &Contract) -> SchemaRef {
    let ordinal: FieldRef = Arc::new(Field::new(ORDINAL, DataType::Int64, false));
    Arc::new(Schema::new([contract.row_schema().fields(), &[ordinal][..]].concat()))
}

#[cfg(test)]
mod tests;
