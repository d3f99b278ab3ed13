//! Redrive: what a rule discarded is judged again from bronze, under the contract as it is now.
//!
//! The work list is the discard table: its rows that name the rule, anywhere among their rules. Only the objects that these name are
//! read, and only the rows at those places are moved. Per group of objects: silver takes what is accepted now,
//! the ledger is counted anew, and last the discard rows are replaced, which takes the
//! work off the list. A cut before that leaves the list as it was, and doing it again finds silver's rows present. Two at once
//! do the same work; each commit lets one of them through, and the other looks again.
//!
//! The result is that of a full reprocess, as long as the contract differs in what this rule decides. One limit: a row whose key silver took
//! from another object meanwhile becomes a duplicate, though it came first; `rebuild` restores the order.

mod judged;
mod places;
mod recount;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use datafusion::arrow::compute::{filter_record_batch, not};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use serde::Serialize;
use tracing::warn;

use crate::bronze::BronzeKey;
use crate::check::{CheckError, Checker};
use crate::contract::Contract;
use crate::discard::{self, DUPLICATE};
use crate::examine::DiscardRow;
use crate::forgotten::{Forgotten, ForgottenError};
use crate::gold::{self, Refreshed};
use crate::lake::{BronzeObject, Lake, LakeError};
use crate::ledger::LedgerError;
use crate::ledger::recount::RecountError;
use crate::promote::Candidate;
use crate::pseudonym::NoKey;
use crate::run::{GROUP_BYTES_MAX, groups};
use crate::silver::{self, SilverError};
use crate::table::{CommitError, TableError};

pub use judged::ROWS_MAX;
use judged::{Judged, at};
use places::{Listed, Places};

/// Most objects judged again in one commit: queries and commits name them.
pub const GROUP_OBJECTS_MAX: usize = 1_000;
/// Most rows that are judged again in one commit, unless one object alone has more ([`ROWS_MAX`]): they are in memory together.
pub const GROUP_ROWS_MAX: u64 = 100_000;

/// What is judged again.
#[derive(Clone, Debug)]
pub struct Which {
    /// The rule; any of a discard row's rules.
    pub rule: String,
    /// Only rows discarded at or after this: milliseconds since 1970-01-01 UTC.
    pub since_ms: Option<i64>,
    /// Only this dataset.
    pub dataset: Option<String>,
}

/// What a redrive did.
#[derive(Debug, Default, Serialize)]
pub struct RedriveReport {
    /// The rule.
    pub rule: String,
    /// Objects judged again.
    pub objects: u64,
    /// Discard rows that named the rule.
    pub rows: u64,
    /// Of these, in silver now.
    pub silver: u64,
    /// Of these, duplicates now: silver has their key from elsewhere.
    pub duplicates: u64,
    /// Of these, discarded still, by this rule or another.
    pub discarded: u64,
    /// The discarded ones by their first failing rule.
    pub rules: BTreeMap<String, u64>,
    /// Objects that could not be judged again, with the reason; their discard rows are as they were.
    pub failed: BTreeMap<String, String>,
    /// Gold tables brought up to date.
    pub gold: Vec<Refreshed>,
    /// Where no discard row names the rule: the rules that they do name, with their rows.
    pub other_rules: BTreeMap<String, u64>,
}

