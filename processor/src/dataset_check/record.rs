//! The table `checks`: every result of a dataset check, for those who look back.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::DataFusionError;

use super::{CheckResult, DatasetCheckError};
use crate::column::{number, text, utc};
use crate::contract::Contract;
use crate::lake::Lake;
use crate::session;
use crate::table::{Table, TableError};

/// Where the table is, below the lake.
pub const PATH: &str = "checks";

/// The table's columns; `subjects` is JSON, `window` as in [`CheckResult`].
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("dataset"),
        text("check"),
        text("window"),
        Field::new("value", DataType::Float64, true),
        text("expected"),
        Field::new("passed", DataType::Boolean, true),
        text("severity"),
        text("subjects"),
        number("subjects_more"),
        text("problem"),
        text("contract_version"),
        utc("checked_at"),
    ]))
}

/// Opens the table.
pub(super) async fn open(lake: &Lake) -> Result<Table, TableError> {
    Table::open_or_create(lake, PATH, &schema(), &["dataset"]).await
}

/// The results as the table has them.
pub(super) fn rows(results: &[CheckResult]) -> Result<RecordBatch, DataFusionError> {
    let text = |of: &dyn Fn(&CheckResult) -> Option<String>| -> ArrayRef {
        Arc::new(results.iter().map(of).collect::<StringArray>())
    };
    let subjects = |result: &CheckResult| serde_json::to_string(&result.subjects).ok();
    let at = results.iter().map(|result| result.at_ms.saturating_mul(1_000));
    let at = TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC");
    let more = results.iter().map(|result| result.subjects_more.cast_signed());
    Ok(RecordBatch::try_new(
        schema(),
        vec![
            text(&|result| Some(result.dataset.clone())),
            text(&|result| Some(result.check.clone())),
            text(&|result| Some(result.window.clone())),
            Arc::new(results.iter().map(|result| result.value).collect::<Float64Array>()),
            text(&|result| Some(result.expected.clone())),
            Arc::new(results.iter().map(|result| Some(result.passed)).collect::<BooleanArray>()),
            text(&|result| Some(result.severity.to_owned())),
            text(&subjects),
            Arc::new(Int64Array::from_iter_values(more)),
            text(&|result| result.problem.clone()),
            text(&|result| Some(result.contract_version.clone())),
            Arc::new(at),
        ],
    )?)
}

/// Those of the results that differ from what was last written of their check and window.
pub(super) async fn changed(
    record: &Table,
    contract: &Contract,
    results: &[CheckResult],
) -> Result<Vec<CheckResult>, DatasetCheckError> {
    let sql = format!(
        "SELECT check, \"window\", passed FROM (SELECT *, row_number() OVER (PARTITION BY check, \"window\" ORDER BY checked_at DESC) AS place FROM checks WHERE dataset = '{}') WHERE place = 1",
        contract.dataset
    );
    let mut last = BTreeSet::new();
    for batch in ask(record, &sql).await? {
        let column = |at: usize| cast(batch.column(at), &DataType::Utf8).map_err(DataFusionError::from);
        let (checks, windows) = (column(0)?, column(1)?);
        for row in 0..batch.num_rows() {
            last.insert((
                checks.as_string::<i32>().value(row).to_owned(),
                windows.as_string::<i32>().value(row).to_owned(),
                batch.column(2).as_boolean().value(row),
            ));
        }
    }
    let is_news =
        |result: &&CheckResult| !last.contains(&(result.check.clone(), result.window.clone(), result.passed));
    Ok(results.iter().filter(is_news).cloned().collect())
}

/// A check that fails.
#[derive(Debug, PartialEq, Eq)]
pub struct Failing {
    /// Its id.
    pub check: String,
    /// Windows whose newest result failed.
    pub windows: u64,
    /// The last one of these by name.
    pub newest: String,
}

/// The dataset's checks that fail by the newest result of a window; of days, when it is after `since_ms`
/// (since 1970-01-01 UTC), because a day that nothing comes to is not judged again.
pub async fn failing(lake: &Lake, dataset: &str, since_ms: i64) -> Result<Vec<Failing>, DatasetCheckError> {
    let sql = format!(
        "SELECT check, count(*), max(\"window\") FROM ( \
           SELECT *, row_number() OVER (PARTITION BY check, \"window\" ORDER BY checked_at DESC) AS place \
           FROM checks WHERE dataset = '{dataset}') \
         WHERE place = 1 AND NOT passed AND (\"window\" IN ('run', 'all', 'newest') \
           OR CAST(CAST(checked_at AS TIMESTAMP) AS BIGINT) / 1000000 > {since_ms}) \
         GROUP BY check ORDER BY check"
    );
    let mut failing = Vec::new();
    let Some(record) = Table::open(lake, PATH).await? else { return Ok(failing) };
    for batch in ask(&record, &sql).await? {
        let column = |at: usize| cast(batch.column(at), &DataType::Utf8).map_err(DataFusionError::from);
        let (checks, newest) = (column(0)?, column(2)?);
        for row in 0..batch.num_rows() {
            failing.push(Failing {
                check: checks.as_string::<i32>().value(row).to_owned(),
                windows: batch.column(1).as_primitive::<Int64Type>().value(row).unsigned_abs(),
                newest: newest.as_string::<i32>().value(row).to_owned(),
            });
        }
    }
    Ok(failing)
}

/// The windows of which there are results.
pub(super) async fn windows(
    record: &Table,
    contract: &Contract,
) -> Result<BTreeSet<String>, DatasetCheckError> {
    let sql = format!("SELECT DISTINCT \"window\" FROM checks WHERE dataset = '{}'", contract.dataset);
    let mut windows = BTreeSet::new();
    for batch in ask(record, &sql).await? {
        let column = cast(batch.column(0), &DataType::Utf8).map_err(DataFusionError::from)?;
        windows.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    Ok(windows)
}

async fn ask(record: &Table, sql: &str) -> Result<Vec<RecordBatch>, DatasetCheckError> {
    let session = session::context();
    session.register_table("checks", record.provider().await?)?;
    Ok(session.sql(sql).await?.collect().await?)
}
