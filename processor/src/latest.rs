//! Latest wins: silver of a contract with `latestBy` shows each key's latest version, and nothing else.
//!
//! Every version of a row is kept in `versions/<dataset>`, to which objects are promoted as others' are to
//! silver ([`crate::silver`]); the same version again is a duplicate. Silver is computed from it, never
//! patched: the days that changed, and those where their keys have other versions, are replaced in
//! one commit that remembers which state of the versions it shows. A few days are sorted in memory; where much of the
//! table changed, all of it is computed through disk. So silver is a function of the set of versions: the order and the
//! grouping in which they came leave no trace (docs/decisions/0007).

mod compare;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::{Expr, Volatility, cast, ident};
use datafusion::prelude::{DataFrame, SessionContext};

use crate::contract::Contract;
use crate::lake::Lake;
use crate::quoted;
use crate::session;
use crate::silver;
use crate::table::{
    CONFLICTS_MAX, CommitError, Files, Partition, Replaced, Table, TableError, after_conflict,
};

pub use compare::{Shown, compare};

/// Most bytes of data files on days that changed, for which their versions are sorted in memory; they take several
/// times as much there.
const IN_MEMORY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// What is more, and at least one part in so many of all versions, is computed with all the others, through disk.
const WHOLE_FROM_ONE_IN: u64 = 4;
/// The transaction that says which state of the versions silver shows.
const SHOWS: &str = "ingot/versions-version";

/// Silver could not be brought up to date; it still shows what it showed.
#[derive(Debug, thiserror::Error)]
pub enum LatestError {
    /// A table failed or stayed contended.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The versions could not be compared.
    #[error("finding the latest versions of {dataset}: {source}")]
    Query {
        /// The dataset.
        dataset: String,
        /// DataFusion's word.
        source: Box<DataFusionError>,
    },
}

impl From<TableError> for LatestError {
    fn from(error: TableError) -> Self {
        Self::Commit(error.into())
    }
}

fn failure(contract: &Contract) -> impl Fn(DataFusionError) -> LatestError + Copy + '_ {
    |source| LatestError::Query { dataset: contract.dataset.clone(), source: Box::new(source) }
}

/// Days of silver; `None` for all of them.
pub type Days = Option<BTreeSet<String>>;

/// Brings silver up to the newest versions, where the contract has `latestBy`; the days that were computed anew.
pub async fn refresh(lake: &Lake, contract: &Contract) -> Result<Days, LatestError> {
    if contract.latest_by.is_empty() {
        return Ok(None);
    }
    for conflicts in 0..CONFLICTS_MAX {
        let Some(versions) = Table::open(lake, &silver::rows_path(contract)).await? else { return Ok(None) };
        match refresh_once(lake, contract, &versions).await {
            Err(LatestError::Commit(CommitError::Conflict { .. })) => after_conflict(conflicts).await,
            done => return done,
        }
    }
    Err(CommitError::Conflict { table: silver::path(&contract.dataset) }.into())
}

async fn refresh_once(lake: &Lake, contract: &Contract, versions: &Table) -> Result<Days, LatestError> {
    let failed = failure(contract);
    let path = silver::path(&contract.dataset);
    let mut table = Table::open_widened(lake, &path, &silver::schema(contract), &["dt"]).await?;
    let shows = shows(&table).await?;
    if shows.is_some_and(|shows| shows >= versions.version()) {
        return Ok(None);
    }
    let changed = match shows {
        Some(shows) => versions.dts_changed_since(shows).await?,
        None => None,
    };
    let changed = match changed {
        Some(days) if is_much(&versions.partitions(0)?, &days) => None,
        changed => changed,
    };
    // All of it needs sorts only, which can go to disk; some days need a join with their keys, too.
    let context = match changed {
        None => sorting(contract, "versions", Some(versions), &silver_columns(contract)).await?,
        Some(_) => {
            let context = session::context();
            context.register_table("versions", versions.provider().await?).map_err(failed)?;
            context
        }
    };
    let days = match changed {
        Some(days) => Some(days_of_keys(&context, contract, &days).await.map_err(failed)?),
        None => None,
    };
    let replaced = days.as_ref().map_or(Replaced::All, Replaced::Days);
    let rows = latest(&context, contract, days.as_ref()).await.map_err(failed)?;
    let shows_now = i64::try_from(versions.version()).unwrap_or(i64::MAX);
    table.replace_streamed(rows, replaced, &[(SHOWS.to_owned(), shows_now)]).await?;
    Ok(days)
}

