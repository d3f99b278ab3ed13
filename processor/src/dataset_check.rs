//! Checks of a dataset, held after its rows have landed: over what came since they were last held, over days, over
//! all.
//!
//! Each gives a [`CheckResult`], which the run reports and the table `checks` keeps: a check of severity
//! `warn` tells, one of severity `fail` makes the run fail. Nothing is taken back: the rows are where they
//! are. A check's SQL reads the tables that [`window`] gives it, in bounded memory; [`brought`] says what is new to it.

mod brought;
pub mod record;
mod window;

use std::collections::BTreeSet;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;
use serde::Serialize;

use crate::contract::{CheckWindow, Contract, DatasetCheck, Severity};
use crate::lake::Lake;
use crate::ledger::LedgerError;
use crate::silver;
use crate::table::{CONFLICTS_MAX, CommitError, Table, TableError, after_conflict};

use brought::{Brought, Seen};

/// Subjects that a result names; the rest is counted.
pub const SUBJECTS_NAMED_MAX: usize = 10;
/// Days that one run judges, the newest ones.
pub const DAYS_MAX: usize = 31;
/// Characters of a subject that are kept.
const SUBJECT_CHARS_MAX: usize = 128;

/// What a check found in one window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckResult {
    /// The dataset.
    pub dataset: String,
    /// The check's id.
    pub check: String,
    /// `run`, `all`, `newest`, or the day, e.g. `2026-01-01`.
    pub window: String,
    /// The number; `None` where the query gave NULL or failed.
    pub value: Option<f64>,
    /// What it must be, in words.
    pub expected: String,
    /// Whether it is. NULL passes: there was nothing to judge. A query that fails does not.
    pub passed: bool,
    /// `warn` or `fail`.
    pub severity: &'static str,
    /// What the check found, by name: at most [`SUBJECTS_NAMED_MAX`].
    pub subjects: Vec<String>,
    /// Further ones.
    pub subjects_more: u64,
    /// Why the query failed.
    pub problem: Option<String>,
    /// The contract's version.
    pub contract_version: String,
    /// When it was judged: milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
}

impl CheckResult {
    /// Whether it makes the run fail.
    pub fn fails_run(&self) -> bool {
        !self.passed && self.severity == Severity::Fail.word()
    }
}

