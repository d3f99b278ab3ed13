//! Data files that no version shows any more, or that were never committed.
//!
//! delta-rs says which; Ingot removes them itself, so that the log gets no commits that change nothing.
//! A removed file is kept for the given time after the commit that removed it, an uncommitted one after
//! it was last written: a reader that opened the table less long ago finds all of its files.

use chrono::Duration;
use deltalake::operations::vacuum::VacuumMode;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::{StoredFile, Table, TableError, failed};

/// The longest time for which a table remembers what it removed (delta's default).
pub const KEEP_HOURS_MAX: u32 = 7 * 24;

impl Table {
    /// The data files that are unused for `keep_hours`, at most [`KEEP_HOURS_MAX`].
    pub async fn unused(&self, keep_hours: u32) -> Result<Vec<StoredFile>, TableError> {
        let (_, plan) = self
            .delta
            .clone()
            .vacuum()
            .with_mode(VacuumMode::Full)
            .with_retention_period(Duration::hours(i64::from(keep_hours.min(KEEP_HOURS_MAX))))
            .with_enforce_retention_duration(false)
            .with_dry_run(true)
            .await
            .map_err(failed("looking for unused files of", &self.path))?;
        let store = self.delta.log_store().object_store(None);
        let mut unused = Vec::with_capacity(plan.files_deleted.len());
        for path in plan.files_deleted {
            let path = Path::parse(&path).map_err(|error| {
                failed("looking for unused files of", &self.path)(deltalake::ObjectStoreError::from(error))
            })?;
            // The log remembers removed files for some days after they are gone.
            if let Ok(meta) = store.head(&path).await {
                unused.push(StoredFile { path, bytes: meta.size });
            }
        }
        Ok(unused)
    }
}
