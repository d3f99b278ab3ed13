//! Promotion: a group of bronze objects of one dataset goes to silver, discard and ledger, in this order.
//!
//! Each step is idempotent by itself, and each looks at what the one before has really left. Silver
//! decides which row of a key was first; so discard (which holds the others) follows it, and the
//! ledger, which calls an object done, is last. A cut anywhere is healed by running again: an object is
//! judged at its own time, not at the clock's, so it gets the same verdict every time. (A contract changed between a cut and
//! the next run can still judge it differently; the audit shows that.)
//!
//! Objects that fit into a part go together, as many as fit into one; of a larger one [`parts`] goes after part.

mod account;
mod parts;

use std::collections::HashSet;

use chrono::DateTime;
use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::compute::{filter_record_batch, not};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;

use crate::bronze::BronzeKey;
use crate::check::Checker;
use crate::examine::{ExamineError, Examined};
use crate::lake::{BronzeObject, Lake};
use crate::ledger::{Batch, Entry};
use crate::quarantine::SetAside;
use crate::reading::Reading;
use crate::silver::SilverError;
use crate::table::{CommitError, Table, TableError};
use crate::{discard, ledger, quarantine, silver};

pub use crate::reading::ObjectError;
use account::Account;

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

/// What a group came to.
#[derive(Debug, Default)]
pub struct Promoted {
    /// The objects that are done.
    pub entries: Vec<Entry>,
    /// The objects that were set aside.
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
    let promoted = Promoted::default();
    let mut promoting = Promoting { lake, checker, now_ms, silver: None, discard: None, promoted };
    let mut whole: Vec<(&Candidate, Examined)> = Vec::new();
    let mut bytes = 0;
    let mut seen = HashSet::new();
    for candidate in candidates.iter().filter(|candidate| seen.insert(candidate.object.id())) {
        match first_part(lake, checker, candidate).await {
            Err(error) => promoting.fail(candidate, error),
            Ok(First::TooHeavy) => promoting.set_aside_as_too_heavy(candidate),
            Ok(First::Whole(examined, len)) => {
                if bytes + len > lake.limits().bytes_max {
                    promoting.land_whole(&std::mem::take(&mut whole)).await?;
                    bytes = 0;
                }
                bytes += len;
                whole.push((candidate, *examined));
            }
            Ok(First::Part(reading, examined)) => {
                // In order: of rows with one key the first is kept.
                promoting.land_whole(&std::mem::take(&mut whole)).await?;
                bytes = 0;
                promoting.land_parts(candidate, *reading, *examined).await?;
            }
        }
    }
    promoting.land_whole(&whole).await?;
    quarantine::write(lake, &promoting.promoted.set_aside).await?;
    Ok(promoting.promoted)
}

/// An object, or the beginning of a larger one.
enum First<'a> {
    /// All of it, and its bytes when it is unpacked.
    Whole(Box<Examined>, usize),
    Part(Box<Reading<'a>>, Box<Examined>),
    /// It expands further than any may.
    TooHeavy,
}

async fn first_part<'a>(
    lake: &Lake,
    checker: &Checker,
    candidate: &'a Candidate,
) -> Result<First<'a>, ObjectError> {
    let mut reading = Reading::open(lake, &candidate.object, &candidate.key).await?;
    if reading.is_too_heavy() {
        return Ok(First::TooHeavy);
    }
    let first = reading.next(checker).await?.unwrap_or_else(|| Examined::nothing(checker.contract()));
    if !reading.is_done() {
        return Ok(First::Part(Box::new(reading), Box::new(first)));
    }
    reading.verdict(checker)?;
    Ok(First::Whole(Box::new(first), reading.bytes()))
}

/// A group on its way.
struct Promoting<'a> {
    lake: &'a Lake,
    checker: &'a Checker,
    now_ms: i64,
    /// Opened once for all parts.
    silver: Option<Table>,
    discard: Option<Table>,
    promoted: Promoted,
}

/// Judged rows, and the name under which discard takes them once.
struct Share<'a> {
    candidate: &'a Candidate,
    id: String,
    examined: &'a Examined,
}

