//! What Athena sees: the lake's tables in Glue's catalog, and views to explore them.
//!
//! [`describe`] says from the lake and its contracts what the catalog should have: [`entry`] is one table and
//! [`column`] one of its columns, with comments, units and marks of personal data from the contract, [`view`] the views. [`sync`] makes it so.
//! Athena reads Delta's log itself, so there are no partitions to register and no crawler; columns are kept in step
//! all the same, as Lake Formation's grants and people's eyes go by them. A table that the lake does not have yet
//! is named and left out.

pub mod column;
mod comment;
mod difference;
pub mod entry;
pub mod sync;
pub mod view;

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;

use crate::contract::Contract;
use crate::dataset_check::record;
use crate::lake::Lake;
use crate::table::{Table, TableError};
use crate::{discard, gold, ledger, origin, silver};
use entry::Entry;
use view::View;

/// The catalog could not be described.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A gold query.
    #[error("planning the gold query {name}: {source}")]
    Gold {
        /// The gold table.
        name: String,
        /// DataFusion's word.
        source: Box<DataFusionError>,
    },
    /// Two would have one name.
    #[error("two tables or views would be called {0} in the catalog; rename one in its contract")]
    Twice(String),
}

/// What the catalog should have.
#[derive(Debug)]
pub struct Catalog {
    /// The tables that the lake has.
    pub tables: Vec<Entry>,
    /// The views that they allow.
    pub views: Vec<View>,
    /// Paths of tables that the lake does not have yet.
    pub absent: Vec<String>,
}

/// What the database should have for the lake, which Athena finds at `location` (an `s3://` URL).
pub async fn describe(
    lake: &Lake,
    contracts: &[Contract],
    database: &str,
    location: &str,
) -> Result<Catalog, CatalogError> {
    let location = location.trim_end_matches('/');
    let mut catalog = Catalog { tables: Vec::new(), views: Vec::new(), absent: Vec::new() };
    for contract in contracts {
        let path = silver::path(&contract.dataset);
        if let Some(schema) = catalog.schema(lake, path.clone()).await? {
            let comments = comment::of_silver(contract, &schema);
            catalog.tables.push(Entry::silver(contract, &path, location, comments));
        }
        for query in &contract.gold {
            let path = gold::path(&query.name);
            let Some(schema) = catalog.schema(lake, path.clone()).await? else { continue };
            let plan = origin::plan(contract, query).await;
            let plan = plan.map_err(|source| CatalogError::Gold {
                name: query.name.clone(),
                source: Box::new(source),
            })?;
            let comments = comment::of_gold(contract, &schema, &origin::columns(&plan));
            catalog.tables.push(Entry::gold(contract, query, &path, location, comments));
        }
    }
    for (path, description, comments) in [
        (discard::PATH, comment::DISCARD_TABLE, comment::DISCARD),
        (ledger::PATH, comment::LEDGER_TABLE, comment::LEDGER),
        (record::PATH, comment::CHECKS_TABLE, comment::CHECKS),
    ] {
        if let Some(schema) = catalog.schema(lake, path.to_owned()).await? {
            catalog.tables.push(Entry::own(path, location, description, comment::of_own(comments, &schema)));
        }
    }
    catalog.views = view::views(contracts, &catalog.tables, database);
    let mut names = BTreeSet::new();
    let all =
        catalog.tables.iter().map(|table| &table.name).chain(catalog.views.iter().map(|view| &view.name));
    for name in all {
        if !names.insert(name) {
            return Err(CatalogError::Twice(name.clone()));
        }
    }
    Ok(catalog)
}

impl Catalog {
    /// The columns of the table at `path`; where there is none, that is noted.
    async fn schema(&mut self, lake: &Lake, path: String) -> Result<Option<SchemaRef>, CatalogError> {
        match Table::open(lake, &path).await? {
            Some(table) => Ok(Some(table.provider().await?.schema())),
            None => {
                self.absent.push(path);
                Ok(None)
            }
        }
    }
}