/// The checks could not be held.
#[derive(Debug, thiserror::Error)]
pub enum DatasetCheckError {
    /// A table failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// What came could not be read from the ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The windows could not be set up, or the results not be read.
    #[error("holding the dataset's checks: {0}")]
    Query(#[from] DataFusionError),
}

impl From<TableError> for DatasetCheckError {
    fn from(error: TableError) -> Self {
        Self::Commit(error.into())
    }
}

/// Holds the contract's dataset checks over what the ledger has and they have not seen, and writes the results down,
/// once, however many processors hold them. Where nothing came, those of the newest day alone are held, and
/// what has changed is written down. `ledger` must be older than silver: what it has is there.
pub async fn hold(
    lake: &Lake,
    contract: &Contract,
    ledger: &Table,
    now_ms: i64,
) -> Result<Vec<CheckResult>, DatasetCheckError> {
    if contract.dataset_checks.is_empty() {
        return Ok(Vec::new());
    }
    for conflicts in 0..CONFLICTS_MAX {
        let Some(silver) = Table::open(lake, &silver::path(&contract.dataset)).await? else {
            return Ok(Vec::new());
        };
        let mut record = record::open(lake).await?;
        let seen = Seen::by(&record, contract).await?;
        let now = seen.and(ledger, &silver);
        let brought = Brought::since(seen, contract, ledger, &silver, now_ms).await?;
        let results = judge_all(lake, contract, &silver, &record, &brought, now_ms).await?;
        let is_idle = brought.objects.is_empty();
        let news =
            if is_idle { record::changed(&record, contract, &results).await? } else { results.clone() };
        if news.is_empty() && !seen.is_far_behind(now) {
            return Ok(results);
        }
        match record.append(record::rows(&news)?, &now.transactions(contract)).await {
            Ok(()) => return Ok(results),
            // Another processor held them in this moment.
            Err(CommitError::Conflict { .. }) => after_conflict(conflicts).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(CommitError::Conflict { table: record::PATH.to_owned() }.into())
}

async fn judge_all(
    lake: &Lake,
    contract: &Contract,
    silver: &Table,
    record: &Table,
    brought: &Brought,
    now_ms: i64,
) -> Result<Vec<CheckResult>, DatasetCheckError> {
    let is_idle = brought.objects.is_empty();
    let tables = window::Tables::open(lake, contract, silver).await?;
    let mut results = Vec::new();
    for kind in [CheckWindow::Run, CheckWindow::Day, CheckWindow::All, CheckWindow::Newest] {
        let is_due =
            |check: &&DatasetCheck| check.window == kind && (!is_idle || kind == CheckWindow::Newest);
        let checks: Vec<&DatasetCheck> = contract.dataset_checks.iter().filter(is_due).collect();
        if checks.is_empty() {
            continue;
        }
        for (name, session) in tables.windows(record, kind, brought, now_ms).await? {
            for check in &checks {
                results.push(judge(&session, contract, check, &name, now_ms).await);
            }
        }
    }
    Ok(results)
}

async fn judge(
    session: &SessionContext,
    contract: &Contract,
    check: &DatasetCheck,
    window: &str,
    now_ms: i64,
) -> CheckResult {
    let sql = check.sql.replace("${now_s}", &format!("{:?}", now_ms as f64 / 1000.0));
    let expected: Vec<String> = check.limits.iter().map(ToString::to_string).collect();
    let mut result = CheckResult {
        dataset: contract.dataset.clone(),
        check: check.id.clone(),
        window: window.to_owned(),
        value: None,
        expected: expected.join(" and "),
        passed: true,
        severity: check.severity.word(),
        subjects: Vec::new(),
        subjects_more: 0,
        problem: None,
        contract_version: contract.version.clone(),
        at_ms: now_ms,
    };
    match answer(session, &sql).await {
        Ok(Answer { value, subjects }) => {
            result.passed = value.is_none_or(|value| check.limits.iter().all(|limit| limit.holds(value)));
            // What was found is named only where it matters.
            if !result.passed {
                result.subjects_more = subjects.len().saturating_sub(SUBJECTS_NAMED_MAX) as u64;
                result.subjects = subjects.into_iter().take(SUBJECTS_NAMED_MAX).collect();
            }
            result.value = value.filter(|value| value.is_finite());
        }
        Err(error) => {
            result.passed = false;
            result.problem = Some(error.strip_backtrace());
        }
    }
    result
}

struct Answer {
    value: Option<f64>,
    subjects: BTreeSet<String>,
}

/// The number that the query gives: its first one, or how many rows it has if they have a `subject`.
async fn answer(session: &SessionContext, sql: &str) -> Result<Answer, DataFusionError> {
    let read_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let batches = session.sql_with_options(sql, read_only).await?.collect().await?;
    let mut subjects = BTreeSet::new();
    if batches.iter().any(|batch| batch.column_by_name("subject").is_some()) {
        let mut rows = 0;
        for batch in &batches {
            rows += batch.num_rows();
            let Some(column) = batch.column_by_name("subject") else { continue };
            let names = cast(column, &DataType::Utf8)?;
            let names = names.as_string::<i32>().iter().flatten();
            subjects.extend(names.map(|name| name.chars().take(SUBJECT_CHARS_MAX).collect::<String>()));
        }
        return Ok(Answer { value: Some(rows as f64), subjects });
    }
    let first = batches.iter().find(|batch| batch.num_rows() > 0 && batch.num_columns() > 0);
    let value = match first {
        Some(batch) => {
            let number = cast(batch.column(0), &DataType::Float64)?;
            let number = number.as_primitive::<Float64Type>();
            (!number.is_null(0)).then(|| number.value(0))
        }
        None => None,
    };
    Ok(Answer { value, subjects })
}

/// Whether the check's SQL can be planned; for lint.
pub(crate) async fn plan(contract: &Contract, check: &DatasetCheck) -> Result<(), DataFusionError> {
    let session = window::empty(contract)?;
    let sql = check.sql.replace("${now_s}", "0.0");
    let read_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = session.sql_with_options(&sql, read_only).await?;
    let fields = frame.schema().fields();
    let is_number = |data_type: &DataType| data_type.is_numeric() || *data_type == DataType::Boolean;
    let fits = fields.iter().any(|field| field.name() == "subject")
        || fields.first().is_some_and(|field| is_number(field.data_type()));
    if fits {
        Ok(())
    } else {
        Err(DataFusionError::Plan("its first column is no number, and none is called subject".into()))
    }
}

#[cfg(test)]
mod tests;
