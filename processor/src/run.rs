//! One run: whatever is in bronze and not in the ledger is promoted, then what came is settled.
//!
//! Groups are bounded in objects and bytes, so a run's memory does not grow with the backlog. An object
//! that fails alone is reported and left for the next run, so is a dataset that does; an unknown prefix is skipped and counted. A
//! check of severity `fail` ends the dataset's promotion with its group: the other objects of the group land.

mod report;

use std::collections::{BTreeMap, HashSet};

use chrono::Utc;
use tracing::warn;

use crate::bronze::BronzeKey;
use crate::check::{CheckError, Checker};
use crate::contract::Contract;
use crate::discard;
use crate::forgotten::{Forgotten, ForgottenError};
use crate::lake::{BronzeObject, Lake, LakeError};
use crate::latest::{self, LatestError};
use crate::ledger::{self, LedgerError};
use crate::promote::{Candidate, promote};
use crate::pseudonym::NoKey;
use crate::quarantine::{self, QuarantineError};
use crate::settle::settle;
use crate::table::TableError;

pub use report::{RunReport, Sums};

/// Most objects promoted in one commit.
pub const GROUP_OBJECTS_MAX: usize = 64;
/// Most bytes promoted in one commit, unless one object alone is larger.
pub const GROUP_BYTES_MAX: u64 = 32 * 1024 * 1024;

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
    let checkers = checkers(lake, contracts).await?;
    let mut report = RunReport::default();
    let pending = pending(lake, contracts, &mut report).await?;
    let found = pending.values().map(|objects| objects.len() as u64).sum();
    let mut done = 0;
    progress(done, found);
    for (contract, mut checker) in contracts.iter().zip(checkers) {
        let dataset = &contract.dataset;
        let waiting = pending.get(dataset).map_or(&[][..], Vec::as_slice);
        if !waiting.is_empty() {
            starts(dataset);
        }
        let (mut landed, mut kept) = (HashSet::new(), 0);
        let mut left = waiting;
        for group in groups(waiting, GROUP_OBJECTS_MAX, [GROUP_BYTES_MAX], |waits| [waits.object.bytes]) {
            // Whoever is forgotten while the run goes on is left out from the next group on.
            checker = checker.forgetting(Forgotten::load(lake, contract).await?);
            let promoted = match promote(lake, &checker, group, Utc::now().timestamp_millis()).await {
                Ok(promoted) => promoted,
                Err(error) => {
                    warn!(%dataset, %error, "the dataset is left for the next run");
                    report.failed.insert(dataset.clone(), error.to_string());
                    break;
                }
            };
            for entry in &promoted.entries {
                landed.insert((entry.bronze_key.clone(), entry.bronze_etag.clone()));
                kept += entry.silver;
            }
            let stops = report.count(dataset, promoted);
            done += group.len() as u64;
            left = &left[group.len()..];
            progress(done, found);
            if stops {
                report.stopped.insert(dataset.clone(), left.len() as u64);
                break;
            }
        }
        match show_latest(lake, contract, &landed).await {
            Ok(Some(shown)) => report.supersede(dataset, kept - shown),
            Ok(None) => {}
            Err(error) => {
                warn!(%dataset, %error, "silver is left as it was");
                report.failed.insert(format!("silver of {dataset}"), error.to_string());
            }
        }
        let settled = settle(lake, contract, Utc::now().timestamp_millis()).await?;
        report.gold.extend(settled.gold);
        report.checks.extend(settled.checks);
        report.failed.extend(settled.failed);
    }
    Ok(report)
}

/// What a lake and its contracts need before anything is promoted: keys of pseudonyms, a lake that can be written,
/// rules that can be run. In the order of the contracts.
async fn checkers(lake: &Lake, contracts: &[Contract]) -> Result<Vec<Checker>, RunError> {
    contracts.iter().try_for_each(Contract::check_key)?;
    lake.check_writable()?;
    // Nothing discarded is an empty table, not a missing one.
    discard::open(lake).await?;
    let mut checkers = Vec::with_capacity(contracts.len());
    for contract in contracts {
        checkers.push(checker(lake, contract).await?);
    }
    Ok(checkers)
}

/// What judges the rows of a dataset, and leaves out who is forgotten.
pub(crate) async fn checker(lake: &Lake, contract: &Contract) -> Result<Checker, RunError> {
    Ok(Checker::new(contract)?.forgetting(Forgotten::load(lake, contract).await?))
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

/// Cuts candidates into groups of at most `objects_max`, of which no sum of weights is above its bound; an object that
/// alone is heavier is one of its own.
pub(crate) fn groups<const N: usize>(
    mut candidates: &[Candidate],
    objects_max: usize,
    bounds: [u64; N],
    weights_of: impl Fn(&Candidate) -> [u64; N],
) -> impl Iterator<Item = &[Candidate]> {
    std::iter::from_fn(move || {
        let mut sums = [0; N];
        let fits = candidates.iter().take(objects_max).take_while(|candidate| {
            sums.iter_mut().zip(weights_of(candidate)).for_each(|(sum, weight)| *sum += weight);
            sums.iter().zip(bounds).all(|(sum, bound)| *sum <= bound)
        });
        let (group, rest) = candidates.split_at(fits.count().max(1).min(candidates.len()));
        candidates = rest;
        (!group.is_empty()).then_some(group)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_group_has_no_more_than_fits_unless_one_object_alone_has() {
        let candidate = |bytes: u64| Candidate {
            object: BronzeObject { key: String::new(), etag: String::new(), bytes, modified_ms: 0 },
            key: BronzeKey::parse("bronze/orders/a.csv", |_| true).unwrap(),
        };
        let candidates: Vec<Candidate> = [3, 3, 4, 11, 1, 0, 9, 1, 1, 1, 1, 1].map(candidate).into();
        let parts = |bounds: [u64; 2], weights_of: fn(&Candidate) -> [u64; 2]| -> Vec<Vec<u64>> {
            let sizes = |part: &[Candidate]| part.iter().map(|candidate| candidate.object.bytes).collect();
            groups(&candidates, 4, bounds, weights_of).map(sizes).collect()
        };
        let expected = [vec![3, 3, 4], vec![11], vec![1, 0, 9], vec![1; 4], vec![1]];
        assert_eq!(parts([10, 1_000], |candidate| [candidate.object.bytes, 1]), expected);
        assert_eq!(parts([1_000, 10], |candidate| [1, candidate.object.bytes]), expected);
        assert_eq!(groups(&[], 4, [10], |_| [1]).count(), 0);
    }
}
