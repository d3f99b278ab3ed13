//! Gold: summaries that are recomputed from silver, never patched.
//!
//! A gold table remembers, as a transaction in its own commit, which version of silver it shows. What
//! silver's log says has changed since is computed anew and replaces what was there, in one commit; so is all of it by
//! another query under the same name.
//! Late data, a re-drive and erasure are no special cases. A day that silver keeps no longer is the exception: what
//! retention let go cannot be summed up again, so gold of that day stays as it was. Days are computed one after another: memory holds what one
//! of them takes, and gold's own rows.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::prelude::DataFrame;
use serde::Serialize;
use tokio::sync::OnceCell;

use crate::contract::{Contract, GoldQuery, Window};
use crate::lake::Lake;
use crate::latest::{self, LatestError};
use crate::retention::expired;
use crate::session;
use crate::silver::{self, on_days};
use crate::table::{CONFLICTS_MAX, CommitError, Replaced, Table, TableError, after_conflict};

/// The transaction that says which version of silver a gold table shows.
const SHOWS: &str = "ingot/silver-version";
/// The transaction that says by which query: a hash, in place of a version.
const QUERY: &str = "ingot/gold-query";

/// A gold table could not be brought up to date; it still shows what it showed.
#[derive(Debug, thiserror::Error)]
pub enum GoldError {
    /// The table failed or stayed contended.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Silver could not be computed.
    #[error(transparent)]
    Latest(#[from] LatestError),
    /// The query gives other columns than it did.
    #[error(
        "the gold query {name} gives other columns than its table has: {what}. Remove gold/{name}, which is then computed anew, or give the query another name"
    )]
    Columns {
        /// The gold table.
        name: String,
        /// The first of them.
        what: String,
    },
    /// The contract's query failed.
    #[error("the gold query {name} of {dataset} failed: {source}")]
    Query {
        /// The gold table.
        name: String,
        /// The contract.
        dataset: String,
        /// DataFusion's word.
        source: Box<DataFusionError>,
    },
}

impl From<TableError> for GoldError {
    fn from(error: TableError) -> Self {
        Self::Commit(error.into())
    }
}

/// What a refresh did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refreshed {
    /// The gold table.
    pub name: String,
    /// The version of silver that it shows now.
    pub silver_version: u64,
    /// Days that were replaced; `None` where all was.
    pub days: Option<usize>,
    /// Rows written.
    pub rows: usize,
}

