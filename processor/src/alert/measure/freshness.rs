//! How old silver's newest row is.
//!
//! A row that is dated ahead of time is no sign that anything comes: one of the year 2100 would be the newest for long.

use chrono::DateTime;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;

use super::{AlertError, Signal};
use crate::contract::Contract;
use crate::lake::Lake;
use crate::table::Table;
use crate::{quoted, session, silver};

/// Minutes since the time of silver's newest row up to now; `None` while there is no row.
pub(super) async fn freshness(
    lake: &Lake,
    contract: &Contract,
    now_ms: i64,
) -> Result<Option<Vec<Signal>>, AlertError> {
    let Some(silver) = Table::open(lake, &silver::path(&contract.dataset)).await? else {
        return Ok(None);
    };
    let context = session::context();
    context.register_table("silver", silver.provider().await?)?;
    let time = quoted::name(&contract.partition_by);
    let now_us = now_ms.saturating_mul(1_000);
    let mut found_us = newest_us(&context, &time, "").await?;
    // The newest of all is in the files' statistics; the newest that counts is looked for where it is another.
    if found_us.is_some_and(|newest_us| newest_us > now_us) {
        let past = format!("WHERE CAST(CAST({time} AS TIMESTAMP(6)) AS BIGINT) <= {now_us}");
        found_us = newest_us(&context, &time, &past).await?;
    }
    Ok(found_us.map(|newest_us| {
        let value = (now_us - newest_us) as f64 / 60_000_000.0;
        let newest = DateTime::from_timestamp_millis(newest_us / 1_000).unwrap_or_default();
        let summary = format!("the newest row is of {}, {value:.0} minutes ago", newest.to_rfc3339());
        vec![Signal { value, summary, ..Signal::default() }]
    }))
}

/// The newest time in microseconds, as the table has it: nanoseconds end in the year 2262.
async fn newest_us(context: &SessionContext, time: &str, rows: &str) -> Result<Option<i64>, AlertError> {
    let sql = format!("SELECT CAST(CAST(max({time}) AS TIMESTAMP(6)) AS BIGINT) FROM silver {rows}");
    let batches = context.sql(&sql).await?.collect().await?;
    let newest = |column: &datafusion::arrow::array::ArrayRef| {
        column.as_primitive_opt::<Int64Type>()?.iter().next().flatten()
    };
    Ok(batches.first().and_then(|batch| newest(batch.column(0))))
}
