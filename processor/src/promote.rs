//! Promotion: a group of bronze objects of one dataset goes to silver, discard and ledger, in this order.
//!
//! Each step is idempotent by itself, and each looks at what the one before has really left. Silver
//! decides which row of a key was first; so discard (which holds the others) follows it, and the
//! ledger, which calls an object done, is last. A cut anywhere is healed by running again: an object is
//! judged at its own time, not at the clock's, so it gets the same verdict every time. (A contract changed between a cut and
//! the next run can still judge it differently; the audit shows that.)

use std::collections::{BTreeMap, HashSet};

use chrono::DateTime;
use datafusion::arrow::compute::{filter_record_batch, not};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;

use crate::bronze::BronzeKey;
use crate::check::Checker;
use crate::contract::Contract;
use crate::examine::{ExamineError, Examined, examine};
use crate::lake::{BronzeObject, Lake, LakeError};
use crate::ledger::Entry;
use crate::quarantine::SetAside;
use crate::silver::SilverError;
use crate::table::{CommitError, TableError};
use crate::{discard, ledger, quarantine, silver};

/// A bronze object and what its key says.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The object.
    pub object: BronzeObject,
    /// Its parsed key.
    pub key: BronzeKey,
}

/// Promotion of a group stopped; what is done stays, the rest is done by the next run.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// Silver.
    #[error(transparent)]
    Silver(#[from] SilverError),
    /// Discard or ledger.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Rows could not be put together.
    #[error("putting rows together: {0}")]
    Rows(#[from] ArrowError),
}

impl From<TableError> for PromoteError {
    fn from(error: TableError) -> Self {
        Self::Commit(error.into())
    }
}

/// An object that could not be examined; the others go on.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It could not be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// It could not be examined.
    #[error(transparent)]
    Examine(#[from] ExamineError),
}

impl ObjectError {
    /// Whether a check of severity `fail` found bad rows: the run stops for the dataset.
    pub fn stops(&self) -> bool {
        matches!(self, Self::Examine(ExamineError::Failed { .. }))
    }
}

/// What a group came to.
#[derive(Debug, Default)]
pub struct Promoted {
    /// The objects that are done.
    pub entries: Vec<Entry>,
    /// The objects that a check set aside.
    pub set_aside: Vec<SetAside>,
    /// The objects that failed alone.
    pub failed: Vec<(String, ObjectError)>,
}

/// Promotes a group of objects of the checker's dataset; one that is in it twice, as queues will have it, counts once.
pub async fn promote(
    lake: &Lake,
    checker: &Checker,
    candidates: &[Candidate],
    now_ms: i64,
) -> Result<Promoted, PromoteError> {
    let contract = checker.contract();
    let mut promoted = Promoted::default();
    let mut examined: Vec<(&Candidate, Examined)> = Vec::with_capacity(candidates.len());
    let mut seen = HashSet::new();
    for candidate in candidates.iter().filter(|candidate| seen.insert(candidate.object.id())) {
        match examine_object(lake, checker, candidate).await {
            Ok(found) => examined.push((candidate, found)),
            Err(ObjectError::Examine(ExamineError::Quarantined { check, rows, rows_in, frames, .. })) => {
                promoted.set_aside.push(SetAside {
                    dataset: contract.dataset.clone(),
                    bronze_key: candidate.object.key.clone(),
                    bronze_etag: candidate.object.etag.clone(),
                    check,
                    rows_failing: rows as i64,
                    rows_in: rows_in as i64,
                    batches: frames.iter().map(ledger::Batch::from).collect(),
                    contract_version: contract.version.clone(),
                    contract_fingerprint: contract.fingerprint.clone(),
                    set_aside_ms: now_ms,
                });
            }
            Err(error) => promoted.failed.push((candidate.object.key.clone(), error)),
        }
    }

    quarantine::write(lake, &promoted.set_aside).await?;

    let accepted: Vec<(&BronzeObject, &RecordBatch)> =
        examined.iter().map(|(candidate, found)| (&candidate.object, &found.accepted)).collect();
    let mut silver = silver::open(lake, contract).await?;
    let in_silver = silver::promote(&mut silver, contract, &accepted).await?;

    let mut discard_rows = Vec::new();
    let mut ledger_rows = Vec::new();
    for ((candidate, found), kept) in examined.iter().zip(in_silver) {
        let object = &candidate.object;
        let duplicates = filter_record_batch(&found.accepted, &not(&kept)?)?;
        let mut discards = found.discards.clone();
        discards.extend(discard::duplicates(&duplicates)?);
        if !discards.is_empty() {
            let dt = day_of(candidate);
            let rows = discard::rows(contract, object, &dt, &discards, now_ms)?;
            discard_rows.push((object.id(), rows));
        }
        let entry = entry(contract, object, found, kept.true_count(), now_ms);
        ledger_rows.push((object.id(), entry.row()?));
        promoted.entries.push(entry);
    }
    if !discard_rows.is_empty() {
        discard::open(lake).await?.append_once(&discard_rows).await?;
    }
    if !ledger_rows.is_empty() {
        ledger::open(lake).await?.append_once(&ledger_rows).await?;
    }
    Ok(promoted)
}

pub(crate) async fn examine_object(
    lake: &Lake,
    checker: &Checker,
    candidate: &Candidate,
) -> Result<Examined, ObjectError> {
    let bytes = lake.read_as_listed(&candidate.object).await?;
    Ok(examine(checker, &candidate.key, bytes, candidate.object.modified_ms)?)
}

/// The day under which an object's discards are filed: its key's, or that of its last change.
pub(crate) fn day_of(candidate: &Candidate) -> String {
    candidate.key.dt.clone().unwrap_or_else(|| {
        let modified = DateTime::from_timestamp_millis(candidate.object.modified_ms);
        modified.unwrap_or_default().format("%Y-%m-%d").to_string()
    })
}

fn entry(
    contract: &Contract,
    object: &BronzeObject,
    found: &Examined,
    in_silver: usize,
    now_ms: i64,
) -> Entry {
    let mut rules = BTreeMap::new();
    for row in &found.discards {
        *rules.entry(row.rules.first().cloned().unwrap_or_default()).or_insert(0) += 1;
    }
    Entry {
        dataset: contract.dataset.clone(),
        bronze_key: object.key.clone(),
        bronze_etag: object.etag.clone(),
        bytes: object.bytes as i64,
        rows_in: found.rows_in as i64,
        silver: in_silver as i64,
        discarded: found.discards.len() as i64,
        duplicates: (found.accepted.num_rows() - in_silver) as i64,
        rules,
        warnings: found.warnings.clone(),
        batches: found.frames.iter().map(ledger::Batch::from).collect(),
        contract_version: contract.version.clone(),
        processed_ms: now_ms,
    }
}
