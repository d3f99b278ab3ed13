//! Upkeep: what keeps a lake quick and small, done when it is due and not otherwise.
//!
//! First a plan, then its steps in order: what contracts keep no longer goes, closed partitions are compacted, a long log gets a checkpoint, old
//! log files, unused data files and half-written files go. Each step is safe beside running processors and
//! readers, may be cut anywhere, and is due no more once it is done. Readers that opened a table
//! less than [`MaintainSettings::keep_hours`] ago keep finding what they opened.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::compact::{self, CompactError, CompactSettings, Compacted, Due};
use crate::contract::Contract;
use crate::lake::{Lake, LakeError, Leftover};
use crate::retention::{self, Expiry, RetentionError};
use crate::table::{StoredFile, Table, TableError};

const HOUR_MS: i64 = 60 * 60 * 1_000;
/// Commits after the last checkpoint that make a new one due.
const COMMITS_MAX: u64 = 10;

/// When something is due.
#[derive(Clone, Copy, Debug)]
pub struct MaintainSettings {
    /// When a partition is compacted.
    pub compact: CompactSettings,
    /// How long what a table no longer shows is kept for readers that opened it before: at most
    /// [`crate::table::KEEP_HOURS_MAX`].
    pub keep_hours: u32,
    /// After how long without a write a half-written file is given up.
    pub unfinished_hours: u32,
}

impl Default for MaintainSettings {
    fn default() -> Self {
        Self { compact: CompactSettings::default(), keep_hours: 7 * 24, unfinished_hours: 24 }
    }
}

/// A step that is due.
#[derive(Clone, Debug)]
enum Step {
    Expire(Expiry),
    Compact(Due),
    Checkpoint { table: String, commits: u64 },
    CleanLog { table: String, files: Vec<StoredFile> },
    Vacuum { table: String, files: Vec<StoredFile> },
    Unfinished(Vec<Leftover>),
}

/// What is due, in order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    steps: Vec<Step>,
}

/// One line of a plan or a summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `expire`, `compact`, `checkpoint`, `clean_log`, `vacuum` or `unfinished_files`.
    pub step: &'static str,
    /// The table or partition, below the lake.
    pub at: String,
    /// Files that it rewrites or removes; for a checkpoint, commits that it sums up.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Maintained {
    /// Steps done.
    pub done: Vec<Line>,
    /// Partitions compacted.
    pub compacted: Vec<Compacted>,
    /// Bytes given back to the disk.
    pub freed_bytes: u64,
    /// Steps that failed, with the reason; they are due again.
    pub failed: Vec<String>,
}

/// Upkeep could not be planned, or one of its steps failed.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A compaction.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// What is kept no longer.
    #[error(transparent)]
    Retention(#[from] RetentionError),
}

impl Plan {
    /// The steps, a line each.
    pub fn lines(&self) -> Vec<Line> {
        self.steps.iter().map(Step::line).collect()
    }

    /// Leaves the first `steps` steps; the others stay due.
    pub fn keep_first(&mut self, steps: usize) {
        self.steps.truncate(steps);
    }
}

impl From<&Due> for Line {
    fn from(due: &Due) -> Self {
        let at = format!("{}/{}", due.table, due.partition_name());
        Self { step: "compact", at, files: due.files.count, bytes: due.files.bytes }
    }
}

impl Step {
    fn line(&self) -> Line {
        let stored = |files: &[StoredFile]| (files.len() as u64, files.iter().map(|file| file.bytes).sum());
        let (step, at, (files, bytes)) = match self {
            Self::Expire(expiry) => ("expire", expiry.at(), expiry.size()),
            Self::Compact(due) => return Line::from(due),
            Self::Checkpoint { table, commits } => ("checkpoint", table.clone(), (*commits, 0)),
            Self::CleanLog { table, files } => ("clean_log", table.clone(), stored(files)),
            Self::Vacuum { table, files } => ("vacuum", table.clone(), stored(files)),
            Self::Unfinished(files) => {
                let bytes = files.iter().map(|file| file.bytes).sum();
                ("unfinished_files", "the lake".to_owned(), (files.len() as u64, bytes))
            }
        };
        Line { step, at, files, bytes }
    }
}

