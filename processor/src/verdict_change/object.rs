//! One object under both versions of a contract, part by part.

use std::collections::BTreeMap;

use super::{Change, Changes, VerdictChange, count};
use crate::bronze::BronzeKey;
use crate::check::Checker;
use crate::examine::DiscardRow;
use crate::lake::{BronzeObject, Lake};
use crate::reading::{ObjectError, Reading};

/// The rows that one version discards of an object, as far as they are not compared yet.
struct Version<'a> {
    reading: Reading<'a>,
    discards: BTreeMap<i64, DiscardRow>,
    /// Rows that are judged.
    judged: i64,
    warnings: BTreeMap<String, u64>,
}

impl Version<'_> {
    /// Judges the next part; `false` if there is none.
    async fn next(&mut self, checker: &Checker) -> Result<bool, ObjectError> {
        let Some(part) = self.reading.next(checker).await? else {
            self.reading.verdict(checker)?;
            return Ok(false);
        };
        self.judged += part.rows_in as i64;
        self.discards.extend(part.discards.into_iter().map(|row| (row.ordinal, row)));
        for (check, rows) in part.warnings {
            *self.warnings.entry(check).or_default() += rows;
        }
        Ok(true)
    }

    /// Takes the discards of rows before `place` out.
    fn before(&mut self, place: i64) -> BTreeMap<i64, DiscardRow> {
        let rest = self.discards.split_off(&place);
        std::mem::replace(&mut self.discards, rest)
    }
}

/// Judges an object by both versions, part by part: the two need not cut it in the same places.
pub(super) async fn judge(
    lake: &Lake,
    checkers: &[Checker; 2],
    object: &BronzeObject,
    key: &BronzeKey,
    examples_max: usize,
    found: &mut VerdictChange,
    changes: &mut Changes,
) {
    let mut versions = Vec::with_capacity(2);
    for _ in checkers {
        match Reading::open(lake, object, key).await {
            Ok(reading) => {
                let (discards, warnings) = (BTreeMap::new(), BTreeMap::new());
                versions.push(Version { reading, discards, judged: 0, warnings });
            }
            Err(error) => return found.fail(object, error.to_string()),
        }
    }
    let mut of_object = Changes::new();
    let mut failures = [None, None];
    let mut more = [true, true];
    while more.contains(&true) {
        // The one that is behind goes on.
        let behind = usize::from(!more[0] || more[1] && versions[1].judged < versions[0].judged);
        more[behind] = match versions[behind].next(&checkers[behind]).await {
            Ok(more) => more,
            Err(error) => {
                failures[behind] = Some(error);
                false
            }
        };
        let judged = |version: usize| if more[version] { versions[version].judged } else { i64::MAX };
        let place = judged(0).min(judged(1));
        let rows = [0, 1].map(|version| versions[version].before(place));
        count(checkers, object, &rows, examples_max, &mut of_object);
    }
    if failures.iter().any(Option::is_some) {
        let [was, is] = failures;
        return found.fail(object, failed(was, is));
    }
    found.rows += versions[1].judged.unsigned_abs();
    for (version, judged) in versions.into_iter().enumerate() {
        for (check, rows) in judged.warnings {
            found.warnings.entry(check).or_default()[version] += rows;
        }
    }
    for (verdicts, change) in of_object {
        let into = changes.entry(verdicts).or_insert_with(|| Change::new(&change.old, &change.new));
        into.rows += change.rows;
        into.examples.extend(change.examples);
        into.examples.truncate(examples_max);
    }
}

fn failed(was: Option<ObjectError>, is: Option<ObjectError>) -> String {
    match (was, is) {
        (Some(was), Some(is)) => format!("by both: {was}; {is}"),
        (Some(was), None) => format!("by the old version alone: {was}"),
        (None, is) => {
            format!("by the new version alone: {}", is.map(|is| is.to_string()).unwrap_or_default())
        }
    }
}