/// Brings every gold table of the contract up to the newest silver, and first silver, where it is computed;
/// those that are there already are left.
pub async fn refresh(lake: &Lake, contract: &Contract) -> Result<Vec<Refreshed>, GoldError> {
    let mut refreshed = Vec::new();
    latest::refresh(lake, contract).await?;
    let Some(mut silver) = Table::open(lake, &silver::path(&contract.dataset)).await? else {
        return Ok(refreshed);
    };
    // Looked up once, where a query needs it.
    let gone = OnceCell::new();
    for query in &contract.gold {
        for conflicts in 0..=CONFLICTS_MAX {
            match refresh_one(lake, contract, query, &silver, &gone).await {
                Ok(done) => {
                    refreshed.extend(done);
                    break;
                }
                Err(GoldError::Commit(CommitError::Conflict { .. })) if conflicts < CONFLICTS_MAX => {
                    after_conflict(conflicts).await;
                    silver.refresh().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(refreshed)
}

/// A gold table that does not show the newest silver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The gold table.
    pub name: String,
    /// When silver first changed after what it shows, in milliseconds since 1970-01-01 UTC; 0: long ago.
    pub since_ms: i64,
}

/// The contract's gold tables that do not show the newest silver.
pub async fn behind(lake: &Lake, contract: &Contract) -> Result<Vec<Behind>, TableError> {
    let mut behind = Vec::new();
    let Some(silver) = Table::open(lake, &silver::path(&contract.dataset)).await? else {
        return Ok(behind);
    };
    for query in &contract.gold {
        let shows = match Table::open(lake, &path(&query.name)).await? {
            Some(table) => shows(&table, mark(contract, query)).await?,
            None => None,
        };
        // A newer version of silver with the same rows (a compaction) leaves gold as right as it was.
        let changed = silver.first_changed_ms(shows).await?;
        behind.extend(changed.map(|since_ms| Behind { name: query.name.clone(), since_ms }));
    }
    Ok(behind)
}

/// Whether the contract's gold queries can be planned over its silver.
pub async fn plan(contract: &Contract) -> Result<(), GoldError> {
    for query in &contract.gold {
        let context = session::context();
        let planned = match context.read_batch(RecordBatch::new_empty(silver::schema(contract))) {
            Ok(empty) => {
                let registered = context.register_table("silver", empty.into_view()).map(|_| ());
                match registered {
                    Ok(()) => context.sql(&query.sql).await.map(|_| ()),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        planned.map_err(|source| GoldError::Query {
            name: query.name.clone(),
            dataset: contract.dataset.clone(),
            source: Box::new(source),
        })?;
    }
    Ok(())
}

async fn refresh_one(
    lake: &Lake,
    contract: &Contract,
    query: &GoldQuery,
    silver: &Table,
    gone: &OnceCell<BTreeSet<String>>,
) -> Result<Option<Refreshed>, GoldError> {
    let failed = |source: DataFusionError| GoldError::Query {
        name: query.name.clone(),
        dataset: contract.dataset.clone(),
        source: Box::new(source),
    };
    let path = path(&query.name);
    let known = Table::open(lake, &path).await?;
    let mark = mark(contract, query);
    let shows = match &known {
        Some(table) => shows(table, mark).await?,
        None => None,
    };
    if shows.is_some_and(|shows| shows >= silver.version()) {
        return Ok(None);
    }
    let (days, rows) = match query.window {
        Window::All => (None, compute(silver, query, None).await),
        Window::Day => {
            let look = || expired::days_of_silver(lake, &contract.dataset);
            let gone = gone.get_or_try_init(look).await.map_err(failed)?;
            let days = replaceable(silver, known.as_ref(), shows, gone).await?;
            let computed = match &days {
                Some(days) => days.clone(),
                None => &all_days(silver)? - gone,
            };
            (days, compute(silver, query, Some(computed)).await)
        }
    };
    let rows = rows.map_err(failed)?;

    let partitions: &[&str] = match query.window {
        Window::Day => &["dt"],
        Window::All => &[],
    };
    let mut table = match known {
        Some(table) => table,
        None => Table::open_or_create(lake, &path, &rows.schema(), partitions).await?,
    };
    let shows_now = i64::try_from(silver.version()).unwrap_or(i64::MAX);
    let written = rows.num_rows();
    let replaced = days.as_ref().map_or(Replaced::All, Replaced::Days);
    let transactions = [(SHOWS.to_owned(), shows_now), (QUERY.to_owned(), mark)];
    table.replace(rows, replaced, &transactions).await.map_err(|error| match error.other_columns() {
        Some(what) => GoldError::Columns { name: query.name.clone(), what: what.to_owned() },
        None => error.into(),
    })?;
    Ok(Some(Refreshed {
        name: query.name.clone(),
        silver_version: silver.version(),
        days: days.map(|days| days.len()),
        rows: written,
    }))
}

/// The days of a daily table that are replaced; `None`: all of it is. Days of which silver went are none of them.
async fn replaceable(
    silver: &Table,
    known: Option<&Table>,
    shows: Option<u64>,
    gone: &BTreeSet<String>,
) -> Result<Option<BTreeSet<String>>, TableError> {
    // The table of a query that was over all before has no days to replace.
    let Some(table) = known.filter(|table| table.partition_columns() == ["dt"]) else { return Ok(None) };
    let changed = match shows {
        Some(shows) => silver.dts_changed_since(shows).await?,
        None => None,
    };
    Ok(match changed {
        Some(changed) => Some(&changed - gone),
        None if gone.is_empty() => None,
        None => Some(&(&all_days(silver)? | &all_days(table)?) - gone),
    })
}

/// The version of silver that the table shows by this query; `None` where it shows none, or by another one.
async fn shows(table: &Table, mark: i64) -> Result<Option<u64>, TableError> {
    let taken = table.transactions([SHOWS, QUERY]).await?;
    let version = taken.get(SHOWS).filter(|_| taken.get(QUERY) == Some(&mark));
    Ok(version.and_then(|version| u64::try_from(*version).ok()))
}

/// Tells a query from any other. Another hash in another version of this program costs a computation, nothing else: what
/// cannot be computed any more stays.
fn mark(contract: &Contract, query: &GoldQuery) -> i64 {
    let mut hasher = DefaultHasher::new();
    (&contract.dataset, &query.sql, query.window == Window::Day).hash(&mut hasher);
    hasher.finish().cast_signed()
}

/// Every day that the table has rows of.
fn all_days(table: &Table) -> Result<BTreeSet<String>, TableError> {
    Ok(table
        .partitions(0)?
        .into_keys()
        .filter_map(|mut partition| partition.remove("dt").flatten())
        .collect())
}

/// The query's answer over silver, or over each of the given days.
async fn compute(
    silver: &Table,
    query: &GoldQuery,
    days: Option<BTreeSet<String>>,
) -> Result<RecordBatch, DataFusionError> {
    let answer = planned(silver, query, None).await?;
    let schema = Arc::new(answer.schema().as_arrow().clone());
    let mut rows = Vec::new();
    match days {
        Some(days) => {
            for day in days {
                rows.extend(planned(silver, query, Some(day)).await?.collect().await?);
            }
        }
        None => rows = answer.collect().await?,
    }
    Ok(concat_batches(&schema, &rows)?)
}

async fn planned(
    silver: &Table,
    query: &GoldQuery,
    day: Option<String>,
) -> Result<DataFrame, DataFusionError> {
    let context = session::context();
    let provider = silver.provider().await.map_err(|error| DataFusionError::External(error.into()))?;
    let mut rows = context.read_table(provider)?;
    if let Some(day) = day {
        rows = rows.filter(on_days([&day]))?;
    }
    context.register_table("silver", rows.into_view())?;
    context.sql(&query.sql).await
}

/// Where a gold table is, below the lake.
pub fn path(name: &str) -> String {
    format!("gold/{name}")
}
