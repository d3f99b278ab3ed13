//! Compaction: the many small files of a closed partition become few, and no row changes.
//!
//! A partition is read and written back in one commit on the same snapshot ([`crate::table`] says
//! why that is safe beside other processors and other compactions). A partition is closed when its day is
//! over for long enough; one without a day, as the ledger's, is never written again and again by late
//! rows alone, so it is taken whenever it has enough small files.

use chrono::{DateTime, Days};
use serde::Serialize;

use crate::contract::Contract;
use crate::lake::Lake;
use crate::table::{CONFLICTS_MAX, CommitError, Files, Partition, Table, TableError, after_conflict};
use crate::{discard, ledger};

/// When a partition is worth writing anew.
#[derive(Clone, Copy, Debug)]
pub struct CompactSettings {
    /// Days after a partition's own day until it is closed.
    pub closed_after_days: u64,
    /// Small files that make it worth while.
    pub small_files_min: u64,
    /// What is small, in bytes.
    pub small_file_bytes: u64,
}

impl Default for CompactSettings {
    fn default() -> Self {
        Self { closed_after_days: 1, small_files_min: 8, small_file_bytes: 16 * 1024 * 1024 }
    }
}

/// A partition that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The table, below the lake.
    pub table: String,
    /// The partition.
    pub partition: Partition,
    /// Its files.
    pub files: Files,
    order: Vec<String>,
}

/// What compacting a partition came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// The table, below the lake.
    pub table: String,
    /// The partition, as its folder is named.
    pub partition: String,
    /// Files before.
    pub files_before: u64,
    /// Files now.
    pub files_after: u64,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes now.
    pub bytes_after: u64,
    /// Rows, which stay as they are.
    pub rows: u64,
}

/// The partition could not be compacted; its rows are as they were.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The table failed or stayed contended.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<TableError> for CompactError {
    fn from(error: TableError) -> Self {
        Self::Commit(error.into())
    }
}

impl Due {
    /// The partition as its folder is named, e.g. `dt=2026-01-01`.
    pub fn partition_name(&self) -> String {
        let named = self.partition.iter().map(|(column, value)| {
            format!("{column}={}", value.as_deref().unwrap_or("__HIVE_DEFAULT_PARTITION__"))
        });
        named.collect::<Vec<_>>().join("/")
    }
}

/// The partitions of silver, discard and ledger that are due at `now_ms`. Gold is replaced day by day
/// and stays in few files by itself.
pub async fn due(
    lake: &Lake,
    contracts: &[Contract],
    settings: CompactSettings,
    now_ms: i64,
) -> Result<Vec<Due>, CompactError> {
    let mut tables: Vec<(String, Vec<String>)> = contracts
        .iter()
        .map(|contract| (format!("silver/{}", contract.dataset), contract.key.clone()))
        .collect();
    let by_object = vec!["bronze_key".to_owned()];
    tables.push((discard::PATH.to_owned(), by_object.clone()));
    tables.push((ledger::PATH.to_owned(), by_object));
    let open_from = first_open_day(settings.closed_after_days, now_ms);
    let mut due = Vec::new();
    for (path, order) in tables {
        let Some(table) = Table::open(lake, &path).await? else { continue };
        for (partition, files) in table.partitions(settings.small_file_bytes)? {
            let closed = match partition.get("dt") {
                Some(dt) => dt.as_deref().is_none_or(|dt| dt < open_from.as_str()),
                None => true,
            };
            if closed && files.small >= settings.small_files_min {
                due.push(Due { table: path.clone(), partition, files, order: order.clone() });
            }
        }
    }
    Ok(due)
}

/// Compacts a partition; `None` where another process did so first.
pub async fn compact(
    lake: &Lake,
    due: &Due,
    settings: CompactSettings,
) -> Result<Option<Compacted>, CompactError> {
    let Some(mut table) = Table::open(lake, &due.table).await? else { return Ok(None) };
    let order: Vec<&str> = due.order.iter().map(String::as_str).collect();
    for conflicts in 0..CONFLICTS_MAX {
        let before = files_of(&table, due, settings)?;
        if before.small < settings.small_files_min {
            return Ok(None);
        }
        match table.rewrite(&due.partition, &order).await {
            Ok(()) => {
                let after = files_of(&table, due, settings)?;
                return Ok(Some(Compacted {
                    table: due.table.clone(),
                    partition: due.partition_name(),
                    files_before: before.count,
                    files_after: after.count,
                    bytes_before: before.bytes,
                    bytes_after: after.bytes,
                    rows: before.rows,
                }));
            }
            Err(CommitError::Conflict { .. }) => {
                after_conflict(conflicts).await;
                table.refresh().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(CommitError::Conflict { table: due.table.clone() }.into())
}

fn files_of(table: &Table, due: &Due, settings: CompactSettings) -> Result<Files, TableError> {
    Ok(table.partitions(settings.small_file_bytes)?.get(&due.partition).copied().unwrap_or_default())
}

/// The first day that is not closed yet; days compare as they are written.
fn first_open_day(closed_after_days: u64, now_ms: i64) -> String {
    let today = DateTime::from_timestamp_millis(now_ms).unwrap_or_default().date_naive();
    let day = today.checked_sub_days(Days::new(closed_after_days)).unwrap_or_default();
    day.format("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_closed_when_it_is_over_for_long_enough() {
        let noon_of_the_third = 1_767_441_600_000; // 2026-01-03T12:00:00Z
        assert_eq!(first_open_day(0, noon_of_the_third), "2026-01-03");
        assert_eq!(first_open_day(1, noon_of_the_third), "2026-01-02");
    }
}