/// What is due at `now_ms`; nothing is changed.
pub async fn plan(
    lake: &Lake,
    contracts: &[Contract],
    settings: MaintainSettings,
    now_ms: i64,
) -> Result<Plan, MaintainError> {
    let due = compact::due(lake, contracts, settings.compact, now_ms).await?;
    let rewritten: BTreeSet<String> = due.iter().map(|due| due.table.clone()).collect();
    let mut steps: Vec<Step> =
        retention::due(lake, contracts, now_ms).await?.into_iter().map(Step::Expire).collect();
    steps.extend(due.into_iter().map(Step::Compact));
    let cutoff_ms = now_ms - i64::from(settings.keep_hours) * HOUR_MS;
    let mut removals = Vec::new();
    for path in lake.tables().await? {
        let Some(table) = Table::open(lake, &path).await? else { continue };
        let log = table.log_state(cutoff_ms, now_ms).await?;
        if rewritten.contains(&path) || log.commits_since_checkpoint >= COMMITS_MAX {
            let commits = log.commits_since_checkpoint;
            steps.push(Step::Checkpoint { table: path.clone(), commits });
        }
        if !log.expired.is_empty() {
            removals.push(Step::CleanLog { table: path.clone(), files: log.expired });
        }
        let unused = table.unused(settings.keep_hours).await?;
        if !unused.is_empty() {
            removals.push(Step::Vacuum { table: path, files: unused });
        }
    }
    steps.append(&mut removals);
    let unfinished = lake.leftovers(now_ms - i64::from(settings.unfinished_hours) * HOUR_MS)?;
    if !unfinished.is_empty() {
        steps.push(Step::Unfinished(unfinished));
    }
    Ok(Plan { steps })
}

/// Does what is planned. A step that fails is reported and the others go on. `progress` is told the steps done.
pub async fn maintain(
    lake: &Lake,
    plan: &Plan,
    settings: MaintainSettings,
    progress: impl Fn(u64, u64),
) -> Maintained {
    let mut maintained = Maintained::default();
    let steps = plan.steps.len() as u64;
    for (done, step) in plan.steps.iter().enumerate() {
        progress(done as u64, steps);
        match take(lake, step, settings).await {
            Ok(taken) => {
                maintained.freed_bytes += taken.freed_bytes;
                maintained.compacted.extend(taken.compacted);
                maintained.done.push(step.line());
            }
            Err(error) => {
                let Line { step, at, .. } = step.line();
                maintained.failed.push(format!("{step} of {at}: {error}"));
            }
        }
    }
    progress(steps, steps);
    maintained
}

#[derive(Default)]
struct Taken {
    freed_bytes: u64,
    compacted: Option<Compacted>,
}

async fn take(lake: &Lake, step: &Step, settings: MaintainSettings) -> Result<Taken, MaintainError> {
    let mut taken = Taken::default();
    match step {
        Step::Expire(expiry) => retention::expire(lake, expiry).await?,
        Step::Compact(due) => taken.compacted = compact::compact(lake, due, settings.compact).await?,
        Step::Checkpoint { table, .. } => {
            if let Some(table) = Table::open(lake, table).await? {
                table.checkpoint().await?;
            }
        }
        Step::CleanLog { table, files } | Step::Vacuum { table, files } => {
            if let Some(table) = Table::open(lake, table).await? {
                taken.freed_bytes = table.remove(files).await?;
            }
        }
        Step::Unfinished(files) => {
            for file in files {
                lake.remove_leftover(file)?;
                taken.freed_bytes += file.bytes;
            }
        }
    }
    Ok(taken)
}
