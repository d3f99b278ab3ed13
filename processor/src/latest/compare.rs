//! Silver held against the versions that it shows, row by row, for the audit.
//!
//! What silver should show and what it shows are sorted by key, each through disk and with memory of its own, and read
//! side by side: what is in memory does not grow with either.

use std::cmp::Ordering;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::row::{Row, RowConverter, Rows, SortField};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::ident;
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;

use super::{LatestError, failure, latest_sql, shows, silver_columns, sorting};
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
    let is_late = newest.first_changed_ms(shows).await?.is_none_or(|since_ms| since_ms < late_before_ms);
    let shown = match shows {
        _ if is_late => Some(newest.clone()),
        Some(version) => Some(newest.at_version(version).await?),
        None => None,
    };
    let (all, versions) = (rows(contract, Some(&newest)).await?, rows(contract, shown.as_ref()).await?);
    Ok(Some(Shown {
        versions,
        waiting: all - versions,
        silver: rows(contract, silver.as_ref()).await?,
        wrong: wrong(contract, shown.as_ref(), silver.as_ref()).await?,
    }))
}

async fn rows(contract: &Contract, table: Option<&Table>) -> Result<i64, LatestError> {
    let Some(table) = table else { return Ok(0) };
    let failed = failure(contract);
    let rows = session::context().read_table(table.provider().await?).map_err(failed)?;
    Ok(i64::try_from(rows.count().await.map_err(failed)?).unwrap_or(i64::MAX))
}

/// How many rows silver has too many or too few.
async fn wrong(
    contract: &Contract,
    versions: Option<&Table>,
    silver: Option<&Table>,
) -> Result<i64, LatestError> {
    let failed = failure(contract);
    let place = ["bronze_key", "bronze_etag", "ordinal", "dt"].map(String::from);
    let row = [&contract.key[..], &place].concat();
    let versions = sorting(contract, "versions", versions, &silver_columns(contract)).await?;
    let silver = sorting(contract, "silver", silver, &row).await?;
    let differing = async {
        // Of each key there is one row that silver should show: in the order of keys they are in the order of rows.
        let should = sorted(versions.sql(&latest_sql(contract, None)).await?, &row, &contract.key)?;
        let does = sorted(silver.table("silver").await?, &row, &row)?;
        let types = does.schema().fields().iter().map(|field| field.data_type().clone());
        differing(&ordered(types)?, should.execute_stream().await?, does.execute_stream().await?).await
    };
    differing.await.map_err(failed)
}

/// Columns of a table, in order.
fn sorted(rows: DataFrame, columns: &[String], by: &[String]) -> Result<DataFrame, DataFusionError> {
    let by = by.iter().map(|name| ident(name).sort(true, false)).collect();
    rows.select(columns.iter().map(ident).collect::<Vec<_>>())?.sort(by)
}

/// What makes bytes of rows that compare as the rows are ordered.
fn ordered(types: impl Iterator<Item = DataType>) -> Result<RowConverter, ArrowError> {
    let ascending = SortOptions { descending: false, nulls_first: false };
    RowConverter::new(types.map(|kind| SortField::new_with_options(kind, ascending)).collect())
}

/// How many rows are in one stream and not in the other, where both are in order.
async fn differing(
    form: &RowConverter,
    one: SendableRecordBatchStream,
    other: SendableRecordBatchStream,
) -> Result<i64, DataFusionError> {
    let (mut one, mut other) = (Ordered::new(one), Ordered::new(other));
    let mut differing = 0;
    loop {
        let order = match (one.row(form).await?, other.row(form).await?) {
            (None, None) => return Ok(differing),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.cmp(&other),
        };
        differing += i64::from(order.is_ne());
        one.next += usize::from(order.is_le());
        other.next += usize::from(order.is_ge());
    }
}

/// A stream of rows in order.
struct Ordered {
    stream: SendableRecordBatchStream,
    rows: Option<Rows>,
    /// The row of these that comes next.
    next: usize,
}

impl Ordered {
    fn new(stream: SendableRecordBatchStream) -> Self {
        Self { stream, rows: None, next: 0 }
    }

    /// The row that comes next; `None` at the end.
    async fn row(&mut self, form: &RowConverter) -> Result<Option<Row<'_>>, DataFusionError> {
        while self.rows.as_ref().is_none_or(|rows| self.next == rows.num_rows()) {
            let Some(batch) = self.stream.try_next().await? else { return Ok(None) };
            self.rows = Some(form.convert_columns(batch.columns())?);
            self.next = 0;
        }
        Ok(self.rows.as_ref().map(|rows| rows.row(self.next)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
    use datafusion::arrow::record_batch::RecordBatch;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

    use super::*;

    /// Rows of a text and a number, in batches of these lengths.
    fn stream(rows: &[(&str, Option<i64>)], lengths: &[usize]) -> SendableRecordBatchStream {
        let (texts, numbers): (Vec<&str>, Vec<Option<i64>>) = rows.iter().copied().unzip();
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        let all =
            RecordBatch::try_from_iter_with_nullable([("text", texts, false), ("number", numbers, true)]);
        let (all, mut from) = (all.unwrap(), 0);
        let cut = |length: &usize| {
            from += length;
            Ok(all.slice(from - length, *length))
        };
        let batches: Vec<_> = lengths.iter().map(cut).collect();
        Box::pin(RecordBatchStreamAdapter::new(all.schema(), futures::stream::iter(batches)))
    }

    #[tokio::test]
    async fn each_row_too_many_or_too_few_counts_once_wherever_the_batches_end() {
        let form = ordered([DataType::Utf8, DataType::Int64].into_iter()).unwrap();
        let one =
            [("", Some(1)), ("a", Some(-2)), ("a", Some(7)), ("a", None), ("c", Some(1)), ("c", Some(1))];
        let other = [("a", Some(-2)), ("a", Some(3)), ("a", None), ("c", Some(1)), ("d", Some(0))];
        for lengths in [vec![6], vec![1; 6], vec![0, 2, 0, 0, 4, 0]] {
            for others in [vec![5], vec![1; 5], vec![4, 0, 1]] {
                let differ =
                    async |one: SendableRecordBatchStream, other| differing(&form, one, other).await.unwrap();
                let (one, other) = (|| stream(&one, &lengths), || stream(&other, &others));
                assert_eq!(differ(one(), other()).await, 5);
                assert_eq!(differ(other(), one()).await, 5);
                assert_eq!(differ(one(), one()).await, 0);
                assert_eq!(differ(one(), stream(&[], &[])).await, 6);
            }
        }
    }
}
