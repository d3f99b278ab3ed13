//! Taking rows out of a table for good: out of its newest version, its files, and its log.
//!
//! The rows go by partition: a partition is read, written anew without them, and replaced on the same snapshot.
//! [`Table::cut`] then removes what older versions showed: the data files that the newest one does not, and the
//! whole log before a checkpoint of it, with the statistics and predicates that stood there. Nobody can open
//! an older version afterwards; that is the point.

use std::collections::BTreeSet;

use chrono::Duration;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{Expr, ident};
use datafusion::prelude::DataFrame;
use deltalake::DeltaTableError;
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::SaveMode;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::files::is;
use super::{COMPACTED, CommitError, Partition, Replaced, StoredFile, Table, TableError, failed, place};
use crate::session;

/// What a cut removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The version that stays.
    pub version: u64,
    /// Data files removed.
    pub data_files: u64,
    /// Files of the log removed.
    pub log_files: u64,
    /// Data files of no version that were left, because a writer may still be at work on them.
    pub in_flight: u64,
}

impl Table {
    /// The partitions that have rows at these [`places`](super::place::places).
    pub(crate) async fn partitions_at(&self, places: &RecordBatch) -> Result<Vec<Partition>, TableError> {
        let failed = failed("looking for rows in", &self.path);
        let found = async {
            let context = session::bounded(&session::BY_FEW_COLUMNS)?;
            let rows = context.read_table(self.provider().await.map_err(external)?)?;
            let columns: Vec<String> = self.partition_columns();
            let names: Vec<Expr> = columns.iter().map(ident).collect();
            let rows = place::at(&context, rows, places)?.select(names)?.distinct()?;
            let mut partitions = BTreeSet::new();
            for batch in rows.collect().await? {
                for row in 0..batch.num_rows() {
                    let value = |at: usize| {
                        let column = batch.column(at);
                        let text = datafusion::arrow::util::display::array_value_to_string(column, row)?;
                        Ok::<_, DataFusionError>((!column.is_null(row)).then_some(text))
                    };
                    let values = (0..columns.len()).map(|at| Ok((columns[at].clone(), value(at)?)));
                    partitions.insert(values.collect::<Result<Partition, DataFusionError>>()?);
                }
            }
            Ok::<_, DataFusionError>(partitions.into_iter().collect())
        };
        found.await.map_err(|error| failed(DeltaTableError::from(error)))
    }

    /// Writes a partition anew: without the rows at `places`, with those of `added`.
    pub(crate) async fn rewrite_without(
        &mut self,
        partition: &Partition,
        places: &RecordBatch,
        added: Option<RecordBatch>,
    ) -> Result<(), CommitError> {
        let rows = self.without(partition, places, added).await;
        let rows = rows.map_err(|error| self.unread(error))?;
        self.replace_streamed(rows, Replaced::One(partition), &[]).await
    }

    async fn without(
        &self,
        partition: &Partition,
        places: &RecordBatch,
        added: Option<RecordBatch>,
    ) -> Result<DataFrame, DataFusionError> {
        let context = session::bounded(&session::BY_FEW_COLUMNS)?;
        let rows = context.read_table(self.provider().await.map_err(external)?)?.filter(is(partition))?;
        let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
        let mut rows = place::elsewhere(&context, rows, places)?;
        if let Some(added) = added {
            let added = context.read_batch(added)?.select(names.iter().map(ident).collect::<Vec<_>>())?;
            rows = rows.union(added)?;
        }
        Ok(rows)
    }

    /// Removes a partition that is kept no longer. What is computed from this table stays: to those who look, no row changed.
    pub(crate) async fn expire(&mut self, partition: &Partition) -> Result<(), CommitError> {
        let times = self.times_expired(partition).await?;
        let expired = [(COMPACTED.to_owned(), self.next_version()), (expiry_of(partition), times + 1)];
        self.replace_by(Vec::new(), Replaced::One(partition), &expired).await
    }

    /// How often the partition was removed so far: rows may have come to it since.
    pub(crate) async fn times_expired(&self, partition: &Partition) -> Result<i64, TableError> {
        Ok(self.transaction(&expiry_of(partition)).await?.unwrap_or_default())
    }

    /// Commits a version that changes nothing, so that the log can begin with it.
    pub(crate) async fn mark(&mut self) -> Result<(), CommitError> {
        let marked = [(COMPACTED.to_owned(), self.next_version())];
        self.commit(Vec::new(), SaveMode::Append, None, &marked).await
    }

    fn unread(&self, error: DataFusionError) -> TableError {
        failed("reading", &self.path)(DeltaTableError::from(error))
    }

    /// Removes all that the newest version does not show: data files and the log before it. A file that no version
    /// ever had and that was written after `in_flight_ms` (since 1970-01-01 UTC) may be a writer's, and stays.
    pub(crate) async fn cut(&mut self, in_flight_ms: i64) -> Result<Cut, TableError> {
        self.refresh().await?;
        self.checkpoint().await?;
        let version = self.version();
        let mut cut = Cut { version, ..Cut::default() };
        let removed: BTreeSet<String> = self.vacuumable(VacuumMode::Lite).await?.into_iter().collect();
        let store = self.delta.log_store().object_store(None);
        let mut gone = Vec::new();
        for path in self.vacuumable(VacuumMode::Full).await? {
            let is_removed = removed.contains(&path);
            let path = Path::parse(&path).map_err(|error| {
                failed("looking for unused files of", &self.path)(deltalake::ObjectStoreError::from(error))
            })?;
            let Ok(meta) = store.head(&path).await else { continue };
            if is_removed || meta.last_modified.timestamp_millis() < in_flight_ms {
                gone.push(StoredFile { path, bytes: meta.size });
            } else {
                cut.in_flight += 1;
            }
        }
        cut.data_files = gone.len() as u64;
        self.remove(&gone).await?;
        let old = self.log_before(version).await?;
        cut.log_files = old.len() as u64;
        self.remove(&old).await?;
        Ok(cut)
    }

    async fn vacuumable(&self, mode: VacuumMode) -> Result<Vec<String>, TableError> {
        let plan = self
            .delta
            .clone()
            .vacuum()
            .with_mode(mode)
            .with_retention_period(Duration::zero())
            .with_enforce_retention_duration(false)
            .with_dry_run(true)
            .await;
        Ok(plan.map_err(failed("looking for unused files of", &self.path))?.1.files_deleted)
    }
}

/// The transaction that counts how often a partition was removed.
fn expiry_of(partition: &Partition) -> String {
    let values =
        partition.iter().map(|(column, value)| format!("{column}={}", value.as_deref().unwrap_or_default()));
    format!("ingot/expired/{}", values.collect::<Vec<_>>().join("/"))
}

fn external(error: TableError) -> DataFusionError {
    DataFusionError::External(error.into())
}
