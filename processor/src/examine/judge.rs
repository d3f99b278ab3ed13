//! From misfits and verdicts to each row's fate.

use std::collections::BTreeMap;

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::buffer::{BooleanBuffer, MutableBuffer};
use datafusion::arrow::util::bit_util;

use crate::check::Verdicts;
use crate::conform::Misfit;
use crate::contract::{Check, Contract, Severity};

/// What became of a batch's rows.
pub(super) struct Judged {
    /// Per row.
    pub accepted: BooleanArray,
    /// The other rows, in order, with every rule that each failed.
    pub discarded: Vec<(usize, Vec<String>)>,
    /// Accepted rows by check of severity `warn`.
    pub warnings: BTreeMap<String, u64>,
    /// What decides for the whole object.
    pub failing: Failing,
}

/// Rows that fail the checks whose severity concerns the whole object, by their place among the contract's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failing(BTreeMap<usize, u64>);

impl Failing {
    /// Adds what another part of the object has.
    pub fn add(&mut self, part: &Self) {
        for (check, rows) in &part.0 {
            *self.0.entry(*check).or_default() += rows;
        }
    }

    /// The check that decides for the whole object, and the rows that fail it. One that fails the run goes before one
    /// that sets the object aside.
    pub(super) fn decisive<'c>(&self, contract: &'c Contract) -> Option<(&'c Check, u64)> {
        let failing =
            || self.0.iter().filter_map(|(place, rows)| Some((contract.checks.get(*place)?, *rows)));
        let of = |severity| failing().find(|(check, _)| check.severity == severity);
        of(Severity::Fail).or_else(|| of(Severity::Quarantine))
    }
}

/// Whether the contract has checks whose severity concerns whole objects.
pub(crate) fn judges_objects(contract: &Contract) -> bool {
    contract.checks.iter().any(|check| matches!(check.severity, Severity::Fail | Severity::Quarantine))
}

/// A row that does not fit its types is discarded for that alone: a check would see NULL where the row
/// has something. Any other row is discarded by the checks that it fails, in the contract's order.
pub(super) fn judge(contract: &Contract, rows: usize, misfits: Vec<Misfit>, verdicts: &Verdicts) -> Judged {
    let fitting = fitting(rows, &misfits);
    let checks: Vec<(&str, Severity, BooleanBuffer)> = contract
        .checks
        .iter()
        .zip(&verdicts.0)
        .map(|(check, bad)| (check.id.as_str(), check.severity, bad.values() & &fitting))
        .collect();

    let whole = checks.iter().enumerate().filter_map(|(place, (_, severity, bad))| {
        let rows = bad.count_set_bits() as u64;
        (matches!(severity, Severity::Fail | Severity::Quarantine) && rows > 0).then_some((place, rows))
    });
    let failing = Failing(whole.collect());
    let mut accepted = fitting.clone();
    for (_, _, bad) in checks.iter().filter(|(_, severity, _)| *severity == Severity::Discard) {
        accepted = &accepted & &!bad;
    }

    let mut misfits = misfits.into_iter().peekable();
    let mut discarded = Vec::with_capacity(rows - accepted.count_set_bits());
    for row in (!&accepted).set_indices() {
        let rules = match misfits.next_if(|misfit| misfit.row == row) {
            Some(misfit) => misfit.rules,
            None => failed(&checks, row),
        };
        discarded.push((row, rules));
    }
    let warnings = checks
        .iter()
        .filter(|(_, severity, _)| *severity == Severity::Warn)
        .map(|(check, _, bad)| ((*check).to_string(), (bad & &accepted).count_set_bits() as u64))
        .filter(|(_, rows)| *rows > 0)
        .collect();
    Judged { accepted: BooleanArray::new(accepted, None), discarded, warnings, failing }
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
fn failed(checks: &[(&str, Severity, BooleanBuffer)], row: usize) -> Vec<String> {
    checks
        .iter()
        .filter(|(_, severity, bad)| *severity == Severity::Discard && bad.value(row))
        .map(|(check, _, _)| (*check).to_string())
        .collect()
}
