//! An object as the contract judges it now, as far as the rule discarded rows of it.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::{AsArray, BooleanArray};
use datafusion::arrow::compute::{concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;

use crate::check::Checker;
use crate::examine::{DiscardRow, Examined, ORDINAL};
use crate::lake::Lake;
use crate::promote::{Candidate, ObjectError};
use crate::reading::Reading;

/// Most rows of an object that are judged again: they are in memory together.
pub const ROWS_MAX: usize = 1_000_000;

/// An object as it is judged now: of its rows those at the places on the work list.
pub(super) struct Judged {
    pub accepted: RecordBatch,
    pub discards: Vec<DiscardRow>,
    pub rows_in: u64,
    pub warnings: BTreeMap<String, u64>,
}

impl Judged {
    /// Reads and judges the object, part by part.
    pub(super) async fn of(
        lake: &Lake,
        checker: &Checker,
        candidate: &Candidate,
        ordinals: &BTreeSet<i64>,
    ) -> Result<Self, JudgeError> {
        if ordinals.len() > ROWS_MAX {
            return Err(JudgeError::TooMany { rows: ordinals.len() });
        }
        let mut accepted = vec![Examined::nothing(checker.contract()).accepted];
        let mut judged = Self {
            accepted: accepted[0].clone(),
            discards: Vec::new(),
            rows_in: 0,
            warnings: BTreeMap::new(),
        };
        let mut reading =
            Reading::open(lake, &candidate.object, &candidate.key).await.map_err(ObjectError::from)?;
        while let Some(part) = reading.next(checker).await? {
            accepted.push(at(&part.accepted, ordinals)?);
            judged.discards.extend(part.discards.into_iter().filter(|row| ordinals.contains(&row.ordinal)));
            judged.rows_in += part.rows_in;
            for (check, rows) in part.warnings {
                *judged.warnings.entry(check).or_default() += rows;
            }
        }
        reading.verdict(checker).map_err(ObjectError::from)?;
        judged.accepted = concat_batches(&judged.accepted.schema(), &accepted)?;
        Ok(judged)
    }
}

/// An object could not be judged again.
#[derive(Debug, thiserror::Error)]
pub(super) enum JudgeError {
    #[error(
        "the rule discarded {rows} of its rows, at most {ROWS_MAX} of an object are redriven; run `rebuild`"
    )]
    TooMany { rows: usize },
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("putting rows together: {0}")]
    Rows(#[from] ArrowError),
}

/// The rows at the given places of the object.
pub(super) fn at(rows: &RecordBatch, ordinals: &BTreeSet<i64>) -> Result<RecordBatch, ArrowError> {
    let column = rows
        .column_by_name(ORDINAL)
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| ArrowError::SchemaError(format!("{ORDINAL} is not an Int64")))?;
    let wanted: BooleanArray =
        column.values().iter().map(|ordinal| Some(ordinals.contains(ordinal))).collect();
    filter_record_batch(rows, &wanted)
}
