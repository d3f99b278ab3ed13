//! A table's log: what of it is no longer needed, and removing that.
//!
//! The state at any version that is younger than the cutoff stays readable: the commits before the
//! last checkpoint at or below it go, and of the checkpoints between, those that only make an old version
//! quicker to open. Files go oldest first, so a cut leaves a shorter log, never one with a hole.

use std::collections::BTreeSet;

use deltalake::DeltaTableError;
use deltalake::ObjectStoreError;
use deltalake::checkpoints::create_checkpoint;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{Table, TableError, failed};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// Newest checkpoints that are kept whatever their age: a reader may just be opening the last but one.
const CHECKPOINTS_KEPT: usize = 2;
/// How long every checkpoint is kept.
const CHECKPOINT_KEPT_MS: i64 = 60 * 60 * 1_000;

/// A file of a table, outside of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Where, below the table.
    pub path: Path,
    /// Its size.
    pub bytes: u64,
}

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LogFile {
    file: StoredFile,
    version: u64,
    is_checkpoint: bool,
    modified_ms: i64,
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Commits that an opening reader reads one by one.
    pub commits_since_checkpoint: u64,
    /// Files that nobody needs who opens a version younger than the cutoff.
    pub expired: Vec<StoredFile>,
}

impl Table {
    /// The log as it is listed. What is older than `cutoff_ms` may expire.
    pub async fn log_state(&self, cutoff_ms: i64, now_ms: i64) -> Result<LogState, TableError> {
        let files = self.log_files().await.map_err(failed("listing the log of", &self.path))?;
        let checkpoint = files.iter().filter(|file| file.is_checkpoint).map(|file| file.version).max();
        Ok(LogState {
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.file.bytes).sum(),
            commits_since_checkpoint: match checkpoint {
                Some(checkpoint) => self.version().saturating_sub(checkpoint),
                None => self.version() + 1,
            },
            expired: expired(&files, self.version(), cutoff_ms, now_ms),
        })
    }

    /// Writes a checkpoint of this snapshot.
    pub async fn checkpoint(&self) -> Result<(), TableError> {
        create_checkpoint(&self.delta, None).await.map_err(failed("writing a checkpoint of", &self.path))
    }

    /// Removes files of this table in their order; those that are gone are fine. Returns the bytes freed.
    pub async fn remove(&self, files: &[StoredFile]) -> Result<u64, TableError> {
        let store = self.delta.log_store().object_store(None);
        let mut freed = 0;
        for file in files {
            match store.delete(&file.path).await {
                Ok(()) => freed += file.bytes,
                Err(ObjectStoreError::NotFound { .. }) => {}
                Err(error) => return Err(failed("removing old files of", &self.path)(error)),
            }
        }
        Ok(freed)
    }

    /// The files of the log before `version`.
    pub(super) async fn log_before(&self, version: u64) -> Result<Vec<StoredFile>, TableError> {
        let files = self.log_files().await.map_err(failed("listing the log of", &self.path))?;
        Ok(files.into_iter().filter(|file| file.version < version).map(|file| file.file).collect())
    }

    async fn log_files(&self) -> Result<Vec<LogFile>, DeltaTableError> {
        let log = self.delta.log_store();
        let listed: Vec<_> = log.object_store(None).list(Some(log.log_path())).try_collect().await?;
        let mut files: Vec<LogFile> = listed
            .into_iter()
            .filter_map(|meta| {
                let (version, rest) = meta.location.filename()?.split_once('.')?;
                let version = version.parse().ok().filter(|_| version.len() == 20)?;
                let is_checkpoint = rest.starts_with("checkpoint.") && rest.ends_with("parquet");
                (is_checkpoint || rest == "json").then(|| LogFile {
                    version,
                    is_checkpoint,
                    modified_ms: meta.last_modified.timestamp_millis(),
                    file: StoredFile { bytes: meta.size, path: meta.location },
                })
            })
            .collect();
        files.sort_by_key(|file| (file.version, file.is_checkpoint));
        Ok(files)
    }
}

