//! The audit's books as tables of one SQL session: ledger, batches, drops, discard, discarded readings,
//! bronze as it is listed, and silver of each dataset.
//!
//! What is JSON in the lake, or is a listing, is read as a stream and never held as a whole. Sorts and
//! groups that are large go to disk ([`session::bounded`]), so the lake's size does not show in memory.

mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::AuditError;
use crate::column::text;
use crate::contract::Contract;
use crate::lake::Lake;
use crate::retention::expired;
use crate::session::stream::{self, rewritten};
use crate::table::Table;
use crate::{discard, ledger, quarantine, quoted, session, silver};

pub(super) use rows::GATEWAY_SQL;

/// The session, and the datasets in it: by name, the table of its silver.
pub(super) struct Books {
    pub session: SessionContext,
    pub silver: BTreeMap<String, String>,
}

impl Books {
    pub(super) async fn open(lake: &Lake, contracts: &[Contract]) -> Result<Self, AuditError> {
        let session = session::bounded(&session::BY_FEW_COLUMNS)?;
        registered(&session, lake, "ledger", ledger::PATH, &ledger::schema()).await?;
        registered(&session, lake, "quarantine", quarantine::PATH, &quarantine::schema()).await?;
        expired::register(&session, lake).await?;
        set_aside(&session, contracts).await?;
        // The batches of an object in quarantine are there, too.
        let batches =
            "SELECT bronze_key, batches FROM ledger UNION ALL SELECT bronze_key, batches FROM set_aside";
        let ledger = session.sql(batches).await?.into_view();
        let discarded = registered(&session, lake, "discard", discard::PATH, &discard::schema()).await?;
        let as_rows = |name: &str, schema, table: &Arc<dyn TableProvider>, columns, rewrite| {
            let (within, table) = (session.clone(), Arc::clone(table));
            let rows = stream::table(schema, move || rewritten(&within, &table, columns, rewrite))?;
            session.register_table(name, rows)
        };
        let batches: &[&str] = &["bronze_key", "batches"];
        as_rows("batches", rows::batch_schema(), &ledger, batches, rows::batch_rows)?;
        as_rows("drops", rows::drop_schema(), &ledger, batches, rows::drop_rows)?;
        let records: &[&str] = &["dataset", "bronze_key", "rule", "record"];
        as_rows("discarded", rows::reading_schema(), &discarded, records, rows::reading_rows)?;
        let names: Vec<String> = contracts.iter().map(|contract| contract.dataset.clone()).collect();
        let from = lake.clone();
        session.register_table(
            "bronze",
            stream::table(rows::listing_schema(), move || rows::listing(&from, names.clone()))?,
        )?;

        let mut tables = BTreeMap::new();
        for name in datasets(&session, contracts).await? {
            let table = format!("silver_{}", tables.len());
            let schema = match contracts.iter().find(|contract| contract.dataset == name) {
                Some(contract) => silver::schema(contract),
                None => Arc::new(Schema::new(vec![text("bronze_key"), text("bronze_etag")])),
            };
            // Where versions are kept, silver is computed from them, and held against them elsewhere.
            let versions = silver::versions_path(&name);
            let path = if lake.has_table(&versions).await? { versions } else { silver::path(&name) };
            registered(&session, lake, &table, &path, &schema).await?;
            tables.insert(name, table);
        }
        Ok(Self { session, silver: tables })
    }

    /// Runs a query and gives its rows, one at a time, to `each`.
    pub(super) async fn each_row(
        &self,
        sql: &str,
        mut each: impl FnMut(&Row<'_>) -> Result<(), DataFusionError>,
    ) -> Result<(), AuditError> {
        let mut rows = self.session.sql(sql).await?.execute_stream().await?;
        while let Some(batch) = rows.try_next().await? {
            let columns: Vec<ArrayRef> = batch.columns().iter().map(plain).collect::<Result<_, _>>()?;
            for at in 0..batch.num_rows() {
                each(&Row { columns: &columns, at })?;
            }
        }
        Ok(())
    }
}

/// Registers `set_aside`: the objects that a check keeps in quarantine under the contracts as they are now.
async fn set_aside(session: &SessionContext, contracts: &[Contract]) -> Result<(), DataFusionError> {
    let held = match contracts {
        [] => "NULL".to_owned(),
        _ => quoted::texts(contracts.iter().map(|contract| &contract.fingerprint)),
    };
    let sql = format!(
        "SELECT bronze_key, bronze_etag, batches FROM (
           SELECT *, row_number() OVER (PARTITION BY bronze_key, bronze_etag ORDER BY set_aside_at DESC) AS nth
           FROM quarantine)
         WHERE nth = 1 AND contract_fingerprint IN ({held})"
    );
    session.register_table("set_aside", session.sql(&sql).await?.into_view())?;
    Ok(())
}

/// Contracts' datasets and those of the ledger that no contract speaks for any more.
async fn datasets(session: &SessionContext, contracts: &[Contract]) -> Result<Vec<String>, DataFusionError> {
    let mut names: Vec<String> = contracts.iter().map(|contract| contract.dataset.clone()).collect();
    for batch in session.sql("SELECT DISTINCT dataset FROM ledger").await?.collect().await? {
        let column = plain(batch.column(0))?;
        names.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// One row of an answer.
pub(super) struct Row<'a> {
    columns: &'a [ArrayRef],
    at: usize,
}

impl Row<'_> {
    /// A text cell; null is empty.
    pub(super) fn text(&self, column: usize) -> &str {
        match self.columns[column].as_string_opt::<i32>() {
            Some(texts) if !self.columns[column].is_null(self.at) => texts.value(self.at),
            _ => "",
        }
    }

    /// A whole number; null is 0.
    pub(super) fn number(&self, column: usize) -> i64 {
        match self.columns[column].as_any().downcast_ref::<Int64Array>() {
            Some(numbers) if !self.columns[column].is_null(self.at) => numbers.value(self.at),
            _ => 0,
        }
    }

    /// A number of things.
    pub(super) fn count(&self, column: usize) -> u64 {
        u64::try_from(self.number(column)).unwrap_or_default()
    }
}

/// Texts and whole numbers in one representation, whatever the engine chose.
fn plain(column: &ArrayRef) -> Result<ArrayRef, DataFusionError> {
    let to = match column.data_type() {
        kind if kind.is_integer() => DataType::Int64,
        _ => DataType::Utf8,
    };
    Ok(cast(column, &to)?)
}

/// Registers a table of the lake, or an empty one where there is none.
async fn registered(
    session: &SessionContext,
    lake: &Lake,
    name: &str,
    path: &str,
    schema: &SchemaRef,
) -> Result<Arc<dyn TableProvider>, AuditError> {
    let provider = match Table::open(lake, path).await? {
        Some(table) => table.provider().await?,
        None => session.read_batch(RecordBatch::new_empty(Arc::clone(schema)))?.into_view(),
    };
    session.register_table(name, Arc::clone(&provider))?;
    Ok(provider)
}
