//! What a run tells: sums of rows, and names of what did not go the usual way.

use std::collections::BTreeMap;

use serde::Serialize;
use tracing::warn;

use crate::bronze::Skip;
use crate::dataset_check::CheckResult;
use crate::gold::Refreshed;
use crate::ledger::Entry;
use crate::promote::Promoted;

/// Skipped keys that a report names; the rest is counted.
const SKIPPED_NAMED_MAX: usize = 20;

/// What a run did.
#[derive(Debug, Default, Serialize)]
pub struct RunReport {
    /// The sums of all datasets.
    #[serde(flatten)]
    pub total: Sums,
    /// Objects in bronze that no contract speaks for, or whose names end as no format's.
    pub skipped: u64,
    /// Some of them, with the reason.
    pub skipped_keys: BTreeMap<String, String>,
    /// Objects that a check set aside in this run, with the reason.
    pub quarantined: BTreeMap<String, String>,
    /// Objects that are in quarantine since earlier runs.
    pub in_quarantine: u64,
    /// Datasets for which a check of severity `fail` stopped the run, with the objects left for the next one.
    pub stopped: BTreeMap<String, u64>,
    /// Objects that failed, and gold that did, with the reason; they are tried again by the next run.
    pub failed: BTreeMap<String, String>,
    /// Gold tables brought up to date.
    pub gold: Vec<Refreshed>,
    /// What the datasets' checks found.
    pub checks: Vec<CheckResult>,
    /// The sums of each dataset that had objects.
    pub datasets: BTreeMap<String, Sums>,
}

/// What became of the rows of promoted objects.
#[derive(Debug, Default, Serialize)]
pub struct Sums {
    /// Objects promoted.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: i64,
    /// Records in them.
    pub rows_in: i64,
    /// Rows promoted to silver.
    pub silver: i64,
    /// Rows discarded by a rule.
    pub discarded: i64,
    /// Rows discarded because silver already had their key (or the lake their version).
    pub duplicates: i64,
    /// Rows kept as versions that are not, or no longer, the latest of their keys.
    pub superseded: i64,
    /// Discarded rows by their first failing rule.
    pub rules: BTreeMap<String, u64>,
    /// Rows that failed a check of severity `warn`, by check.
    pub warnings: BTreeMap<String, u64>,
}

impl Sums {
    fn count(&mut self, entry: &Entry) {
        self.objects += 1;
        self.bytes += entry.bytes;
        self.rows_in += entry.rows_in;
        self.silver += entry.silver;
        self.discarded += entry.discarded;
        self.duplicates += entry.duplicates;
        add(&mut self.rules, &entry.rules);
        add(&mut self.warnings, &entry.warnings);
    }

    /// Of the rows counted as promoted, so many are not what silver shows.
    fn supersede(&mut self, rows: i64) {
        self.superseded += rows;
        self.silver -= rows;
    }
}

impl RunReport {
    /// Adds what a group of the dataset came to; whether it stops the dataset.
    pub(crate) fn count(&mut self, dataset: &str, promoted: Promoted) -> bool {
        let stops = promoted.failed.iter().any(|(_, error)| error.stops());
        for set_aside in promoted.set_aside {
            warn!(key = %set_aside.bronze_key, check = %set_aside.check, "the object is set aside");
            self.quarantined.insert(set_aside.bronze_key.clone(), set_aside.reason());
        }
        for (key, error) in promoted.failed {
            warn!(%key, %error, "the object failed and is left for the next run");
            self.failed.insert(key, error.to_string());
        }
        for entry in &promoted.entries {
            self.total.count(entry);
            self.datasets.entry(dataset.to_owned()).or_default().count(entry);
        }
        stops
    }

    /// Of the rows counted as promoted, so many are not what silver shows.
    pub(super) fn supersede(&mut self, dataset: &str, rows: i64) {
        self.total.supersede(rows);
        if let Some(dataset) = self.datasets.get_mut(dataset) {
            dataset.supersede(rows);
        }
    }

    /// Counts an object that cannot be processed by its name, and names the first ones.
    pub(crate) fn skip(&mut self, key: String, skip: &Skip) {
        self.skipped += 1;
        if self.skipped_keys.len() < SKIPPED_NAMED_MAX {
            warn!(%key, reason = %skip, "skipped");
            self.skipped_keys.insert(key, skip.to_string());
        }
    }

    /// Whether nothing failed, no check of severity `fail` included.
    pub fn succeeded(&self) -> bool {
        self.failed.is_empty() && !self.checks.iter().any(CheckResult::fails_run)
    }
}

fn add(sums: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (name, count) in more {
        *sums.entry(name.clone()).or_insert(0) += count;
    }
}
