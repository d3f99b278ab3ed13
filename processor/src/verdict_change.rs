//! `contract diff`: which rows of bronze another version of a contract would judge otherwise.
//!
//! Reads, judges and counts, writes nothing. Memory holds a part of one object for each version, and what is shown of the changes. Both versions judge an object at its own
//! time. Keys that silver already has are not looked for: a duplicate is one under both.

mod object;
mod schema;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bronze::BronzeKey;
use crate::check::{CheckError, Checker};
use crate::contract::Contract;
use crate::examine::DiscardRow;
use crate::lake::{BronzeObject, Lake, LakeError};

use object::judge;
pub use schema::changes as schema_changes;

/// Rows shown for each change of verdict, unless more are asked for.
pub const EXAMPLES_MAX: usize = 3;
/// Objects that are named where one version fails them; the rest is counted.
const FAILED_NAMED_MAX: usize = 20;
/// What stands for no rule.
pub const ACCEPTED: &str = "accept";

/// Which objects are judged.
#[derive(Clone, Debug)]
pub struct Which {
    /// Only keys that begin so.
    pub prefix: String,
    /// Only the newest so many.
    pub last: Option<usize>,
    /// Rows shown for each change of verdict; they are held in memory.
    pub examples_max: usize,
}

/// What another version would change.
#[derive(Debug, Default, Serialize)]
pub struct VerdictChange {
    /// The contract.
    pub dataset: String,
    /// What differs between the contracts themselves.
    pub schema: Vec<String>,
    /// Objects judged.
    pub objects: u64,
    /// Rows in them.
    pub rows: u64,
    /// Rows whose verdict changes.
    pub changed: u64,
    /// By the old and the new verdict.
    pub changes: Vec<Change>,
    /// Accepted rows that fail a check of severity `warn`: by check, under the old and the new version.
    pub warnings: BTreeMap<String, [u64; 2]>,
    /// Objects that a version could not examine.
    pub failed: u64,
    /// Some of them, with the reason.
    pub failed_keys: BTreeMap<String, String>,
}

/// Rows that go from one verdict to another.
#[derive(Debug, Serialize)]
pub struct Change {
    /// The first rule that they failed, or `accept`.
    pub old: String,
    /// The first rule that they would fail, or `accept`.
    pub new: String,
    /// How many.
    pub rows: u64,
    /// Some of them.
    pub examples: Vec<Row>,
}

/// A row in bronze.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its object.
    pub key: String,
    /// Its place there, from 0.
    pub ordinal: i64,
    /// What it is, after redaction by both versions.
    pub record: String,
}

/// The comparison stopped.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// They are contracts of two datasets.
    #[error("the old contract is of {old}, the new one of {new}; compare versions of one dataset")]
    Datasets {
        /// The old one's.
        old: String,
        /// The new one's.
        new: String,
    },
    /// A version's checks do not run.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Bronze could not be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

impl Change {
    fn new(old: &str, new: &str) -> Self {
        Self { old: old.to_owned(), new: new.to_owned(), rows: 0, examples: Vec::new() }
    }
}

impl VerdictChange {
    fn fail(&mut self, object: &BronzeObject, reason: String) {
        self.failed += 1;
        if self.failed_keys.len() < FAILED_NAMED_MAX {
            self.failed_keys.insert(object.key.clone(), reason);
        }
    }
}

/// Judges the lake's objects by both versions. `progress` is told the objects done and found.
pub async fn compare(
    lake: &Lake,
    old: &Contract,
    new: &Contract,
    which: &Which,
    progress: impl Fn(u64, u64),
) -> Result<VerdictChange, DiffError> {
    if old.dataset != new.dataset {
        return Err(DiffError::Datasets { old: old.dataset.clone(), new: new.dataset.clone() });
    }
    let checkers = [Checker::new(old)?, Checker::new(new)?];
    let mut found = VerdictChange {
        dataset: new.dataset.clone(),
        schema: schema::changes(old, new),
        ..VerdictChange::default()
    };
    let mut changes = BTreeMap::new();
    let objects = objects(lake, &new.dataset, which).await?;
    for (done, (object, key)) in objects.iter().enumerate() {
        progress(done as u64, objects.len() as u64);
        found.objects += 1;
        judge(lake, &checkers, object, key, which.examples_max, &mut found, &mut changes).await;
    }
    found.warnings.retain(|_, rows| rows[0] != rows[1]);
    found.changes = changes.into_values().collect();
    found.changes.sort_by_key(|change: &Change| std::cmp::Reverse(change.rows));
    found.changed = found.changes.iter().map(|change| change.rows).sum();
    Ok(found)
}

/// The dataset's objects, oldest key first.
async fn objects(
    lake: &Lake,
    dataset: &str,
    which: &Which,
) -> Result<Vec<(BronzeObject, BronzeKey)>, LakeError> {
    let mut objects: Vec<(BronzeObject, BronzeKey)> = lake
        .list_bronze()
        .await?
        .into_iter()
        .filter(|object| object.key.starts_with(&which.prefix))
        .filter_map(|object| {
            let key = BronzeKey::parse(&object.key, |name| name == dataset).ok()?;
            Some((object, key))
        })
        .collect();
    if let Some(last) = which.last {
        objects.sort_by_key(|(object, _)| std::cmp::Reverse(object.modified_ms));
        objects.truncate(last);
        objects.sort_by(|(one, _), (other, _)| one.key.cmp(&other.key));
    }
    Ok(objects)
}

/// By the old and the new verdict.
type Changes = BTreeMap<(String, String), Change>;

/// Counts the rows whose verdicts differ, of those that one version or both discard.
fn count(
    checkers: &[Checker; 2],
    object: &BronzeObject,
    [was, is]: &[BTreeMap<i64, DiscardRow>; 2],
    examples_max: usize,
    changes: &mut Changes,
) {
    let places = was.keys().chain(is.keys().filter(|place| !was.contains_key(place)));
    for place in places {
        let (old, new) = (was.get(place), is.get(place));
        let (old_rule, new_rule) = (rule(old), rule(new));
        if old_rule == new_rule {
            continue;
        }
        let change = changes
            .entry((old_rule.to_owned(), new_rule.to_owned()))
            .or_insert_with(|| Change::new(old_rule, new_rule));
        change.rows += 1;
        if change.examples.len() < examples_max {
            let record = match (old, new) {
                (Some(row), _) => checkers[1].redactor().json_record(&row.record),
                (None, Some(row)) => checkers[0].redactor().json_record(&row.record),
                (None, None) => continue,
            };
            change.examples.push(Row { key: object.key.clone(), ordinal: *place, record });
        }
    }
}

/// The first rule names a row's reason.
fn rule(row: Option<&DiscardRow>) -> &str {
    row.map_or(ACCEPTED, |row| row.rules.first().map_or("", String::as_str))
}