/// A redrive stopped; what is done stays, and the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// There is nothing that a redrive of this rule could change.
    #[error(
        "`{DUPLICATE}` is no rule of a contract: silver has these rows already; `rebuild` decides anew which came first"
    )]
    Duplicate,
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A contract's pseudonyms.
    #[error(transparent)]
    Key(#[from] NoKey),
    /// A contract's checks.
    #[error(transparent)]
    Checker(#[from] CheckError),
    /// Silver.
    #[error(transparent)]
    Silver(#[from] SilverError),
    /// Discard or ledger.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The ledger's rows.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Counting the ledger's rows anew.
    #[error(transparent)]
    Recount(#[from] RecountError),
    /// Who is forgotten.
    #[error(transparent)]
    Forgotten(#[from] ForgottenError),
    /// A query.
    #[error("reading the discard table: {0}")]
    Query(#[from] DataFusionError),
    /// Rows could not be put together.
    #[error("putting rows together: {0}")]
    Rows(#[from] ArrowError),
}

impl From<TableError> for RedriveError {
    fn from(error: TableError) -> Self {
        Self::Commit(error.into())
    }
}

/// Judges again what the rule discarded. `progress` is told the objects done and found.
pub async fn redrive(
    lake: &Lake,
    contracts: &[Contract],
    which: &Which,
    progress: impl Fn(u64, u64),
) -> Result<RedriveReport, RedriveError> {
    if which.rule == DUPLICATE {
        return Err(RedriveError::Duplicate);
    }
    contracts.iter().try_for_each(Contract::check_key)?;
    lake.check_writable()?;
    let mut report = RedriveReport { rule: which.rule.clone(), ..RedriveReport::default() };
    let work = places::work(lake, which).await?;
    if work.is_empty() {
        report.other_rules = places::rules(lake, which.dataset.as_deref()).await?;
    }
    let found = work.len() as u64;
    let mut done = 0;
    progress(done, found);
    for contract in contracts {
        let listed: Vec<&Listed> = work.iter().filter(|listed| listed.dataset == contract.dataset).collect();
        if !listed.is_empty() {
            let checker = Checker::new(contract)?.forgetting(Forgotten::load(lake, contract).await?);
            for of_day in listed.chunk_by(|one, next| one.day == next.day) {
                let candidates = candidates(lake, contract, of_day, &mut report).await?;
                let rows: HashMap<&str, u64> =
                    of_day.iter().map(|listed| (listed.key.as_str(), listed.rows)).collect();
                let weights_of = |Candidate { object, .. }: &Candidate| {
                    [object.bytes, rows.get(object.key.as_str()).copied().unwrap_or_default()]
                };
                let bounds = [GROUP_BYTES_MAX, GROUP_ROWS_MAX];
                for group in groups(&candidates, GROUP_OBJECTS_MAX, bounds, weights_of) {
                    redrive_group(lake, &checker, which, &of_day[0].day, group, &mut report).await?;
                    done += group.len() as u64;
                    progress(done, found);
                }
            }
        }
        // Without work, too: a cut may have left gold behind, and nothing is done where it is not.
        match gold::refresh(lake, contract).await {
            Ok(refreshed) => report.gold.extend(refreshed),
            Err(error) => {
                warn!(dataset = %contract.dataset, %error, "gold is left as it was");
                report.failed.insert(format!("gold of {}", contract.dataset), error.to_string());
            }
        }
    }
    for listed in &work {
        if contracts.iter().all(|contract| contract.dataset != listed.dataset) {
            report
                .failed
                .insert(listed.key.clone(), format!("no contract for the dataset {}", listed.dataset));
        }
    }
    Ok(report)
}

/// The objects as bronze has them now; those that it no longer has in the same state fail.
async fn candidates(
    lake: &Lake,
    contract: &Contract,
    listed: &[&Listed],
    report: &mut RedriveReport,
) -> Result<Vec<Candidate>, RedriveError> {
    let mut candidates = Vec::new();
    for listed in listed {
        let object = lake.bronze_object_as(&listed.key, &listed.etag).await?;
        let key = BronzeKey::parse(&listed.key, |name| name == contract.dataset);
        match (object, key) {
            (Some(object), Ok(key)) => candidates.push(Candidate { object, key }),
            (_, Err(skip)) => {
                report.failed.insert(listed.key.clone(), skip.to_string());
            }
            _ => {
                let reason = "bronze no longer has it in the state that was processed";
                report.failed.insert(listed.key.clone(), reason.to_owned());
            }
        }
    }
    Ok(candidates)
}

async fn redrive_group(
    lake: &Lake,
    checker: &Checker,
    which: &Which,
    day: &str,
    group: &[Candidate],
    report: &mut RedriveReport,
) -> Result<(), RedriveError> {
    let filed = (checker.contract().dataset.as_str(), day);
    let mut places =
        Places::open(lake, which, filed, group.iter().map(|candidate| &candidate.object)).await?;
    let mut examined: Vec<(&Candidate, Judged)> = Vec::with_capacity(group.len());
    for candidate in group {
        let Some(ordinals) = places.of(&candidate.object) else { continue };
        match Judged::of(lake, checker, candidate, ordinals).await {
            Ok(found) => examined.push((candidate, found)),
            Err(error) => {
                report.failed.insert(candidate.object.key.clone(), error.to_string());
            }
        }
    }
    recount::keep_comparable(lake, checker, &mut examined, report).await?;
    let mut first_look = true;
    loop {
        let moved = promoted(lake, checker, &examined, &places).await?;
        if first_look {
            count(report, &moved);
            first_look = false;
        }
        let changed: Vec<&Moved<'_>> = moved.iter().filter(|moved| places.differ(moved)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        recount::ledger(lake, checker, &changed, Some(&places)).await?;
        if places.replace(lake, checker.contract(), &changed).await? {
            return recount::ledger(lake, checker, &changed, None).await;
        }
    }
}

/// An object's rows at its places, as they are judged now.
struct Moved<'a> {
    candidate: &'a Candidate,
    found: &'a Judged,
    /// Discard rows.
    discards: Vec<DiscardRow>,
    /// Rows in silver.
    silver: u64,
}

impl Moved<'_> {
    fn object(&self) -> &BronzeObject {
        &self.candidate.object
    }
}

/// Brings the rows that are accepted now to silver.
async fn promoted<'a>(
    lake: &Lake,
    checker: &Checker,
    examined: &'a [(&'a Candidate, Judged)],
    places: &Places,
) -> Result<Vec<Moved<'a>>, RedriveError> {
    let contract = checker.contract();
    let mut objects: Vec<(&'a Candidate, &'a Judged, &BTreeSet<i64>, RecordBatch)> = Vec::new();
    for (candidate, found) in examined {
        let Some(ordinals) = places.of(&candidate.object) else { continue };
        objects.push((candidate, found, ordinals, at(&found.accepted, ordinals)?));
    }
    let accepted: Vec<(&BronzeObject, &RecordBatch)> =
        objects.iter().map(|(candidate, _, _, rows)| (&candidate.object, rows)).collect();
    let mut silver = silver::open(lake, contract).await?;
    let in_silver = silver::promote(&mut silver, contract, &accepted).await?;

    let mut moved = Vec::new();
    for ((candidate, found, ordinals, rows), kept) in objects.iter().zip(in_silver) {
        let twice = filter_record_batch(rows, &not(&kept)?)?;
        let mut discards: Vec<DiscardRow> =
            found.discards.iter().filter(|row| ordinals.contains(&row.ordinal)).cloned().collect();
        discards.extend(discard::duplicates(&twice)?);
        let silver = kept.true_count() as u64;
        moved.push(Moved { candidate, found, discards, silver });
    }
    Ok(moved)
}

