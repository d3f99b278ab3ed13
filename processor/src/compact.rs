//! Compaction: the many small files of a partition become few, and no row changes.
//!
//! A partition is read and written back in one commit on the same snapshot ([`crate::table`] says
//! why that is safe beside other processors and other compactions). A partition is closed when its day is
//! over for long enough. One that is still written to, as today's or the ledger's, waits for many more small
//! files: each time it is written anew as a whole.

use chrono::{DateTime, Days};
use serde::Serialize;

use crate::contract::Contract;
use crate::lake::{Lake, LakeError};
use crate::table::{CONFLICTS_MAX, CommitError, Files, Partition, Table, TableError, after_conflict};

/// When a partition is worth writing anew.
#[derive(Clone, Copy, Debug)]
pub struct CompactSettings {
    /// Days after a partition's own day until it is closed.
    pub closed_after_days: u64,
    /// Small files that make it worth while once it is closed, if there are at least as many as large ones.
    pub small_files_min: u64,
    /// Small files that make it worth while before, if they hold a quarter of its bytes.
    pub open_small_files_min: u64,
    /// What is small, in bytes.
    pub small_file_bytes: u64,
}

impl Default for CompactSettings {
    fn default() -> Self {
        Self {
            closed_after_days: 1,
            small_files_min: 8,
            open_small_files_min: 64,
            small_file_bytes: 16 * 1024 * 1024,
        }
    }
}

impl CompactSettings {
    /// Whether writing such files anew saves a reader more than it costs once.
    fn is_worth(&self, is_closed: bool, files: Files) -> bool {
        if is_closed {
            files.small >= self.small_files_min && 2 * files.small >= files.count
        } else {
            files.small >= self.open_small_files_min && 4 * files.small_bytes >= files.bytes
        }
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
    is_closed: bool,
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
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
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

/// The partitions that are due at `now_ms`, of every table but gold's: gold is replaced day by day and stays in
/// few files by itself.
pub async fn due(
    lake: &Lake,
    contracts: &[Contract],
    settings: CompactSettings,
    now_ms: i64,
) -> Result<Vec<Due>, CompactError> {
    let key_of = |path: &str| {
        let dataset = path.strip_prefix("silver/").or_else(|| path.strip_prefix("versions/"))?;
        contracts.iter().find(|contract| contract.dataset == dataset).map(|contract| contract.key.clone())
    };
    let open_from = first_open_day(settings.closed_after_days, now_ms);
    let mut due = Vec::new();
    for path in lake.tables().await?.into_iter().filter(|path| !path.starts_with("gold/")) {
        let order = key_of(&path).unwrap_or_else(|| vec!["bronze_key".to_owned()]);
        let Some(table) = Table::open(lake, &path).await? else { continue };
        for (partition, files) in table.partitions(settings.small_file_bytes)? {
            let is_closed = match partition.get("dt") {
                Some(dt) => dt.as_deref().is_none_or(|dt| dt < open_from.as_str()),
                None => false,
            };
            if settings.is_worth(is_closed, files) {
                due.push(Due { table: path.clone(), partition, files, order: order.clone(), is_closed });
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
        if !settings.is_worth(due.is_closed, before) {
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
    fn a_large_partition_is_not_written_anew_for_a_few_late_rows() {
        let settings = CompactSettings::default();
        let files = |small, large| Files {
            count: small + large,
            small,
            small_bytes: small,
            bytes: small + 100 * large,
            rows: 0,
        };
        assert!(settings.is_worth(true, files(8, 0)) && !settings.is_worth(true, files(7, 0)));
        assert!(!settings.is_worth(true, files(8, 9)) && settings.is_worth(true, files(9, 9)));
        assert!(settings.is_worth(false, files(64, 1)) && !settings.is_worth(false, files(64, 2)));
        assert!(!settings.is_worth(false, files(63, 0)));
    }

    #[test]
    fn a_day_is_closed_when_it_is_over_for_long_enough() {
        let noon_of_the_third = 1_767_441_600_000; // 2026-01-03T12:00:00Z
        assert_eq!(first_open_day(0, noon_of_the_third), "2026-01-03");
        assert_eq!(first_open_day(1, noon_of_the_third), "2026-01-02");
    }
}