impl Promoting<'_> {
    /// Notes that the object failed alone, or that a check set it aside.
    fn fail(&mut self, candidate: &Candidate, error: ObjectError) {
        match error {
            ObjectError::Examine(ExamineError::Quarantined { check, rows, rows_in, frames, .. }) => {
                let batches = frames.iter().map(Batch::from).collect();
                self.set_aside(candidate, check, [rows, rows_in], batches);
            }
            error => self.promoted.failed.push((candidate.object.key.clone(), error)),
        }
    }

    /// Notes that the object expands too far; nobody knows how many rows it has.
    fn set_aside_as_too_heavy(&mut self, candidate: &Candidate) {
        self.set_aside(candidate, quarantine::EXPANDS_TOO_FAR.to_owned(), [0, 0], Vec::new());
    }

    fn set_aside(
        &mut self,
        candidate: &Candidate,
        check: String,
        [rows_failing, rows_in]: [u64; 2],
        batches: Vec<Batch>,
    ) {
        let contract = self.checker.contract();
        self.promoted.set_aside.push(SetAside {
            dataset: contract.dataset.clone(),
            bronze_key: candidate.object.key.clone(),
            bronze_etag: candidate.object.etag.clone(),
            check,
            rows_failing: rows_failing as i64,
            rows_in: rows_in as i64,
            batches,
            contract_version: contract.version.clone(),
            contract_fingerprint: contract.fingerprint.clone(),
            set_aside_ms: self.now_ms,
        });
    }

    /// Promotes objects of one part each.
    async fn land_whole(&mut self, objects: &[(&Candidate, Examined)]) -> Result<(), PromoteError> {
        if objects.is_empty() {
            return Ok(());
        }
        let shares: Vec<Share<'_>> = objects
            .iter()
            .map(|(candidate, examined)| Share { candidate, id: candidate.object.id(), examined })
            .collect();
        let in_silver = self.land(&shares).await?;
        let entries = objects.iter().zip(in_silver).map(|((candidate, examined), in_silver)| {
            let mut account = Account::default();
            account.add(examined, in_silver);
            account.entry(self.checker.contract(), &candidate.object, self.now_ms)
        });
        let entries: Vec<Entry> = entries.collect();
        self.account_for(entries).await
    }

    /// Brings rows to silver, and the others to discard; of each share, how many are in silver.
    async fn land(&mut self, shares: &[Share<'_>]) -> Result<Vec<usize>, PromoteError> {
        let contract = self.checker.contract();
        let accepted: Vec<(&BronzeObject, &RecordBatch)> =
            shares.iter().map(|share| (&share.candidate.object, &share.examined.accepted)).collect();
        let silver = match &mut self.silver {
            Some(silver) => silver,
            closed => closed.insert(silver::open(self.lake, contract).await?),
        };
        let in_silver = silver::promote(silver, contract, &accepted).await?;
        let mut discard_rows = Vec::new();
        for (share, kept) in shares.iter().zip(&in_silver) {
            let duplicates = filter_record_batch(&share.examined.accepted, &not(kept)?)?;
            let duplicates = discard::duplicates(&duplicates)?;
            if duplicates.is_empty() && share.examined.discards.is_empty() {
                continue;
            }
            let (object, dt) = (&share.candidate.object, day_of(share.candidate));
            let rows = share.examined.discards.iter().chain(&duplicates);
            discard_rows.push((share.id.clone(), discard::rows(contract, object, &dt, rows, self.now_ms)?));
        }
        if !discard_rows.is_empty() {
            let discard = match &mut self.discard {
                Some(discard) => discard,
                closed => closed.insert(discard::open(self.lake).await?),
            };
            discard.append_once(&discard_rows).await?;
        }
        Ok(in_silver.iter().map(BooleanArray::true_count).collect())
    }

    /// Calls the objects done.
    async fn account_for(&mut self, entries: Vec<Entry>) -> Result<(), PromoteError> {
        let rows: Vec<_> =
            entries.iter().map(|entry| Ok((entry.id(), entry.row()?))).collect::<Result<_, ArrowError>>()?;
        ledger::open(self.lake).await?.append_once(&rows).await?;
        self.promoted.entries.extend(entries);
        Ok(())
    }
}

/// The day under which an object's discards are filed: its key's, or that of its last change.
pub(crate) fn day_of(candidate: &Candidate) -> String {
    candidate.key.dt.clone().unwrap_or_else(|| {
        let modified = DateTime::from_timestamp_millis(candidate.object.modified_ms);
        modified.unwrap_or_default().format("%Y-%m-%d").to_string()
    })
}

#[cfg(test)]
mod tests;
