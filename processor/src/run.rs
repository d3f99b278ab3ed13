//! One run: whatever is in bronze and not in the ledger is promoted, then gold is brought up to date.
//!
//! Groups are bounded in objects and bytes, so a run's memory does not grow with the backlog. An object
//! that fails alone is reported and left for the next run; an unknown prefix is skipped and counted. A
//! check of severity `fail` ends the dataset's promotion with its group: the other objects of the group land.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::Utc;
use serde::Serialize;
use tracing::warn;

use crate::bronze::{BronzeKey, Skip};
use crate::check::{CheckError, Checker};
use crate::contract::Contract;
use crate::dataset_check::{self, Brought, CheckResult};
use crate::forgotten::{Forgotten, ForgottenError};
use crate::gold::{self, Refreshed};
use crate::lake::{BronzeObject, Lake, LakeError};
use crate::latest::{self, LatestError};
use crate::ledger::{self, LedgerError};
use crate::promote::{Candidate, PromoteError, Promoted, promote};
use crate::pseudonym::NoKey;
use crate::quarantine::{self, QuarantineError};
use crate::table::{Table, TableError};
use crate::{discard, silver};

/// Most objects promoted in one commit.
pub const GROUP_OBJECTS_MAX: usize = 64;
/// Most bytes promoted in one commit, unless one object alone is larger.
pub const GROUP_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Skipped keys that a report names; the rest is counted.
const SKIPPED_NAMED_MAX: usize = 20;

/// What a run did.
#[derive(Debug, Default, Serialize)]
pub struct RunReport {
    /// Objects promoted.
    pub objects: u64,
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
    /// Objects in bronze that no contract speaks for.
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
    /// The same sums for each dataset that had objects.
    pub datasets: BTreeMap<String, DatasetReport>,
}

/// What a run did for one dataset.
#[derive(Debug, Default, Serialize)]
pub struct DatasetReport {
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
    /// Rows discarded because silver already had their key.
    pub duplicates: i64,
    /// Rows kept as versions that are not, or no longer, the latest of their keys.
    pub superseded: i64,
    /// Discarded rows by their first failing rule.
    pub rules: BTreeMap<String, u64>,
    /// Rows that failed a check of severity `warn`, by check.
    pub warnings: BTreeMap<String, u64>,
}

impl DatasetReport {
    fn count(&mut self, entry: &ledger::Entry) {
        self.objects += 1;
        self.bytes += entry.bytes;
        self.rows_in += entry.rows_in;
        self.silver += entry.silver;
        self.discarded += entry.discarded;
        self.duplicates += entry.duplicates;
        add(&mut self.rules, entry.rules.clone());
        add(&mut self.warnings, entry.warnings.clone());
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
        for entry in promoted.entries {
            self.datasets.entry(dataset.to_owned()).or_default().count(&entry);
            self.objects += 1;
            self.rows_in += entry.rows_in;
            self.silver += entry.silver;
            self.discarded += entry.discarded;
            self.duplicates += entry.duplicates;
            add(&mut self.rules, entry.rules);
            add(&mut self.warnings, entry.warnings);
        }
        stops
    }

