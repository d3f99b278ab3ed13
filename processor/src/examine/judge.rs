//! From misfits and verdicts to each row's fate.

use std::collections::BTreeMap;

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::buffer::{BooleanBuffer, MutableBuffer};
use datafusion::arrow::util::bit_util;

use crate::check::Verdicts;
use crate::conform::Misfit;
use crate::contract::{Contract, Severity};

/// What became of a batch's rows.
pub(super) struct Judged {
    /// Per row.
    pub accepted: BooleanArray,
    /// The other rows, in order, with every rule that each failed.
    pub discarded: Vec<(usize, Vec<String>)>,
    /// Accepted rows by check of severity `warn`.
    pub warnings: BTreeMap<String, u64>,
}

/// A check of severity `fail` found bad rows.
pub(super) struct Stop {
    pub check: String,
    pub rows: usize,
}

/// A row that does not fit its types is discarded for that alone: a check would see NULL where the row
/// has something. Any other row is discarded by the checks that it fails, in the contract's order.
pub(super) fn judge(
    contract: &Contract,
    rows: usize,
    misfits: Vec<Misfit>,
    verdicts: &Verdicts,
) -> Result<Judged, Stop> {
    let fitting = fitting(rows, &misfits);
    let checks: Vec<(&str, Severity, BooleanBuffer)> = contract
        .checks
        .iter()
        .zip(&verdicts.0)
        .map(|(check, bad)| (check.id.as_str(), check.severity, bad.values() & &fitting))
        .collect();

    let mut accepted = fitting.clone();
    let mut quarantined = false;
    for (check, severity, bad) in &checks {
        let rows = bad.count_set_bits();
        match severity {
            Severity::Fail if rows > 0 => {
                return Err(Stop { check: (*check).into(), rows });
            }
            Severity::Fail | Severity::Warn => {}
            Severity::Discard => accepted = &accepted & &!bad,
            Severity::Quarantine => quarantined |= rows > 0,
        }
    }
    if quarantined {
        accepted = BooleanBuffer::new_unset(rows);
    }

    let mut misfits = misfits.into_iter().peekable();
    let mut discarded = Vec::with_capacity(rows - accepted.count_set_bits());
    for row in (!&accepted).set_indices() {
        let rules = match misfits.next_if(|misfit| misfit.row == row) {
            Some(misfit) => misfit.rules,
            None => failing(&checks, row),
        };
        discarded.push((row, rules));
    }
    let warnings = checks
        .iter()
        .filter(|(_, severity, _)| *severity == Severity::Warn)
        .map(|(check, _, bad)| ((*check).to_string(), (bad & &accepted).count_set_bits() as u64))
        .filter(|(_, rows)| *rows > 0)
        .collect();
    Ok(Judged { accepted: BooleanArray::new(accepted, None), discarded, warnings })
}

/// The rows without misfits.
fn fitting(rows: usize, misfits: &[Misfit]) -> BooleanBuffer {
    let mut bits = MutableBuffer::new_null(rows);
    for misfit in misfits {
        bit_util::set_bit(&mut bits, misfit.row);
    }
    !&BooleanBuffer::new(bits.into(), 0, rows)
}

/// The row's failing rules; a quarantine's rule stands for the rows that it takes along.
fn failing(checks: &[(&str, Severity, BooleanBuffer)], row: usize) -> Vec<String> {
    checks
        .iter()
        .filter(|(_, severity, bad)| match severity {
            Severity::Discard => bad.value(row),
            Severity::Quarantine => bad.count_set_bits() > 0,
            Severity::Warn | Severity::Fail => false,
        })
        .map(|(check, _, _)| (*check).to_string())
        .collect()
}
