//! Forgetting: a person or a device is erased from bronze, silver, discard and gold, and does not come back.
//!
//! In order: the subject is noted ([`crate::forgotten`]), so that from now on its rows are discarded; a [`search`] goes by
//! the tables' own places and makes a [`plan`] of what goes, which is stored; then [`object`] by object bronze loses the rows, then
//! discard, silver and the ledger ([`books`]) say so, gold is computed anew ([`golden`]: or loses rows), and old files and logs go.
//! A second search finds what a processor brought meanwhile that did not know yet.
//! Last comes a signed [`receipt`]. Every step can be done twice: cut anywhere, the same command searches again, and joins the
//! stored plan.
//!
//! Places stay: an erased row is counted, as discarded by the rule `forgotten`, in bronze as in the books, or as expired
//! where retention let it go before; so the audit balances, and a rebuild gives the same lake. Limits: objects that are not processed yet, and other copies of the
//! lake, are not looked at; nor are a bucket's noncurrent versions, which its lifecycle removes; the subject is a whole
//! value of one column.

mod books;
mod frames;
mod golden;
mod object;
mod plan;
pub mod receipt;
mod search;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::Utc;
use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use serde::Serialize;

use crate::bronze::BronzeKey;
use crate::check::{CheckError, Checker};
use crate::contract::Contract;
use crate::forgotten::{self, Forgotten, ForgottenError, names_subjects};
use crate::gold::{self, GoldError, Refreshed};
use crate::lake::{Lake, LakeError};
use crate::ledger::LedgerError;
use crate::ledger::recount::RecountError;
use crate::pseudonym::PseudonymKey;
use crate::quarantine::QuarantineError;
use crate::silver::{self, SilverError};
use crate::table::{CONFLICTS_MAX, CommitError, Cut, Table, TableError, after_conflict};

use plan::Plan;
use receipt::{Erased, Receipt};
use search::Look;

/// How long a file of no version may be a writer's who is still at work, in milliseconds.
pub const IN_FLIGHT_MS: i64 = 10 * 60 * 1_000;

/// How often rows are erased that came while others were.
const ROUNDS_MAX: u32 = 3;
const STILL_COMING: &str =
    "a processor that does not know yet brings rows of the subject; end it, and give the same command again";

/// Who is forgotten: a value of a column that names people or devices. It is never shown.
#[derive(Clone)]
pub struct Subject {
    /// The column, in every dataset that has it.
    pub column: String,
    value: String,
}

impl fmt::Debug for Subject {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Subject({}=..)", self.column)
    }
}

impl std::str::FromStr for Subject {
    type Err = ForgetError;

    fn from_str(text: &str) -> Result<Self, ForgetError> {
        match text.split_once('=') {
            Some((column, value)) if !column.is_empty() && !value.is_empty() => {
                Ok(Self { column: column.to_owned(), value: value.to_owned() })
            }
            _ => Err(ForgetError::Subject),
        }
    }
}

impl Subject {
    /// The hash under which it is known, as receipts name it.
    pub fn mark(&self, key: &PseudonymKey) -> String {
        forgotten::mark(key, &self.column, &self.value)
    }
}

/// How it is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForgetSettings {
    /// Nobody else works on the lake: files of unfinished writes go at once, not after [`IN_FLIGHT_MS`].
    pub alone: bool,
    /// Count what would go, and change nothing.
    pub dry_run: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct ForgetReport {
    /// What went, by dataset.
    pub datasets: BTreeMap<String, Erased>,
    /// Gold tables computed anew.
    pub gold: Vec<Refreshed>,
    /// Objects that changed meanwhile, or could not be rewritten, with the reason; they are not erased.
    pub failed: BTreeMap<String, String>,
    /// Files that may be another writer's unfinished ones and hold rows of the subject; they are not removed.
    pub in_flight: u64,
    /// Where the receipt is, below the lake; none while something is left.
    pub receipt: Option<String>,
}

impl ForgetReport {
    /// Whether nothing of the subject is left that this command looks at.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.in_flight == 0
    }
}

