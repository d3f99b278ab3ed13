//! Writes: rows added, partitions replaced, rows replaced; each is one commit on the snapshot last read.

use std::collections::BTreeSet;

use chrono::Utc;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{Expr, col, ident, lit};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::DataFrame;
use deltalake::delta_datafusion::expr::fmt_expr_to_sql;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake::kernel::{Action, Add, Transaction};
use deltalake::operations::write::WriteBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaResult, DeltaTableError};

use super::files::is;
use super::partitioned::{Partitioned, properties, sorted_by};
use super::{CONFLICTS_MAX, CommitError, Partition, Table, TableError, after_conflict, failed};
use crate::session::{self, stream};
use crate::silver::on_days;

/// The transaction of every commit that replaces rows: delta-rs lets two replacements from one snapshot
/// pass each other in some cases, a common transaction never does.
const REPLACED: &str = "ingot/replaced";

/// The partitions that a replacement replaces.
#[derive(Clone, Copy, Debug)]
pub enum Replaced<'a> {
    /// All of them.
    All,
    /// Those of these values of `dt`, which may be none.
    Days(&'a BTreeSet<String>),
    /// One.
    One(&'a Partition),
}

impl Replaced<'_> {
    fn holds<'a>(self, values: impl IntoIterator<Item = (&'a String, &'a Option<String>)>) -> bool {
        let mut values = values.into_iter();
        match self {
            Self::All => true,
            Self::Days(days) => values.any(|(column, value)| {
                column == "dt" && value.as_ref().is_some_and(|value| days.contains(value))
            }),
            Self::One(partition) => values.all(|(column, value)| partition.get(column) == Some(value)),
        }
    }

    fn predicate(self) -> Expr {
        match self {
            Self::All => lit(true),
            // No row is without a day. A bare FALSE is refused.
            Self::Days(days) if days.is_empty() => col("dt").is_null(),
            Self::Days(days) => on_days(days),
            Self::One(partition) => is(partition),
        }
    }
}

impl Table {
    /// Adds rows, with the transactions that say why, on top of this snapshot.
    pub async fn append(
        &mut self,
        rows: RecordBatch,
        transactions: &[(String, i64)],
    ) -> Result<(), CommitError> {
        let added = self.written(rows).await.map_err(failed("writing", &self.path))?;
        let actions = added.into_iter().map(Action::Add).collect();
        self.commit(actions, SaveMode::Append, None, transactions).await
    }

    async fn written(&self, rows: RecordBatch) -> DeltaResult<Vec<Add>> {
        let sorted = sorted_by(&rows, &self.partition_columns())?;
        drop(rows);
        let rows = RecordBatchStreamAdapter::new(sorted.schema(), futures::stream::iter([Ok(sorted)]));
        Partitioned::new(&self.delta)?.write(Box::pin(rows)).await
    }

    /// Adds each object's rows unless a commit already did: exactly once over redelivery, any grouping
    /// and concurrent processors. The transaction's id is the object's.
    pub async fn append_once(&mut self, objects: &[(String, RecordBatch)]) -> Result<(), CommitError> {
        for conflicts in 0..CONFLICTS_MAX {
            self.refresh().await?;
            let taken = self.transactions(objects.iter().map(|(id, _)| id.as_str())).await?;
            let missing: Vec<_> = objects.iter().filter(|(id, _)| !taken.contains_key(id)).collect();
            let Some((_, first)) = missing.first() else { return Ok(()) };
            let rows = concat_batches(&first.schema(), missing.iter().map(|(_, rows)| rows))
                .map_err(|error| self.unfit(error))?;
            let transactions: Vec<_> = missing.iter().map(|(id, _)| (id.clone(), 1)).collect();
            match self.append(rows, &transactions).await {
                Err(CommitError::Conflict { .. }) => after_conflict(conflicts).await,
                done => return done,
            }
        }
        Err(CommitError::Conflict { table: self.path.clone() })
    }

    /// Replaces whole partitions by these rows, on top of this snapshot. A row of another partition is an error.
    pub async fn replace(
        &mut self,
        rows: RecordBatch,
        replaced: Replaced<'_>,
        transactions: &[(String, i64)],
    ) -> Result<(), CommitError> {
        let added = self.written(rows).await.map_err(failed("writing", &self.path))?;
        self.replace_by(added, replaced, transactions).await
    }

    /// The same, with rows that are not held.
    pub(crate) async fn replace_streamed(
        &mut self,
        rows: DataFrame,
        replaced: Replaced<'_>,
        transactions: &[(String, i64)],
    ) -> Result<(), CommitError> {
        let added = self.streamed(rows, replaced).await.map_err(failed("writing", &self.path))?;
        self.replace_by(added, replaced, transactions).await
    }

