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

/// A check whose severity concerns the whole object found bad rows.
pub(super) struct Stop {
    pub check: String,
    pub severity: Severity,
    pub rows: usize,
}

/// A row that does not fit its types is discarded for that alone: a check would see NULL where the row
/// has something. Any other row is discarded by the checks that it fails, in the contract's order.
/// A check that fails the run goes before one that sets the object aside.
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

    for whole in [Severity::Fail, Severity::Quarantine] {
        for (check, severity, bad) in checks.iter().filter(|(_, severity, _)| *severity == whole) {
            let rows = bad.count_set_bits();
            if rows > 0 {
                return Err(Stop { check: (*check).into(), severity: *severity, rows });
            }
        }
    }
    let mut accepted = fitting.clone();
    for (_, _, bad) in checks.iter().filter(|(_, severity, _)| *severity == Severity::Discard) {
        accepted = &accepted & &!bad;
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

/// The row's failing rules.
fn failing(checks: &[(&str, Severity, BooleanBuffer)], row: usize) -> Vec<String> {
    checks
        .iter()
        .filter(|(_, severity, bad)| *severity == Severity::Discard && bad.value(row))
        .map(|(check, _, _)| (*check).to_string())
        .collect()
}
