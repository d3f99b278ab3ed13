//! Ingestion of the objects that a queue names: what `run` does for all of bronze, for these keys alone.
//!
//! Nothing is listed: an object is looked up by its key, and what the ledger or quarantine has already is passed over.
//! The others are promoted by the same [`promote`], grouped by dataset within a bound of bytes and of time: near the
//! deadline the rest is reported as failed, so that its messages come again. An object may be in any number of
//! messages, batches and functions at once; it counts once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::Utc;
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::bronze::BronzeKey;
use crate::contract::Contract;
use crate::discard;
use crate::lake::{BronzeObject, Lake, LakeError};
use crate::ledger;
use crate::promote::{Candidate, promote};
use crate::quarantine;
use crate::run::{GROUP_BYTES_MAX, GROUP_OBJECTS_MAX, RunError, RunReport, checker, groups};
use crate::table::Table;

/// Objects that are looked up at once.
const LOOKED_UP_AT_ONCE: usize = 32;
/// Of the function's memory, the part that a group's bytes may have: frames hold a reading in two bytes, which rows in
/// memory and their encoder have in a hundred.
const MEMORY_PARTS: u64 = 64;

/// What is kept of an invocation's time for its answer; a function's time limit has to be a multiple of it.
pub const MARGIN: Duration = Duration::from_secs(5);

/// How much is done at once, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of objects in one commit, unless one object alone is larger.
    pub group_bytes_max: u64,
    /// When ingestion is over; a group that is not done by then is left.
    pub ends: Instant,
}

impl Bounds {
    /// For a function of so many MiB of memory that has this much time, [`MARGIN`] of it for the answer.
    pub fn new(memory_mib: u64, left: Duration) -> Self {
        if left < 2 * MARGIN {
            warn!(
                left_s = left.as_secs(),
                "the function's time limit is too short to ingest; 60 s or more are right"
            );
        }
        let group_bytes_max = (memory_mib * 1024 * 1024 / MEMORY_PARTS).min(GROUP_BYTES_MAX);
        Self { group_bytes_max, ends: Instant::now() + left.saturating_sub(MARGIN) }
    }
}

/// Ingests the objects of these keys, which are below the lake. Whatever could not be done is in the report's `failed`,
/// by key.
pub async fn ingest(
    lake: &Lake,
    contracts: &[Contract],
    keys: &BTreeSet<String>,
    bounds: Bounds,
) -> RunReport {
    let mut report = RunReport::default();
    let known = known(contracts, keys, &mut report);
    let mut candidates = looked_up(lake, known, bounds, &mut report).await;
    if let Err(error) = name_as_known(lake, &mut candidates).await {
        warn!(%error, "nothing was ingested");
        let keys = candidates.into_iter().map(|candidate| (candidate.object.key, error.to_string()));
        report.failed.extend(keys);
        return report;
    }
    let mut pending: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        pending.entry(candidate.key.dataset.clone()).or_default().push(candidate);
    }
    let mut longest = Duration::ZERO;
    for (dataset, candidates) in pending {
        let Some(contract) = contracts.iter().find(|contract| contract.dataset == dataset) else { continue };
        let keys: Vec<String> = candidates.iter().map(|candidate| candidate.object.key.clone()).collect();
        if let Err(error) =
            ingest_dataset(lake, contract, candidates, bounds, &mut longest, &mut report).await
        {
            warn!(%dataset, %error, "nothing was ingested");
            report.failed.extend(keys.into_iter().map(|key| (key, error.to_string())));
        }
    }
    report
}

/// The keys that a contract speaks for; the others are counted and told.
fn known(contracts: &[Contract], keys: &BTreeSet<String>, report: &mut RunReport) -> Vec<BronzeKey> {
    let is_dataset = |name: &str| contracts.iter().any(|contract| contract.dataset == name);
    let mut known = Vec::with_capacity(keys.len());
    for key in keys {
        match BronzeKey::parse(key, is_dataset) {
            Ok(key) => known.push(key),
            Err(skip) => report.skip(key.clone(), &skip),
        }
    }
    known
}

