//! Asking the lake: SQL over silver, gold, discard and the ledger, read-only.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;

use crate::contract::Contract;
use crate::dataset_check::record;
use crate::lake::Lake;
use crate::table::{Table, TableError};
use crate::{discard, gold, ledger, quarantine, session, silver};

/// A question could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The SQL.
    #[error("{0}")]
    Sql(#[from] DataFusionError),
}

/// A session that knows the lake's tables as `silver.<dataset>`, `versions.<dataset>`, `gold.<name>`, `discard`, `ledger`,
/// `quarantine` and `checks`.
/// A table is opened when a question names it.
pub fn lake_session(lake: &Lake, contracts: &[Contract]) -> Result<SessionContext, DataFusionError> {
    let context = session::context();
    let datasets = || contracts.iter().map(|contract| contract.dataset.clone());
    let silver = datasets().map(|dataset| (dataset.clone(), silver::path(&dataset)));
    let versions = datasets().map(|dataset| (dataset.clone(), silver::versions_path(&dataset)));
    let queries = contracts.iter().flat_map(|contract| &contract.gold);
    let golden = queries.map(|query| (query.name.clone(), gold::path(&query.name)));
    let own = [discard::PATH, ledger::PATH, quarantine::PATH, record::PATH]
        .map(|name| (name.to_owned(), name.to_owned()));
    let catalog = context.catalog("datafusion").ok_or_else(|| no_catalog("datafusion"))?;
    for (schema, paths) in [
        ("silver", silver.collect::<BTreeMap<_, _>>()),
        ("versions", versions.collect()),
        ("gold", golden.collect()),
        ("public", own.into_iter().collect()),
    ] {
        catalog.register_schema(schema, Arc::new(Tables { lake: lake.clone(), paths }))?;
    }
    Ok(context)
}

fn no_catalog(name: &str) -> DataFusionError {
    DataFusionError::Internal(format!("the session has no catalog {name}"))
}

/// One schema: tables by name, each below the lake at its path.
#[derive(Debug)]
struct Tables {
    lake: Lake,
    paths: BTreeMap<String, String>,
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.paths.keys().filter(|name| self.table_exist(name)).cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some(path) = self.paths.get(name) else { return Ok(None) };
        let external = |error: TableError| DataFusionError::External(error.into());
        match Table::open(&self.lake, path).await.map_err(external)? {
            Some(table) => Ok(Some(table.provider().await.map_err(external)?)),
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.paths.get(name).is_some_and(|path| self.lake.may_have(path))
    }
}

/// The answer to one SQL statement; statements that would change anything are refused.
pub async fn query(lake: &Lake, contracts: &[Contract], sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
    let context = lake_session(lake, contracts)?;
    let read_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    Ok(context.sql_with_options(sql, read_only).await?.collect().await?)
}
