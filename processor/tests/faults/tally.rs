//! What came out of many trials: one line of the table for each fault.

use std::collections::BTreeMap;

use crate::lake::{Rows, difference};

/// The tables in which a row of bronze must be, once.
const KEPT: [&str; 3] = ["silver.", "versions.", "discard"];

/// Trials by fault.
#[derive(Default)]
pub struct Tally(BTreeMap<String, Line>);

#[derive(Default)]
struct Line {
    trials: usize,
    rows: usize,
    lost: usize,
    duplicated: usize,
    other: usize,
}

impl Tally {
    /// Counts a trial; the first differences are shown.
    pub fn count(&mut self, fault: &str, trial: &str, expected: &Rows, found: &Rows) {
        let (missing, surplus) = difference(expected, found);
        missing.iter().take(3).for_each(|row| println!("{fault}, {trial}: missing {row}"));
        surplus.iter().take(3).for_each(|row| println!("{fault}, {trial}: surplus {row}"));
        let is_kept = |question: &str| KEPT.iter().any(|table| question.contains(&format!("FROM {table}")));
        let kept = |rows: &[String]| rows.iter().filter(|row| is_kept(row)).count();
        let line = self.0.entry(fault.to_owned()).or_default();
        line.trials += 1;
        line.rows +=
            expected.iter().filter(|(table, _)| is_kept(table)).map(|(_, rows)| rows.len()).sum::<usize>();
        line.lost += kept(&missing);
        line.duplicated += kept(&surplus);
        line.other += missing.len() + surplus.len() - kept(&missing) - kept(&surplus);
    }

    /// Prints the table, and fails if anything is not as it was.
    pub fn done(self) {
        println!("| fault | trials | rows | lost | duplicated | other differences |");
        for (fault, Line { trials, rows, lost, duplicated, other }) in &self.0 {
            println!("| {fault} | {trials} | {rows} | {lost} | {duplicated} | {other} |");
        }
        assert!(!self.0.is_empty());
        assert!(self.0.values().all(|line| line.lost + line.duplicated + line.other == 0));
    }
}
