//! A table's data files, and the one safe way to write a partition's files anew.
//!
//! A partition is read and replaced on the same snapshot. The commit carries the transaction that every
//! replacement of rows carries, so of two replacements from one snapshot the second is refused and
//! looks again; rows that are appended meanwhile are in files that the replacement never read, and stay.

use std::collections::BTreeMap;

use datafusion::common::DataFusionError;
use datafusion::logical_expr::{Expr, SortExpr, ident, lit};
use datafusion::prelude::DataFrame;
use deltalake::DeltaTableError;

use super::{COMPACTED, CommitError, Replaced, Table, TableError, failed};
use crate::session::{self, stream};

/// The value of each partition column; `None` is null.
pub type Partition = BTreeMap<String, Option<String>>;

/// The files of one partition in one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// How many.
    pub count: u64,
    /// Of these, smaller than asked for.
    pub small: u64,
    /// The small ones' bytes.
    pub small_bytes: u64,
    /// The bytes of all.
    pub bytes: u64,
    /// Their rows, as the log counts them.
    pub rows: u64,
}

impl Table {
    /// The files of each partition; those below `small_bytes` count as small.
    pub fn partitions(&self, small_bytes: u64) -> Result<BTreeMap<Partition, Files>, TableError> {
        let state = self.delta.snapshot().map_err(failed("listing the files of", &self.path))?;
        let mut partitions: BTreeMap<Partition, Files> = BTreeMap::new();
        for file in state.log_data().iter() {
            let files = partitions.entry(file.partition_values_map().into_iter().collect()).or_default();
            let bytes = u64::try_from(file.size()).unwrap_or_default();
            files.count += 1;
            if bytes < small_bytes {
                files.small += 1;
                files.small_bytes += bytes;
            }
            files.bytes += bytes;
            files.rows += file.num_records().unwrap_or_default() as u64;
        }
        Ok(partitions)
    }

    /// Writes the partition's rows of this snapshot anew, sorted by those of `order` that it has, in few files. No row changes.
    pub async fn rewrite(&mut self, partition: &Partition, order: &[&str]) -> Result<(), CommitError> {
        let rows = self.sorted(partition, order).await;
        let rows = rows.map_err(|error| failed("reading", &self.path)(DeltaTableError::from(error)))?;
        let compacted = [(COMPACTED.to_owned(), self.next_version())];
        self.replace_streamed(rows, Replaced::One(partition), &compacted).await
    }

    async fn sorted(&self, partition: &Partition, order: &[&str]) -> Result<DataFrame, DataFusionError> {
        let provider = self.provider().await.map_err(|error| DataFusionError::External(error.into()))?;
        let memory = session::BY_FEW_COLUMNS_AT_ONCE.fitted(&provider, Some(is(partition))).await?;
        let rows = session::bounded(&memory)?.read_table(provider)?.filter(is(partition))?;
        let rows = session::bounded(&memory)?.read_table(stream::rows_of(rows, memory.rows)?)?;
        let has = |column: &&&str| rows.schema().has_column_with_unqualified_name(column);
        let order: Vec<SortExpr> =
            order.iter().filter(has).map(|column| ident(*column).sort(true, true)).collect();
        if order.is_empty() { Ok(rows) } else { rows.sort(order) }
    }
}

/// The predicate that selects the partition.
pub(super) fn is(partition: &Partition) -> Expr {
    let columns = partition.iter().map(|(column, value)| match value {
        Some(value) => ident(column).eq(lit(value.as_str())),
        None => ident(column).is_null(),
    });
    columns.reduce(Expr::and).unwrap_or_else(|| lit(true))
}