/// A session that sorts columns of a table through disk, in silver's types. Where there is no table there are no rows.
async fn sorting(
    contract: &Contract,
    name: &str,
    table: Option<&Table>,
    columns: &[String],
) -> Result<SessionContext, LatestError> {
    let rows: Arc<dyn TableProvider> = match table {
        Some(table) => table.provider().await?,
        None => Arc::new(EmptyTable::new(silver::schema(contract))),
    };
    let context = async {
        let memory = session::BY_ALL_COLUMNS.fitted(&rows, None).await?;
        let rows = as_silver(contract, session::bounded(&memory)?.read_table(rows)?, columns)?;
        let context = session::bounded(&memory)?;
        context.register_table(name, session::stream::rows_of(rows, memory.rows)?)?;
        Ok(context)
    };
    context.await.map_err(failure(contract))
}

fn silver_columns(contract: &Contract) -> Vec<String> {
    silver::schema(contract).fields().iter().map(|field| field.name().clone()).collect()
}

/// Whether what changed is too much for memory, and a good part of all.
fn is_much(versions: &BTreeMap<Partition, Files>, days: &BTreeSet<String>) -> bool {
    let has_changed = |partition: &Partition| {
        partition.get("dt").and_then(Option::as_ref).is_some_and(|day| days.contains(day))
    };
    let all: u64 = versions.values().map(|files| files.bytes).sum();
    let changed = versions.iter().filter(|(partition, _)| has_changed(partition));
    let changed: u64 = changed.map(|(_, files)| files.bytes).sum();
    changed > IN_MEMORY_BYTES_MAX && changed >= all / WHOLE_FROM_ONE_IN
}

async fn shows(silver: &Table) -> Result<Option<u64>, TableError> {
    Ok(silver.transaction(SHOWS).await?.and_then(|version| u64::try_from(version).ok()))
}

/// Whether silver was computed from versions, and not appended to.
pub(crate) async fn is_computed(silver: &Table) -> Result<bool, TableError> {
    Ok(shows(silver).await?.is_some())
}

