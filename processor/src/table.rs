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
mod transactions;
mod vacuum;

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::DataFrame;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitProperties, TransactionError};
use deltalake::kernel::{StructType, Transaction};
use deltalake::operations::write::WriteBuilder;
use deltalake::protocol::SaveMode;
use deltalake::{DeltaTable, DeltaTableError};

use crate::lake::Lake;

pub(crate) use erase::{Cut, PLACE};
pub use files::{Files, Partition};
pub use log::{LogState, StoredFile};
pub use vacuum::KEEP_HOURS_MAX;

/// The transaction of every commit that replaces rows: delta-rs lets two replacements from one snapshot
/// pass each other in some cases, a common transaction never does.
const REPLACED: &str = "ingot/replaced";
/// The transaction of a commit that wrote a partition's files anew and changed no row.
const COMPACTED: &str = "ingot/compacted";
/// How long a table remembers which objects it has taken; longer than any queue redelivers.
const TRANSACTIONS_KEPT: &str = "interval 60 days";
/// Commits between checkpoints: opening a table reads at most so many small files.
const CHECKPOINT_INTERVAL: &str = "10";
/// Where rows are streamed, a data file is closed and handed to the store at this size: all days are open until the last
/// row, and each holds what it has written of its file.
const STREAMED_FILE_BYTES: u64 = 1024 * 1024;
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
        let kernel_schema: Result<StructType, _> = schema.as_ref().try_into_kernel();
        let kernel_schema = kernel_schema
            .map_err(|error| failed("creating", path)(DeltaTableError::generic(error.to_string())))?;
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

    /// Those of `app_ids` that have committed, in this snapshot; the log is read once.
    pub async fn transactions<'a>(
        &self,
        app_ids: impl IntoIterator<Item = &'a str>,
    ) -> Result<HashSet<String>, TableError> {
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

    /// Adds rows, with the transactions that say why, on top of this snapshot.
    pub async fn append(
        &mut self,
        batch: RecordBatch,
        transactions: &[(String, i64)],
    ) -> Result<(), CommitError> {
        self.write(Input::Rows(batch), SaveMode::Append, None, transactions).await
    }

    /// Replaces the rows that `predicate` selects by `batch`, on top of this snapshot.
    pub async fn replace_where(
        &mut self,
        batch: RecordBatch,
        predicate: Expr,
        transactions: &[(String, i64)],
    ) -> Result<(), CommitError> {
        self.replace(Input::Rows(batch), predicate, transactions).await
    }

    /// Replaces the rows that `predicate` selects by those of a [writing session](crate::session::writing), which are not
    /// held.
    pub(crate) async fn replace_streamed(
        &mut self,
        rows: DataFrame,
        predicate: Expr,
        transactions: &[(String, i64)],
    ) -> Result<(), CommitError> {
        let (state, plan) = rows.into_parts();
        self.replace(Input::Plan(Box::new(Plan { state, plan })), predicate, transactions).await
    }

    async fn replace(
        &mut self,
        input: Input,
        predicate: Expr,
        transactions: &[(String, i64)],
    ) -> Result<(), CommitError> {
        let version = i64::try_from(self.version()).unwrap_or(i64::MAX).saturating_add(1);
        let transactions = [transactions, &[(REPLACED.to_owned(), version)]].concat();
        self.write(input, SaveMode::Overwrite, Some(predicate), &transactions).await
    }

    /// Adds each object's rows unless a commit already did: exactly once over redelivery, any grouping
    /// and concurrent processors. The transaction's id is the object's.
    pub async fn append_once(&mut self, objects: &[(String, RecordBatch)]) -> Result<(), CommitError> {
        for conflicts in 0..CONFLICTS_MAX {
            self.refresh().await?;
            let taken = self.transactions(objects.iter().map(|(id, _)| id.as_str())).await?;
            let missing: Vec<_> = objects.iter().filter(|(id, _)| !taken.contains(id)).collect();
            let Some((_, first)) = missing.first() else { return Ok(()) };
            let rows = concat_batches(&first.schema(), missing.iter().map(|(_, rows)| rows))
                .map_err(failed::<ArrowError>("gathering rows for", &self.path))?;
            let transactions: Vec<_> = missing.iter().map(|(id, _)| (id.clone(), 1)).collect();
            match self.append(rows, &transactions).await {
                Err(CommitError::Conflict { .. }) => after_conflict(conflicts).await,
                done => return done,
            }
        }
        Err(CommitError::Conflict { table: self.path.clone() })
    }

    /// Rows that do not fit this table.
    pub(crate) fn unfit(&self, error: ArrowError) -> TableError {
        failed("gathering rows for", &self.path)(error)
    }

    async fn write(
        &mut self,
        input: Input,
        mode: SaveMode,
        predicate: Option<Expr>,
        transactions: &[(String, i64)],
    ) -> Result<(), CommitError> {
        let snapshot = self.delta.snapshot().map_err(failed("writing", &self.path))?;
        let now_ms = Utc::now().timestamp_millis();
        let transactions = transactions
            .iter()
            .map(|(id, version)| Transaction::new_with_last_update(id, *version, Some(now_ms)))
            .collect();
        // Old logs are upkeep's to remove: a commit would list the log for them, and need the right to delete.
        let commit = CommitProperties::default()
            .with_application_transactions(transactions)
            .with_cleanup_expired_logs(Some(false));
        let mut write = WriteBuilder::new(self.delta.log_store(), Some(snapshot.snapshot().clone()))
            .with_save_mode(mode)
            .with_commit_properties(commit);
        write = match input {
            Input::Rows(rows) => write.with_input_batches([rows]),
            Input::Plan(rows) => write
                .with_input_plan(rows.plan)
                .with_session_state(Arc::new(rows.state))
                .with_target_file_size(NonZeroU64::new(STREAMED_FILE_BYTES)),
        };
        if let Some(predicate) = predicate {
            write = write.with_replace_where(predicate);
        }
        match write.await {
            Ok(delta) => {
                self.delta = delta;
                Ok(())
            }
            Err(DeltaTableError::Transaction {
                source: TransactionError::CommitConflict(_) | TransactionError::MaxCommitAttempts(_),
            }) => Err(CommitError::Conflict { table: self.path.clone() }),
            Err(error) => Err(failed("writing", &self.path)(error).into()),
        }
    }
}

/// What is written: rows in memory, or a plan that streams them.
enum Input {
    Rows(RecordBatch),
    Plan(Box<Plan>),
}

struct Plan {
    state: SessionState,
    plan: LogicalPlan,
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
