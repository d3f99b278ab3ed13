//! What came to a dataset since its checks were last held.
//!
//! It is read from the ledger's log, not handed over by whoever promoted: a processor that died between promotion
//! and checks leaves nothing unjudged, and one that only promotes needs to tell nobody. How far the checks have
//! seen stands, as transactions, in the commits of their results.

use std::collections::{BTreeSet, HashSet};

use chrono::Duration;

use super::DatasetCheckError;
use crate::contract::Contract;
use crate::ledger::{self, Batch, Entry};
use crate::table::{Table, TableError};

/// How far back is looked where it is not known what the checks have seen: a new check, or a log that was cut.
const UNKNOWN_PAST: Duration = Duration::days(1);
/// Commits that the checks may be behind without a result before that is written down for its own sake.
const BEHIND_MAX: u64 = 100;

/// What came to one dataset.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// The objects, by key and tag.
    pub objects: HashSet<(String, String)>,
    /// Their batches, each with its object's key, in the order of the object.
    pub batches: Vec<(String, Batch)>,
    /// The days of silver that changed; `None` if that is not known.
    pub days: Option<BTreeSet<String>>,
}

/// The versions of ledger and silver that a dataset's checks have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    ledger: Option<u64>,
    silver: Option<u64>,
}

impl Seen {
    /// What the table of results says.
    pub(super) async fn by(results: &Table, contract: &Contract) -> Result<Self, TableError> {
        let version = |id: Option<i64>| id.and_then(|version| u64::try_from(version).ok());
        let [ledger, silver] = Self::ids(contract);
        Ok(Self {
            ledger: version(results.transaction(&ledger).await?),
            silver: version(results.transaction(&silver).await?),
        })
    }

    /// These snapshots too; another processor may have seen later ones.
    pub(super) fn and(self, ledger: &Table, silver: &Table) -> Self {
        Self {
            ledger: self.ledger.max(Some(ledger.version())),
            silver: self.silver.max(Some(silver.version())),
        }
    }

    /// As the table of results remembers it.
    pub(super) fn transactions(self, contract: &Contract) -> Vec<(String, i64)> {
        let versions = [self.ledger, self.silver]
            .map(|version| i64::try_from(version.unwrap_or_default()).unwrap_or(i64::MAX));
        Self::ids(contract).into_iter().zip(versions).collect()
    }

    /// Whether reading the logs since then begins to take long.
    pub(super) fn is_far_behind(self, now: Self) -> bool {
        let behind = |then: Option<u64>, now: Option<u64>| {
            now.unwrap_or_default().saturating_sub(then.unwrap_or_default()) > BEHIND_MAX
        };
        behind(self.ledger, now.ledger) || behind(self.silver, now.silver)
    }

    fn ids(contract: &Contract) -> [String; 2] {
        ["ledger", "silver"].map(|table| format!("ingot/held/{}/{table}", contract.dataset))
    }
}

impl Brought {
    /// What came after `seen`, by these snapshots. Silver's must be the younger one.
    pub(super) async fn since(
        seen: Seen,
        contract: &Contract,
        ledger: &Table,
        silver: &Table,
        now_ms: i64,
    ) -> Result<Self, DatasetCheckError> {
        let ids = match seen.ledger {
            Some(version) => ledger.transactions_since(version).await?,
            None => None,
        };
        let entries = match ids {
            Some(ids) => ledger::entries_with(ledger, &contract.dataset, &ids).await?,
            None => {
                let since_ms = now_ms - UNKNOWN_PAST.num_milliseconds();
                ledger::entries_since(ledger, &contract.dataset, since_ms).await?
            }
        };
        let days = match seen.silver {
            Some(version) => silver.dts_changed_since(version).await?,
            None => None,
        };
        Ok(Self::of(entries, days))
    }

    fn of(entries: Vec<Entry>, days: Option<BTreeSet<String>>) -> Self {
        let mut brought = Self { days, ..Self::default() };
        for entry in entries {
            let key = &entry.bronze_key;
            brought.batches.extend(entry.batches.iter().cloned().map(|batch| (key.clone(), batch)));
            brought.objects.insert((entry.bronze_key, entry.bronze_etag));
        }
        brought
    }

    /// The first and the last key of the objects, by name.
    pub(super) fn keys(&self) -> Option<(&str, &str)> {
        let keys = || self.objects.iter().map(|(key, _)| key.as_str());
        Some((keys().min()?, keys().max()?))
    }
}
