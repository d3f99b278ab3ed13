//! Asking the lake: SQL over silver, gold, discard and the ledger, read-only.

use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;

use crate::contract::Contract;
use crate::lake::Lake;
use crate::table::{Table, TableError};
use crate::{discard, gold, ledger, session};

/// A question could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The SQL.
    #[error("{0}")]
    Sql(#[from] DataFusionError),
}

/// A session that knows the lake's tables as `silver.<dataset>`, `gold.<name>`, `discard` and `ledger`.
pub async fn lake_session(lake: &Lake, contracts: &[Contract]) -> Result<SessionContext, QueryError> {
    let context = session::context();
    let silver = Arc::new(MemorySchemaProvider::new());
    let golden = Arc::new(MemorySchemaProvider::new());
    for contract in contracts {
        if let Some(table) = Table::open(lake, &format!("silver/{}", contract.dataset)).await? {
            silver.register_table(contract.dataset.clone(), table.provider().await?)?;
        }
        for query in &contract.gold {
            if let Some(table) = Table::open(lake, &gold::path(&query.name)).await? {
                golden.register_table(query.name.clone(), table.provider().await?)?;
            }
        }
    }
    if let Some(catalog) = context.catalog("datafusion") {
        catalog.register_schema("silver", silver)?;
        catalog.register_schema("gold", golden)?;
    }
    for name in [discard::PATH, ledger::PATH] {
        if let Some(table) = Table::open(lake, name).await? {
            context.register_table(name, table.provider().await?)?;
        }
    }
    Ok(context)
}

/// The answer to one SQL statement; statements that would change anything are refused.
pub async fn query(lake: &Lake, contracts: &[Contract], sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
    let context = lake_session(lake, contracts).await?;
    let read_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    Ok(context.sql_with_options(sql, read_only).await?.collect().await?)
}
