//! The report: one HTML file, without scripts or anything fetched, that shows a lake to a person.
//!
//! The balance first, then why rows were discarded, then gold as curves. Numbers come from the audit and
//! from queries that the reader can run too (each plot names its own).

mod page;
mod plot;

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::DataFusionError;
use datafusion::prelude::SessionContext;

use crate::audit::{AuditError, Balance, audit};
use crate::contract::Contract;
use crate::lake::Lake;
use crate::query::{QueryError, lake_session};

/// Most devices drawn in one plot; the rest would be a hedge.
const DEVICES_DRAWN_MAX: usize = 6;

/// The report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The balance.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A query.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A plot.
    #[error("drawing {plot}: {reason}")]
    Plot {
        /// What was drawn.
        plot: String,
        /// The drawing library's word.
        reason: String,
    },
}

impl From<DataFusionError> for ReportError {
    fn from(error: DataFusionError) -> Self {
        Self::Query(error.into())
    }
}

/// Curves by name: points of (hours since the first window, value).
pub(crate) type Curves = BTreeMap<String, Vec<(f64, f64)>>;

/// The lake as an HTML page.
pub async fn report(lake: &Lake, contracts: &[Contract]) -> Result<String, ReportError> {
    let balance = audit(lake, contracts).await?;
    let session = lake_session(lake, contracts)?;
    let mut sections = vec![page::balance(&balance)];
    if let Some(section) = discards(&session, &balance).await? {
        sections.push(section);
    }
    if session.table_exist("gold.sensor_hourly")? {
        sections.extend(sensors(&session).await?);
    }
    if session.table_exist("gold.orders_by_status")? {
        sections.push(orders(&session).await?);
    }
    Ok(page::page(lake.url().as_str(), &sections))
}

async fn discards(session: &SessionContext, balance: &Balance) -> Result<Option<String>, ReportError> {
    if balance.discarded + balance.duplicates == 0 {
        return Ok(None);
    }
    let sql = "SELECT rule, CAST(count(*) AS DOUBLE) AS count FROM discard GROUP BY rule ORDER BY count DESC";
    let bars: Vec<(String, f64)> =
        table(session, sql).await?.into_iter().map(|(names, values)| (names[0].clone(), values[0])).collect();
    Ok(Some(page::section("Discarded, by reason", sql, &plot::bars("rows", &bars)?)))
}

async fn sensors(session: &SessionContext) -> Result<Vec<String>, ReportError> {
    let sql = "SELECT channel, device, CAST(date_part('epoch', window_start) AS DOUBLE) AS epoch_s, mean, min, max \
               FROM gold.sensor_hourly ORDER BY channel, device, epoch_s";
    let rows = table(session, sql).await?;
    let first_s = rows.iter().map(|(_, values)| values[0]).fold(f64::INFINITY, f64::min);
    let mut channels: BTreeMap<String, Curves> = BTreeMap::new();
    for (names, values) in rows {
        let curves = channels.entry(names[0].clone()).or_default();
        if curves.len() < DEVICES_DRAWN_MAX || curves.contains_key(&names[1]) {
            let hours = (values[0] - first_s) / 3_600.0;
            curves.entry(names[1].clone()).or_default().push((hours, values[1]));
        }
    }
    channels
        .into_iter()
        .map(|(channel, curves)| {
            let title = format!("Gold: hourly mean of {channel}, up to {DEVICES_DRAWN_MAX} devices");
            Ok(page::section(&title, sql, &plot::curves(&channel, &curves)?))
        })
        .collect()
}

async fn orders(session: &SessionContext) -> Result<String, ReportError> {
    let sql = "SELECT status, CAST(sum(count) AS DOUBLE) AS count FROM gold.orders_by_status GROUP BY status ORDER BY count DESC";
    let bars: Vec<(String, f64)> =
        table(session, sql).await?.into_iter().map(|(names, values)| (names[0].clone(), values[0])).collect();
    Ok(page::section("Gold: orders by status", sql, &plot::bars("orders", &bars)?))
}

/// A query's rows: its text columns, then its number columns, each in order; nulls are "" and NaN.
async fn table(session: &SessionContext, sql: &str) -> Result<Vec<(Vec<String>, Vec<f64>)>, ReportError> {
    let mut rows = Vec::new();
    for batch in session.sql(sql).await?.collect().await? {
        let mut texts = Vec::new();
        let mut numbers = Vec::new();
        for column in batch.columns() {
            if column.data_type() == &DataType::Float64 {
                numbers.push(column.as_primitive::<Float64Type>().clone());
            } else {
                let text = cast(column, &DataType::Utf8).map_err(DataFusionError::from)?;
                texts.push(text.as_string::<i32>().clone());
            }
        }
        for row in 0..batch.num_rows() {
            let text =
                texts.iter().map(|text| if text.is_null(row) { "" } else { text.value(row) }.to_owned());
            let number = numbers.iter().map(|n| if n.is_null(row) { f64::NAN } else { n.value(row) });
            rows.push((text.collect(), number.collect()));
        }
    }
    Ok(rows)
}
