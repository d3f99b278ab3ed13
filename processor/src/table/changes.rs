//! What came to a table after one of its versions, as its log says.
//!
//! A log that no longer reaches back that far gives no answer, rather than half of one.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;

use super::{COMPACTED, Table, TableError, failed, transactions};

impl Table {
    /// The values of the partition column `dt` whose rows changed after version `after`, or `None`
    /// where the log no longer reaches back that far. Compaction changes no rows.
    pub async fn dts_changed_since(&self, after: u64) -> Result<Option<BTreeSet<String>>, TableError> {
        let mut dts = BTreeSet::new();
        for version in after + 1..=self.version() {
            let Some(entry) = self.entry(version).await? else { return Ok(None) };
            if transactions::carries(&entry, COMPACTED) {
                continue;
            }
            for line in entry.split(|byte| *byte == b'\n') {
                let Ok(action) = serde_json::from_slice::<Value>(line) else { continue };
                let file = action.get("add").or_else(|| action.get("remove"));
                match file.and_then(|file| file.pointer("/partitionValues/dt")).and_then(|dt| dt.as_str()) {
                    Some(dt) => dts.insert(dt.to_owned()),
                    None if file.is_some() => return Ok(None),
                    None => continue,
                };
            }
        }
        Ok(Some(dts))
    }

    /// When rows first changed after version `after`, or ever (milliseconds since 1970-01-01 UTC, by the writer's clock);
    /// `None` where none did. Long ago (0) where the log no longer reaches back that far.
    pub async fn first_changed_ms(&self, after: Option<u64>) -> Result<Option<i64>, TableError> {
        for version in after.map_or(0, |after| after + 1)..=self.version() {
            let Some(entry) = self.entry(version).await? else { return Ok(Some(0)) };
            if transactions::carries(&entry, COMPACTED) {
                continue;
            }
            let actions =
                entry.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
            let actions: Vec<Value> = actions.collect();
            if actions.iter().any(|action| action.get("add").or_else(|| action.get("remove")).is_some()) {
                let written =
                    actions.iter().find_map(|action| action.pointer("/commitInfo/timestamp")?.as_i64());
                return Ok(Some(written.unwrap_or(0)));
            }
        }
        Ok(None)
    }

    /// The transactions that were committed after version `after`, or `None` where the log no longer reaches back
    /// that far.
    pub async fn transactions_since(&self, after: u64) -> Result<Option<BTreeSet<String>>, TableError> {
        let mut ids = BTreeSet::new();
        for version in after + 1..=self.version() {
            let Some(entry) = self.entry(version).await? else { return Ok(None) };
            ids.extend(transactions::ids(&entry));
        }
        Ok(Some(ids))
    }

    async fn entry(&self, version: u64) -> Result<Option<Bytes>, TableError> {
        let log = self.delta.log_store();
        log.read_commit_entry(version).await.map_err(failed("reading the log of", &self.path))
    }
}
