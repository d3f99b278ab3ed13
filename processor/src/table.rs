//! A Delta table, narrowed to what exactly-once promotion needs.
//!
//! Every commit is built on the snapshot last [`refreshed`](Table::refresh) and carries application
//! transactions. A commit that lost a race is [`CommitError::Conflict`]: refresh, look again at what is
//! there, and decide anew. Two things of delta-rs are never called: `optimize` (two concurrent runs
//! duplicate every row) and an overwrite or delete without a predicate.

mod changes;
mod erase;
mod files;
mod log;
mod partitioned;
pub(crate) mod place;
mod transactions;
mod vacuum;
mod widen;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::protocol::SaveMode;
use deltalake::{DeltaTable, DeltaTableError};

use crate::lake::Lake;

pub(crate) use erase::Cut;
pub use files::{Files, Partition};
pub use log::{LogState, StoredFile};
pub use vacuum::KEEP_HOURS_MAX;
pub use write::Replaced;

/// The transaction of a commit that wrote a partition's files anew and changed no row.
const COMPACTED: &str = "ingot/compacted";
/// How long a table remembers which objects it has taken; longer than any queue redelivers.
const TRANSACTIONS_KEPT: &str = "interval 60 days";
/// Commits between checkpoints: opening a table reads at most so many small files.
const CHECKPOINT_INTERVAL: &str = "10";
/// Lost races before a commit gives up; each means that another processor has made progress.
pub const CONFLICTS_MAX: u32 = 50;

/// A table failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} the table {table}: {source}")]
pub struct TableError {
    operation: &'static str,
    table: String,
    #[source]
    source: Box<DeltaTableError>,
}

/// A commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another writer was first; refresh and decide anew.
    #[error("another writer changed the table {table} first")]
    Conflict {
        /// The table.
        table: String,
    },
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl CommitError {
    /// What is wrong where rows have other columns than the table.
    pub(crate) fn other_columns(&self) -> Option<&str> {
        match self {
            Self::Table(TableError { source, .. }) => match source.as_ref() {
                DeltaTableError::SchemaMismatch { msg } => Some(msg),
                _ => None,
            },
            Self::Conflict { .. } => None,
        }
    }
}

/// An open table at one of its versions.
#[derive(Clone, Debug)]
pub struct Table {
    path: String,
    delta: DeltaTable,
}

impl Table {
    /// Opens the table at `path` below the lake; `None` where there is none yet.
    pub async fn open(lake: &Lake, path: &str) -> Result<Option<Self>, TableError> {
        if !lake.may_have(path) {
            return Ok(None);
        }
        let table = Self::at(lake, path).await?;
        Ok(table.delta.version().is_some().then_some(table))
    }

    /// Opens the table, creating it where there is none; a racing creator is fine.
    pub async fn open_or_create(
        lake: &Lake,
        path: &str,
        schema: &SchemaRef,
        partitions: &[&str],
    ) -> Result<Self, TableError> {
        let table = Self::at(lake, path).await?;
        if table.delta.version().is_some() {
            return Ok(table);
        }
        let kernel_schema = kernel_schema(schema).map_err(failed("creating", path))?;
        let created = table
            .delta
            .clone()
            .create()
            .with_columns(kernel_schema.fields().cloned())
            .with_partition_columns(partitions.iter().copied())
            .with_configuration([
                ("delta.setTransactionRetentionDuration", Some(TRANSACTIONS_KEPT)),
                ("delta.checkpointInterval", Some(CHECKPOINT_INTERVAL)),
            ])
            .with_save_mode(SaveMode::ErrorIfExists)
            .await;
        match created {
            Ok(delta) => Ok(Self { path: path.to_owned(), delta }),
            // Another processor may have created it in this moment; if so, it can be opened now.
            Err(error) => Self::open(lake, path).await?.ok_or_else(|| failed("creating", path)(error)),
        }
    }

    async fn at(lake: &Lake, path: &str) -> Result<Self, TableError> {
        let delta = lake.delta_table(path).await.map_err(failed("opening", path))?;
        Ok(Self { path: path.to_owned(), delta })
    }

    /// The version of the table at `path`; `None` where there is none yet.
    pub async fn version_of(lake: &Lake, path: &str) -> Result<Option<u64>, TableError> {
        Ok(Self::open(lake, path).await?.map(|table| table.version()))
    }

    /// The version that this snapshot shows.
    pub fn version(&self) -> u64 {
        self.delta.version().unwrap_or_default()
    }

    /// Moves on to the newest version.
    pub async fn refresh(&mut self) -> Result<(), TableError> {
        self.delta.update_state().await.map_err(failed("refreshing", &self.path))
    }

    /// This table at an earlier version.
    pub async fn at_version(&self, version: u64) -> Result<Self, TableError> {
        let mut earlier = self.clone();
        let loaded = earlier.delta.load_version(version).await;
        loaded.map_err(failed("opening an earlier version of", &self.path))?;
        Ok(earlier)
    }

    /// The last version that `app_id` committed, in this snapshot.
    pub async fn transaction(&self, app_id: &str) -> Result<Option<i64>, TableError> {
        let failed = failed("looking up a transaction in", &self.path);
        match self.delta.snapshot() {
            Ok(state) => state.transaction_version(&*self.delta.log_store(), app_id).await.map_err(failed),
            Err(error) => Err(failed(error)),
        }
    }

    /// Those of `app_ids` that have committed, in this snapshot, with their last versions; the log is read once.
    pub async fn transactions<'a>(
        &self,
        app_ids: impl IntoIterator<Item = &'a str>,
    ) -> Result<HashMap<String, i64>, TableError> {
        let wanted = app_ids.into_iter().collect();
        let taken = transactions::taken(&self.delta.log_store(), self.version(), &wanted).await;
        taken.map_err(failed("looking up transactions in", &self.path))
    }

    /// Bytes of this snapshot's data files.
    pub fn bytes(&self) -> Result<u64, TableError> {
        let state = self.delta.snapshot().map_err(failed("sizing", &self.path))?;
        Ok(state.log_data().iter().map(|file| u64::try_from(file.size()).unwrap_or(0)).sum())
    }

    /// A provider of this snapshot's rows for DataFusion.
    pub async fn provider(&self) -> Result<Arc<dyn TableProvider>, TableError> {
        self.delta.table_provider().await.map_err(failed("reading", &self.path))
    }
}

/// The columns as delta writes them down.
fn kernel_schema(schema: &SchemaRef) -> Result<StructType, DeltaTableError> {
    let schema: Result<StructType, _> = schema.as_ref().try_into_kernel();
    schema.map_err(|error| DeltaTableError::generic(error.to_string()))
}

/// Waits a little, longer with each lost race and never the same for two writers.
pub async fn after_conflict(conflicts: u32) {
    let most_ms = 10_u64 << conflicts.min(6);
    tokio::time::sleep(Duration::from_millis(fastrand::u64(..most_ms))).await;
}

fn failed<E: Into<DeltaTableError>>(operation: &'static str, table: &str) -> impl FnOnce(E) -> TableError {
    let table = table.to_owned();
    move |source| TableError { operation, table, source: Box::new(source.into()) }
}