fn count(report: &mut RedriveReport, moved: &[Moved<'_>]) {
    for object in moved {
        report.objects += 1;
        report.silver += object.silver;
        report.rows += object.silver + object.discards.len() as u64;
        for row in &object.discards {
            match row.rules.first().map(String::as_str).unwrap_or_default() {
                DUPLICATE => report.duplicates += 1,
                rule => {
                    report.discarded += 1;
                    *report.rules.entry(rule.to_owned()).or_default() += 1;
                }
            }
        }
    }
}

/// Reads `--since`: a day (`2026-01-31`) or a moment (RFC 3339), in UTC; milliseconds since 1970-01-01.
pub fn since_ms(text: &str) -> Result<i64, String> {
    let moment = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    DateTime::parse_from_rfc3339(&moment)
        .map(|moment| moment.with_timezone(&Utc).timestamp_millis())
        .map_err(|_| format!("{text:?} is neither a day (2026-01-31) nor a moment (2026-01-31T12:00:00Z)"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn since_is_a_day_or_a_moment() {
        assert_eq!(since_ms("1970-01-02").unwrap(), 86_400_000);
        assert_eq!(since_ms("1970-01-01T01:00:00+01:00").unwrap(), 0);
        assert!(since_ms("yesterday").unwrap_err().contains("2026-01-31"));
    }
}