/// The objects as they are now.
async fn looked_up(
    lake: &Lake,
    keys: Vec<BronzeKey>,
    bounds: Bounds,
    report: &mut RunReport,
) -> Vec<Candidate> {
    let look = |key: BronzeKey| async move {
        let found = timeout_at(bounds.ends, lake.stored_object(&key.key)).await;
        (key, found)
    };
    let mut looks = futures::stream::iter(keys).map(look).buffer_unordered(LOOKED_UP_AT_ONCE);
    let mut candidates = Vec::new();
    while let Some((key, found)) = looks.next().await {
        let reason = match found {
            Ok(Ok(Some(object))) => {
                candidates.push(Candidate { object, key });
                continue;
            }
            Ok(Ok(None)) => "there is no such object".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "out of time before it was looked up".to_owned(),
        };
        warn!(key = %key.key, %reason, "the object failed; its message comes again");
        report.failed.insert(key.key, reason);
    }
    candidates
}

/// Gives objects that were rewritten the tags by which the lake knows them: all of them by one look.
async fn name_as_known(lake: &Lake, candidates: &mut [Candidate]) -> Result<(), LakeError> {
    let found = candidates.iter().map(|candidate| candidate.object.clone()).collect();
    for (candidate, known) in candidates.iter_mut().zip(lake.known_as(found).await?) {
        candidate.object = known;
    }
    Ok(())
}

async fn ingest_dataset(
    lake: &Lake,
    contract: &Contract,
    candidates: Vec<Candidate>,
    bounds: Bounds,
    longest: &mut Duration,
    report: &mut RunReport,
) -> Result<(), RunError> {
    contract.check_key()?;
    let mut waiting = not_done(lake, contract, candidates, report).await?;
    if waiting.is_empty() {
        return Ok(());
    }
    // As `run` takes them: of rows with one key the first is kept.
    waiting.sort_by_key(|candidate| candidate.object.modified_ms);
    let checker = checker(lake, contract).await?;
    let dataset = &contract.dataset;
    let mut left = waiting.len() as u64;
    let leave = |report: &mut RunReport, group: &[Candidate], reason: &str| {
        warn!(%dataset, objects = group.len(), %reason, "objects are left; their messages come again");
        let keys = group.iter().map(|candidate| candidate.object.key.clone());
        report.failed.extend(keys.map(|key| (key, reason.to_owned())));
    };
    let bytes_max = [bounds.group_bytes_max];
    for group in groups(&waiting, GROUP_OBJECTS_MAX, bytes_max, |waits| [waits.object.bytes]) {
        left -= group.len() as u64;
        if report.stopped.contains_key(dataset) {
            leave(report, group, "a check of severity fail stopped the dataset");
            continue;
        }
        let begins = Instant::now();
        if begins + *longest >= bounds.ends {
            leave(report, group, "out of time before it was begun");
            continue;
        }
        let promoted = timeout_at(bounds.ends, promote(lake, &checker, group, Utc::now().timestamp_millis()));
        match promoted.await {
            Ok(Ok(promoted)) => {
                *longest = begins.elapsed().max(*longest);
                if report.count(dataset, promoted) {
                    report.stopped.insert(dataset.clone(), left);
                }
            }
            Ok(Err(error)) => leave(report, group, &error.to_string()),
            Err(_) => leave(report, group, "out of time"),
        }
    }
    Ok(())
}

/// Those that neither the ledger nor quarantine has.
async fn not_done(
    lake: &Lake,
    contract: &Contract,
    candidates: Vec<Candidate>,
    report: &mut RunReport,
) -> Result<Vec<Candidate>, RunError> {
    let Some(ledger) = Table::open(lake, ledger::PATH).await? else {
        // Nothing discarded is an empty table, not a missing one.
        discard::open(lake).await?;
        return Ok(candidates);
    };
    let keys = candidates.iter().map(|candidate| candidate.object.key.as_str()).collect();
    let done = ledger::processed_of(&ledger, &contract.dataset, &keys).await?;
    let quarantine = quarantine::entries(lake).await?;
    let mut waiting = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let BronzeObject { key, etag, .. } = &candidate.object;
        if done.contains(&(key.clone(), etag.clone())) {
            continue;
        }
        match quarantine.holds(&candidate.object, contract) {
            Some(_) => report.in_quarantine += 1,
            None => waiting.push(candidate),
        }
    }
    Ok(waiting)
}