/// Whether each expression of `latestBy` can be planned, and gives the same order on every day.
pub async fn plan(contract: &Contract) -> Result<(), DataFusionError> {
    if contract.latest_by.is_empty() {
        return Ok(());
    }
    let context = session::context();
    context.register_batch("versions", RecordBatch::new_empty(silver::schema(contract)))?;
    let plan = context.sql(&latest_sql(contract, None)).await?;
    plan.logical_plan().apply(|node| {
        for expr in node.expressions() {
            if expr.exists(changes)? {
                return Err(DataFusionError::Plan(
                    "a function whose answer changes gives another order each time".into(),
                ));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn changes(expr: &Expr) -> Result<bool, DataFusionError> {
    Ok(
        matches!(expr, Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable),
    )
}

/// The days, and those where keys of theirs have other versions.
async fn days_of_keys(
    context: &SessionContext,
    contract: &Contract,
    days: &BTreeSet<String>,
) -> Result<BTreeSet<String>, DataFusionError> {
    if days.is_empty() {
        return Ok(BTreeSet::new());
    }
    let keys = columns(&contract.key);
    let sql = format!(
        "SELECT DISTINCT dt FROM versions LEFT SEMI JOIN (SELECT DISTINCT {keys} FROM versions WHERE {}) AS changed USING ({keys})",
        on_days_sql(days)
    );
    let mut all = days.clone();
    for batch in context.sql(&sql).await?.collect().await? {
        let column = compute::cast(batch.column(0), &DataType::Utf8)?;
        all.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    Ok(all)
}

/// The latest version of each key, where it falls into one of the days, in silver's columns.
async fn latest(
    context: &SessionContext,
    contract: &Contract,
    days: Option<&BTreeSet<String>>,
) -> Result<DataFrame, DataFusionError> {
    if days.is_some_and(BTreeSet::is_empty) {
        return context.read_batch(RecordBatch::new_empty(silver::schema(contract)));
    }
    as_silver(contract, context.sql(&latest_sql(contract, days)).await?, &silver_columns(contract))
}

/// These columns of silver, in its types.
fn as_silver(contract: &Contract, rows: DataFrame, columns: &[String]) -> Result<DataFrame, DataFusionError> {
    let schema = silver::schema(contract);
    let columns = columns.iter().map(|name| {
        let column = schema.field_with_name(name)?;
        Ok(cast(ident(name), column.data_type().clone()).alias(name))
    });
    rows.select(columns.collect::<Result<Vec<_>, DataFusionError>>()?)
}

/// A later version is greater by the contract's expressions, then, where they tie or are null, by its
/// content, column by column: two versions of different content are never equal.
fn latest_sql(contract: &Contract, days: Option<&BTreeSet<String>>) -> String {
    let own = silver_columns(contract);
    let content: Vec<String> = contract.columns.iter().map(|column| quoted::name(&column.name)).collect();
    let order: Vec<String> = contract
        .latest_by
        .iter()
        .map(|expression| format!("({expression})"))
        .chain(content)
        .map(|expression| format!("{expression} DESC NULLS LAST"))
        .collect();
    let keys = columns(&contract.key);
    let (of_days, in_days) = match days {
        Some(days) => {
            let days = on_days_sql(days);
            (
                format!(
                    "LEFT SEMI JOIN (SELECT DISTINCT {keys} FROM versions WHERE {days}) AS changed USING ({keys})"
                ),
                format!(" AND {days}"),
            )
        }
        None => (String::new(), String::new()),
    };
    format!(
        "SELECT {own} FROM (SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY {order}) AS ingot_rank \
         FROM (SELECT {own} FROM versions {of_days}) AS versions) WHERE ingot_rank = 1{in_days}",
        own = columns(&own),
        order = order.join(", "),
    )
}

fn on_days_sql(days: &BTreeSet<String>) -> String {
    format!("dt IN ({})", quoted::texts(days))
}

fn columns(names: &[String]) -> String {
    names.iter().map(|name| quoted::name(name)).collect::<Vec<_>>().join(", ")
}

/// How many of these objects' rows silver shows, on these days or all.
pub async fn shown_of(
    lake: &Lake,
    contract: &Contract,
    objects: &HashSet<(String, String)>,
    days: &Days,
) -> Result<i64, LatestError> {
    let failed = failure(contract);
    let Some(table) = Table::open(lake, &silver::path(&contract.dataset)).await? else { return Ok(0) };
    let context = session::context();
    context.register_table("silver", table.provider().await?).map_err(failed)?;
    let days = days.as_ref().filter(|days| !days.is_empty()).map_or("TRUE".to_owned(), on_days_sql);
    let sql = format!(
        "SELECT bronze_key, bronze_etag, count(*) FROM silver WHERE {days} GROUP BY bronze_key, bronze_etag"
    );
    let mut shown = 0;
    for batch in context.sql(&sql).await.map_err(failed)?.collect().await.map_err(failed)? {
        let text = |column: usize| {
            compute::cast(batch.column(column), &DataType::Utf8)
                .map_err(|error| failed(DataFusionError::from(error)))
        };
        let (keys, etags) = (text(0)?, text(1)?);
        let ids = keys.as_string::<i32>().iter().zip(etags.as_string::<i32>());
        for ((key, etag), rows) in ids.zip(batch.column(2).as_primitive::<Int64Type>()) {
            let id = (key.unwrap_or_default().to_owned(), etag.unwrap_or_default().to_owned());
            shown += if objects.contains(&id) { rows.unwrap_or_default() } else { 0 };
        }
    }
    Ok(shown)
}

#[cfg(test)]
mod tests;