    async fn streamed(&self, rows: DataFrame, replaced: Replaced<'_>) -> DeltaResult<Vec<Add>> {
        let columns = self.partition_columns();
        let rows = match replaced {
            // They have an order of their own.
            Replaced::One(_) => rows,
            _ if columns.is_empty() => rows,
            // In memory of its own: what the rows are made of may be sorting at the same time.
            _ => {
                let order = columns.iter().map(|column| ident(column).sort(true, true)).collect();
                let memory = session::BY_DAY.at_most(rows.task_ctx().session_config().batch_size());
                session::bounded(&memory)?.read_table(stream::rows_of(rows, memory.rows)?)?.sort(order)?
            }
        };
        Partitioned::new(&self.delta)?.write(rows.execute_stream().await?).await
    }

    /// Replaces whole partitions by these files.
    pub(super) async fn replace_by(
        &mut self,
        added: Vec<Add>,
        replaced: Replaced<'_>,
        transactions: &[(String, i64)],
    ) -> Result<(), CommitError> {
        let (actions, predicate) = self.replacing(added, replaced).map_err(failed("writing", &self.path))?;
        let transactions = [transactions, &[self.replacement()]].concat();
        self.commit(actions, SaveMode::Overwrite, Some(predicate), &transactions).await
    }

    /// The actions of a replacement, and its predicate.
    fn replacing(&self, added: Vec<Add>, replaced: Replaced<'_>) -> DeltaResult<(Vec<Action>, String)> {
        let predicate = fmt_expr_to_sql(&replaced.predicate())?;
        if let Some(stray) = added.iter().find(|file| !replaced.holds(&file.partition_values)) {
            let stray = &stray.partition_values;
            return Err(DeltaTableError::generic(format!("rows of {stray:?} do not replace {predicate}")));
        }
        let files = self.delta.snapshot()?.log_data();
        let removed = files.iter().filter(|file| replaced.holds(&file.partition_values_map()));
        let removed = removed.map(|file| Action::Remove(file.remove_action(true)));
        Ok((removed.chain(added.into_iter().map(Action::Add)).collect(), predicate))
    }

    /// Replaces the rows that `predicate` selects by `rows`, on top of this snapshot. Files that it selects some rows of
    /// are read, and written anew.
    pub async fn replace_where(&mut self, rows: RecordBatch, predicate: Expr) -> Result<(), CommitError> {
        let snapshot = self.delta.snapshot().map_err(failed("writing", &self.path))?;
        let properties = properties().map_err(failed("writing", &self.path))?;
        let write = WriteBuilder::new(self.delta.log_store(), Some(snapshot.snapshot().clone()))
            .with_writer_properties(properties)
            .with_save_mode(SaveMode::Overwrite)
            .with_commit_properties(carrying(&[self.replacement()]))
            .with_input_batches([rows])
            .with_replace_where(predicate);
        self.delta = write.await.map_err(|error| self.refused(error))?;
        Ok(())
    }

    /// Commits what was written, with its transactions.
    pub(super) async fn commit(
        &mut self,
        actions: Vec<Action>,
        mode: SaveMode,
        predicate: Option<String>,
        transactions: &[(String, i64)],
    ) -> Result<(), CommitError> {
        let partition_by = Some(self.partition_columns()).filter(|columns| !columns.is_empty());
        let snapshot = self.delta.snapshot().map_err(failed("writing", &self.path))?.snapshot().clone();
        let committed = CommitBuilder::from(carrying(transactions))
            .with_actions(actions)
            .build(
                Some(&snapshot),
                self.delta.log_store(),
                DeltaOperation::Write { mode, partition_by, predicate },
            )
            .await;
        let committed = committed.map_err(|error| self.refused(error))?;
        self.delta.state = Some(committed.snapshot());
        Ok(())
    }

    pub(super) fn refused(&self, error: DeltaTableError) -> CommitError {
        match error {
            DeltaTableError::Transaction {
                source: TransactionError::CommitConflict(_) | TransactionError::MaxCommitAttempts(_),
            } => CommitError::Conflict { table: self.path.clone() },
            error => failed("writing", &self.path)(error).into(),
        }
    }

    fn replacement(&self) -> (String, i64) {
        (REPLACED.to_owned(), self.next_version())
    }

    /// The version that the next commit makes, if nobody is faster.
    pub(crate) fn next_version(&self) -> i64 {
        i64::try_from(self.version()).unwrap_or(i64::MAX).saturating_add(1)
    }

    pub(crate) fn partition_columns(&self) -> Vec<String> {
        let state = self.delta.snapshot();
        state.map(|state| state.metadata().partition_columns().to_vec()).unwrap_or_default()
    }

    /// Rows that do not fit this table.
    pub(crate) fn unfit(&self, error: ArrowError) -> TableError {
        failed("gathering rows for", &self.path)(error)
    }
}

/// Old logs are upkeep's to remove: a commit would list the log for them, and need the right to delete.
pub(super) fn carrying(transactions: &[(String, i64)]) -> CommitProperties {
    let now_ms = Utc::now().timestamp_millis();
    let transactions = transactions
        .iter()
        .map(|(id, version)| Transaction::new_with_last_update(id, *version, Some(now_ms)));
    CommitProperties::default()
        .with_application_transactions(transactions.collect())
        .with_cleanup_expired_logs(Some(false))
}

#[cfg(test)]
mod tests;