/// The files of a log, sorted by version, that may go.
fn expired(files: &[LogFile], version: u64, cutoff_ms: i64, now_ms: i64) -> Vec<StoredFile> {
    // The oldest version that must stay readable: the state at the cutoff was made by the commit before.
    let young = files.iter().filter(|file| !file.is_checkpoint && file.modified_ms >= cutoff_ms);
    let readable = young.map(|file| file.version.saturating_sub(1)).min().unwrap_or(version);
    let checkpoints: BTreeSet<u64> =
        files.iter().filter(|file| file.is_checkpoint).map(|file| file.version).collect();
    let below = checkpoints.range(..=readable).next_back();
    let Some(&base) = below.or(checkpoints.first()) else { return Vec::new() };
    let needed_from = below.copied().unwrap_or_default();
    let newest: BTreeSet<u64> = checkpoints.iter().rev().take(CHECKPOINTS_KEPT).copied().collect();
    let day = |file: &LogFile| file.modified_ms / DAY_MS;
    let mut day_kept = files.iter().find(|file| file.is_checkpoint && file.version == base).map(day);
    files
        .iter()
        .filter(|file| {
            if file.version < needed_from {
                return file.modified_ms < cutoff_ms;
            }
            if !file.is_checkpoint || file.version <= base || newest.contains(&file.version) {
                return false;
            }
            // One a day stays, from which an old version is opened, and the log is cut later.
            let first_of_day = Some(day(file)) != day_kept;
            day_kept = Some(day(file));
            !first_of_day && file.modified_ms < now_ms - CHECKPOINT_KEPT_MS
        })
        .map(|file| file.file.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    /// A commit an hour, a checkpoint each tenth.
    fn log(versions: u64) -> Vec<LogFile> {
        let file = |version: u64, ending: &str| LogFile {
            file: StoredFile { path: Path::from(format!("{version:020}.{ending}")), bytes: 1 },
            version,
            is_checkpoint: ending != "json",
            modified_ms: version as i64 * HOUR_MS,
        };
        (0..=versions)
            .flat_map(|version| {
                let checkpoint = (version % 10 == 9).then(|| file(version, "checkpoint.parquet"));
                std::iter::once(file(version, "json")).chain(checkpoint)
            })
            .collect()
    }

    fn names(files: &[StoredFile]) -> BTreeSet<String> {
        files.iter().map(|file| file.path.to_string()).collect()
    }

    #[test]
    fn every_version_younger_than_the_cutoff_can_still_be_opened() {
        let files = log(95);
        for cutoff in 0..=96 {
            let gone = names(&expired(&files, 95, cutoff * HOUR_MS, 96 * HOUR_MS));
            let kept = |name: String| !gone.contains(&name);
            for version in cutoff.cast_unsigned().saturating_sub(1).min(95)..=95 {
                let from = (0..=version)
                    .rev()
                    .find(|at| at % 10 == 9 && kept(format!("{at:020}.checkpoint.parquet")));
                let commits = from.map_or(0, |at| at + 1)..=version;
                assert!(
                    commits.clone().all(|at| kept(format!("{at:020}.json"))),
                    "cutoff {cutoff}, version {version}, commits {commits:?}"
                );
            }
        }
    }

    #[test]
    fn a_log_that_is_old_shrinks_to_its_last_checkpoints() {
        let files = log(95);
        let gone = expired(&files, 95, 96 * HOUR_MS, 96 * HOUR_MS);
        // 89 is the base; 90 to 95 are read on top of it.
        assert_eq!(files.len() - gone.len(), 8);
        assert_eq!(expired(&log(8), 8, 96 * HOUR_MS, 96 * HOUR_MS), []);
    }

    #[test]
    fn checkpoints_within_the_kept_time_are_thinned_to_one_a_day() {
        let files = log(95);
        let gone = names(&expired(&files, 95, 0, 96 * HOUR_MS));
        // Of day 0 (hours 9, 19), day 1 (29, 39), day 2 (49, 59, 69) and day 3 (79, 89) the first stays, and the newest two.
        let expected = [19, 39, 59, 69].map(|at| format!("{at:020}.checkpoint.parquet"));
        assert_eq!(gone, BTreeSet::from(expected));
    }
}