    /// Counts an object that no contract speaks for, and names it while there are few.
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

/// A run stopped; what is done stays, and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A contract's pseudonyms.
    #[error(transparent)]
    Key(#[from] NoKey),
    /// A contract's checks.
    #[error(transparent)]
    Checker(#[from] CheckError),
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Quarantine.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// Promotion.
    #[error(transparent)]
    Promote(#[from] PromoteError),
    /// Who is forgotten.
    #[error(transparent)]
    Forgotten(#[from] ForgottenError),
}

/// Promotes everything that is pending. `progress` is told the objects done and found.
pub async fn run(
    lake: &Lake,
    contracts: &[Contract],
    progress: impl Fn(u64, u64),
) -> Result<RunReport, RunError> {
    run_telling(lake, contracts, progress, |_| {}).await
}

/// The same; `starts` is told each dataset that has objects, before the first of them.
pub async fn run_telling(
    lake: &Lake,
    contracts: &[Contract],
    progress: impl Fn(u64, u64),
    starts: impl Fn(&str),
) -> Result<RunReport, RunError> {
    contracts.iter().try_for_each(Contract::check_key)?;
    lake.check_writable()?;
    // Nothing discarded is an empty table, not a missing one.
    discard::open(lake).await?;
    let mut checkers = Vec::with_capacity(contracts.len());
    for contract in contracts {
        checkers.push(Checker::new(contract)?.forgetting(Forgotten::load(lake, contract).await?));
    }
    let mut report = RunReport::default();
    let pending = pending(lake, contracts, &mut report).await?;
    let found = pending.values().map(|objects| objects.len() as u64).sum();
    let mut done = 0;
    progress(done, found);
    for checker in &checkers {
        let dataset = &checker.contract().dataset;
        let waiting = pending.get(dataset).map_or(&[][..], Vec::as_slice);
        let mut left = waiting.len() as u64;
        let mut brought = Brought::default();
        let mut kept = 0;
        let silver_before = Table::version_of(lake, &silver::path(dataset)).await?;
        if left > 0 {
            starts(dataset);
        }
        for group in groups(waiting, GROUP_BYTES_MAX) {
            let promoted = promote(lake, checker, group, Utc::now().timestamp_millis()).await?;
            for entry in &promoted.entries {
                brought.objects.insert((entry.bronze_key.clone(), entry.bronze_etag.clone()));
                let batches = entry.batches.iter().cloned();
                brought.batches.extend(batches.map(|batch| (entry.bronze_key.clone(), batch)));
                kept += entry.silver;
            }
            let stops = report.count(dataset, promoted);
            done += group.len() as u64;
            left -= group.len() as u64;
            progress(done, found);
            if stops {
                report.stopped.insert(dataset.clone(), left);
                break;
            }
        }
        match show_latest(lake, checker.contract(), &brought.objects).await {
            Ok(Some(shown)) => {
                report.superseded += kept - shown;
                report.silver -= kept - shown;
                if let Some(dataset) = report.datasets.get_mut(dataset) {
                    dataset.superseded += kept - shown;
                    dataset.silver -= kept - shown;
                }
            }
            Ok(None) => {}
            Err(error) => {
                warn!(%dataset, %error, "silver is left as it was");
                report.failed.insert(format!("silver of {dataset}"), error.to_string());
            }
        }
        match gold::refresh(lake, checker.contract()).await {
            Ok(refreshed) => report.gold.extend(refreshed),
            Err(error) => {
                warn!(%dataset, %error, "gold is left as it was");
                report.failed.insert(format!("gold of {dataset}"), error.to_string());
            }
        }
        brought.days = days_since(lake, dataset, silver_before).await?;
        match dataset_check::hold(lake, checker.contract(), &brought, Utc::now().timestamp_millis()).await {
            Ok(results) => report.checks.extend(results),
            Err(error) => {
                warn!(%dataset, %error, "the dataset's checks were not held");
                report.failed.insert(format!("checks of {dataset}"), error.to_string());
            }
        }
    }
    Ok(report)
}

/// The days of silver that changed after the version; `None` if that is not known.
async fn days_since(
    lake: &Lake,
    dataset: &str,
    before: Option<u64>,
) -> Result<Option<BTreeSet<String>>, TableError> {
    match (Table::open(lake, &silver::path(dataset)).await?, before) {
        (Some(silver), Some(before)) => silver.dts_changed_since(before).await,
        _ => Ok(None),
    }
}

/// Computes silver where the latest versions count; how many rows of the objects it shows then.
async fn show_latest(
    lake: &Lake,
    contract: &Contract,
    objects: &HashSet<(String, String)>,
) -> Result<Option<i64>, LatestError> {
    if contract.latest_by.is_empty() {
        return Ok(None);
    }
    let days = latest::refresh(lake, contract).await?;
    if objects.is_empty() {
        return Ok(Some(0));
    }
    latest::shown_of(lake, contract, objects, &days).await.map(Some)
}

/// What the listing has and the ledger has not, by dataset.
async fn pending(
    lake: &Lake,
    contracts: &[Contract],
    report: &mut RunReport,
) -> Result<BTreeMap<String, Vec<Candidate>>, RunError> {
    let done = ledger::processed(&ledger::open(lake).await?).await?;
    let quarantine = quarantine::entries(lake).await?;
    let is_held = |object: &BronzeObject, key: &BronzeKey| {
        let contract = contracts.iter().find(|contract| contract.dataset == key.dataset);
        contract.is_some_and(|contract| quarantine.holds(object, contract).is_some())
    };
    let mut pending: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    for object in lake.list_bronze().await? {
        if done.contains(&(object.key.clone(), object.etag.clone())) {
            continue;
        }
        let is_dataset = |name: &str| contracts.iter().any(|contract| contract.dataset == name);
        match BronzeKey::parse(&object.key, is_dataset) {
            Ok(key) if is_held(&object, &key) => report.in_quarantine += 1,
            Ok(key) => pending.entry(key.dataset.clone()).or_default().push(Candidate { object, key }),
            Err(skip) => report.skip(object.key, &skip),
        }
    }
    // As they were written: of rows with one key the first is kept, and a rebuild finds the same one.
    pending.values_mut().for_each(|objects| objects.sort_by_key(|candidate| candidate.object.modified_ms));
    Ok(pending)
}

/// Cuts candidates into groups within [`GROUP_OBJECTS_MAX`] and `bytes_max`; an object that is larger is one of its own.
pub(crate) fn groups(mut candidates: &[Candidate], bytes_max: u64) -> impl Iterator<Item = &[Candidate]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = candidates
            .iter()
            .take(GROUP_OBJECTS_MAX)
            .take_while(|candidate| {
                bytes += candidate.object.bytes;
                bytes <= bytes_max
            })
            .count();
        let (group, rest) = candidates.split_at(fits.max(1).min(candidates.len()));
        candidates = rest;
        (!group.is_empty()).then_some(group)
    })
}

fn add(sums: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (name, count) in more {
        *sums.entry(name).or_insert(0) += count;
    }
}