/// Forgetting stopped; what is done stays, and the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The subject is no column and value.
    #[error("a subject is written COLUMN=VALUE, e.g. device=d1")]
    Subject,
    /// No contract has the column, or it names nobody.
    #[error(
        "no contract declares the column {column} as personal (classification or redact) or as a text of its key; columns that are: {known}"
    )]
    Column {
        /// The column.
        column: String,
        /// Those that name subjects.
        known: String,
    },
    /// There is no key.
    #[error(
        "forgetting needs the key of pseudonyms, --pseudonym-key-file FILE, --pseudonym-key-secret ARN or INGOT_PSEUDONYM_KEY: receipts are signed with it, and what comes back is known by it"
    )]
    NoKey,
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The table of those who are forgotten.
    #[error(transparent)]
    Forgotten(#[from] ForgottenError),
    /// A contract's checks.
    #[error(transparent)]
    Checker(#[from] CheckError),
    /// A table.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Silver.
    #[error(transparent)]
    Silver(#[from] SilverError),
    /// Gold.
    #[error(transparent)]
    Gold(#[from] GoldError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Counting the ledger's rows anew.
    #[error(transparent)]
    Recount(#[from] RecountError),
    /// Quarantine.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// A query; its text is not shown, it may have the value.
    #[error("looking for the subject's rows: {}", .0.strip_backtrace().lines().next().unwrap_or_default())]
    Query(#[from] DataFusionError),
    /// Rows could not be put together.
    #[error("putting rows together: {0}")]
    Rows(#[from] ArrowError),
    /// A document of this command's.
    #[error("the plan of what goes is damaged: {0}")]
    Plan(serde_json::Error),
}

impl From<TableError> for ForgetError {
    fn from(error: TableError) -> Self {
        Self::Commit(error.into())
    }
}

/// Forgets the subject in every dataset that has its column. `progress` is told the objects done and found.
pub async fn forget(
    lake: &Lake,
    contracts: &[Contract],
    key: &PseudonymKey,
    subject: &Subject,
    settings: ForgetSettings,
    progress: impl Fn(u64, u64),
) -> Result<ForgetReport, ForgetError> {
    let concerned = concerned(contracts, subject)?;
    lake.check_writable()?;
    let started_ms = Utc::now().timestamp_millis();
    let mark = subject.mark(key);
    let look = Look { lake, contracts: &concerned, key, subject, started_ms };
    let mut read = BTreeSet::new();
    if settings.dry_run {
        return Ok(report(&look.first(&mut read, &progress).await?));
    }
    forgotten::remember(lake, key, &subject.column, &mark).await?;
    let mut now = look.first(&mut read, &progress).await?;
    let in_flight_ms = if settings.alone { i64::MAX } else { started_ms - IN_FLIGHT_MS };
    let (mut gold, mut failed) = (Vec::new(), BTreeMap::new());
    let mut round = 1;
    loop {
        let plan = now.clone().stored(lake, &mark).await?;
        failed.extend(in_bronze(lake, &concerned, &now, &progress).await);
        for contract in &concerned {
            let Some(planned) = plan.datasets.get(&contract.dataset) else { continue };
            let checker = Checker::new(contract)?.forgetting(Forgotten::load(lake, contract).await?);
            books::erase(lake, &checker, planned).await?;
            gold.extend(gold::refresh(lake, contract).await?);
            golden::erase(lake, contract, key, subject).await?;
            traces::erase(lake, contract, key, subject).await?;
        }
        let (in_flight, versions) = cut_all(lake, &concerned, in_flight_ms).await?;
        // A processor that did not know yet may have brought rows meanwhile.
        now = look.again(&mut read).await?;
        if !now.is_empty() && round < ROUNDS_MAX {
            round += 1;
            continue;
        }
        if !now.is_empty() {
            failed.insert("new rows".to_owned(), STILL_COMING.to_owned());
        }
        let mut report = ForgetReport { gold, failed, in_flight, ..report(&plan) };
        if report.is_complete() {
            let receipt = Receipt::new(key, &subject.column, &mark, &plan, &report.datasets, versions);
            report.receipt = Some(receipt.store(lake).await?);
            Plan::finish(lake, &mark).await?;
        }
        return Ok(report);
    }
}

/// The contracts that have the subject's column; all of them must know it as one that names subjects.
fn concerned<'a>(contracts: &'a [Contract], subject: &Subject) -> Result<Vec<&'a Contract>, ForgetError> {
    let names = |contract: &Contract| -> BTreeSet<String> {
        let columns = contract.columns.iter().filter(|column| names_subjects(contract, column));
        columns.map(|column| column.name.clone()).collect()
    };
    let concerned: Vec<&Contract> =
        contracts.iter().filter(|contract| names(contract).contains(&subject.column)).collect();
    if concerned.is_empty() {
        let known: BTreeSet<String> = contracts.iter().flat_map(names).collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(ForgetError::Column { column: subject.column.clone(), known });
    }
    Ok(concerned)
}

fn report(plan: &Plan) -> ForgetReport {
    let datasets = plan.datasets.iter().map(|(name, planned)| (name.clone(), planned.erased()));
    ForgetReport {
        datasets: datasets.collect(),
        gold: Vec::new(),
        failed: BTreeMap::new(),
        in_flight: 0,
        receipt: None,
    }
}

#[derive(Debug, thiserror::Error)]
enum RewriteError {
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error(transparent)]
    Erase(#[from] object::EraseError),
    #[error("it is no object of a dataset any more")]
    Key,
    #[error("it changed meanwhile; run the processor and then the same command again")]
    Changed,
}

/// Takes the rows out of bronze; the objects of which they could not be taken out, with the reason.
async fn in_bronze(
    lake: &Lake,
    contracts: &[&Contract],
    plan: &Plan,
    progress: &impl Fn(u64, u64),
) -> BTreeMap<String, String> {
    let (mut failed, mut done) = (BTreeMap::new(), 0);
    for contract in contracts {
        let planned = plan.datasets.get(&contract.dataset);
        for object in planned.iter().flat_map(|planned| &planned.objects).filter(|object| object.in_bronze) {
            if let Err(reason) = rewrite(lake, contract, object).await {
                failed.insert(object.key.clone(), reason.to_string());
            }
            done += 1;
            progress(done, plan.objects());
        }
    }
    failed
}

async fn rewrite(lake: &Lake, contract: &Contract, planned: &plan::Object) -> Result<(), RewriteError> {
    let object = lake.bronze_object_as(&planned.key, &planned.etag).await?.ok_or(RewriteError::Changed)?;
    let key = BronzeKey::parse(&object.key, |name| name == contract.dataset);
    let key = key.map_err(|_| RewriteError::Key)?;
    let bytes = lake.read_as_listed(&object).await?;
    let erased = object::without(contract, &key, bytes, &planned.places.all())?;
    Ok(lake.replace_bronze(&object, erased.map(Into::into)).await?)
}

/// The tables that held rows of the subject, or what was made of them.
fn touched(contracts: &[&Contract]) -> Vec<String> {
    let mut paths = BTreeSet::from([crate::discard::PATH.to_owned(), traces::CHECKS.to_owned()]);
    for contract in contracts {
        paths.extend([silver::path(&contract.dataset), silver::rows_path(contract)]);
        paths.extend(contract.gold.iter().map(|query| gold::path(&query.name)));
    }
    paths.into_iter().collect()
}

/// Removes what older versions of the tables show; the files that may be a writer's and stay, and by table the version that is
/// the oldest now.
async fn cut_all(
    lake: &Lake,
    contracts: &[&Contract],
    in_flight_ms: i64,
) -> Result<(u64, BTreeMap<String, u64>), ForgetError> {
    let (mut in_flight, mut versions) = (0, BTreeMap::new());
    for path in touched(contracts) {
        if let Some(cut) = cut(lake, &path, in_flight_ms).await? {
            in_flight += cut.in_flight;
            versions.insert(path, cut.version);
        }
    }
    for leftover in lake.leftovers(in_flight_ms.min(Utc::now().timestamp_millis().saturating_add(1)))? {
        lake.remove_leftover(&leftover)?;
    }
    Ok((in_flight, versions))
}

async fn cut(lake: &Lake, path: &str, in_flight_ms: i64) -> Result<Option<Cut>, ForgetError> {
    insisting(async || {
        let Some(mut table) = Table::open(lake, path).await? else { return Ok(None) };
        table.mark().await?;
        Ok(Some(table.cut(in_flight_ms).await?))
    })
    .await
}

/// Does it again, from the newest version, while other writers are faster: up to [`CONFLICTS_MAX`] times.
async fn insisting<T>(mut once: impl AsyncFnMut() -> Result<T, ForgetError>) -> Result<T, ForgetError> {
    let mut conflicts = 0;
    loop {
        match once().await {
            Err(ForgetError::Commit(CommitError::Conflict { .. })) if conflicts + 1 < CONFLICTS_MAX => {
                after_conflict(conflicts).await;
                conflicts += 1;
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests;
