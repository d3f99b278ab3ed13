//! Silver held against the versions that it shows, row by row, for the audit.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::prelude::SessionContext;

use super::{LatestError, failure, latest_sql, shows};
use crate::contract::Contract;
use crate::lake::Lake;
use crate::session;
use crate::silver;
use crate::table::Table;

/// How silver stands to the versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Versions that silver was computed from.
    pub versions: i64,
    /// Versions that came later.
    pub waiting: i64,
    /// Rows of silver.
    pub silver: i64,
    /// Rows that silver should have and has not, or has and should not.
    pub wrong: i64,
}

/// Holds silver against the versions, row by row; `None` for a contract without `latestBy` or without rows.
/// Silver may show an earlier state of the versions, if what it lacks was not written before `late_before_ms`
/// (milliseconds since 1970-01-01 UTC).
pub async fn compare(
    lake: &Lake,
    contract: &Contract,
    late_before_ms: i64,
) -> Result<Option<Shown>, LatestError> {
    if contract.latest_by.is_empty() {
        return Ok(None);
    }
    // Silver first: the versions are then no older than what it shows.
    let silver = Table::open(lake, &silver::path(&contract.dataset)).await?;
    let Some(newest) = Table::open(lake, &silver::rows_path(contract)).await? else { return Ok(None) };
    let shows = match &silver {
        Some(silver) => shows(silver).await?,
        None => None,
    };
    let failed = failure(contract);
    let context = session::bounded(&session::BY_ALL_COLUMNS).map_err(failed)?;
    context.register_table("newest", newest.provider().await?).map_err(failed)?;
    let is_late = newest.first_changed_ms(shows).await?.is_none_or(|since_ms| since_ms < late_before_ms);
    let shown = match shows {
        _ if is_late => Some(newest),
        Some(version) => Some(newest.at_version(version).await?),
        None => None,
    };
    for (name, table) in [("versions", &shown), ("silver", &silver)] {
        match table {
            Some(table) => context.register_table(name, table.provider().await?),
            None => context.register_batch(name, RecordBatch::new_empty(silver::schema(contract))),
        }
        .map_err(failed)?;
    }
    let counts = [
        "SELECT count(*) FROM versions".to_owned(),
        "SELECT count(*) FROM newest".to_owned(),
        "SELECT count(*) FROM silver".to_owned(),
        wrong_sql(contract),
    ];
    let mut numbers = [0; 4];
    for (number, sql) in numbers.iter_mut().zip(counts) {
        *number = count(&context, &sql).await.map_err(failed)?;
    }
    let [versions, newest, silver, wrong] = numbers;
    Ok(Some(Shown { versions, waiting: newest - versions, silver, wrong }))
}

/// How many rows silver has too many or too few: each place of a row counts up in what silver should show, and down in
/// what it shows. One sum, which goes to disk; a join would hold both sides sorted.
fn wrong_sql(contract: &Contract) -> String {
    let row = "bronze_key, bronze_etag, ordinal, dt";
    let should = latest_sql(contract, None);
    format!(
        "SELECT coalesce(sum(abs(surplus)), 0) FROM (SELECT sum(side) AS surplus FROM (
           SELECT {row}, -1 AS side FROM ({should}) UNION ALL SELECT {row}, 1 FROM silver)
         GROUP BY {row})"
    )
}

async fn count(context: &SessionContext, sql: &str) -> Result<i64, DataFusionError> {
    let batches = context.sql(sql).await?.collect().await?;
    Ok(batches.first().map_or(0, |batch| batch.column(0).as_primitive::<Int64Type>().value(0)))
}
