//! The audit: proves from the lake alone that every reading is in exactly one place.
//!
//! The books are held against each other: bronze as it is listed, the ledger, the rows that silver
//! and discard really have, the numbers of gateways' batches, and the numbers of devices' readings. What does not
//! agree is a finding; without findings the lake balances. All sums are made in SQL that goes to disk
//! where it is large; memory holds sums and what a report names.

mod batches;
mod books;
mod devices;
mod listing;
mod objects;

use std::collections::BTreeMap;

use chrono::Utc;
use datafusion::common::DataFusionError;
use serde::Serialize;

use crate::contract::Contract;
use crate::lake::{BronzeObject, Lake, LakeError};
use crate::table::TableError;
use crate::{gold, latest};

use books::Books;
pub use devices::{Devices, Sequence};

/// Findings that a report names; the rest is counted.
const FINDINGS_NAMED_MAX: usize = 100;
/// An object that waits longer than this for being processed was forgotten by the cloud: queues
/// redeliver within minutes, and a processor that watches looks every few seconds. Rows that wait longer for being
/// shown by gold were forgotten by its schedule.
pub const UNPROCESSED_AFTER_S: u64 = 3_600;

/// The lake's balance.
#[derive(Debug, Default, Serialize)]
pub struct Balance {
    /// Objects in the ledger.
    pub objects: u64,
    /// Records in them.
    pub rows_in: i64,
    /// Rows in silver.
    pub silver: i64,
    /// Rows discarded by a rule.
    pub discarded: i64,
    /// Rows discarded as duplicates.
    pub duplicates: i64,
    /// Rows kept as versions that are not the latest of their keys.
    pub superseded: i64,
    /// Rows kept as versions that silver does not show yet: it is computed from them later.
    pub waiting: i64,
    /// Readings that gateways gave up, by cause, as their frames say.
    pub dropped: BTreeMap<String, u64>,
    /// Batches that gateways numbered and the lake does not have.
    pub batches_missing: u64,
    /// The sequences of readings, by dataset.
    pub devices: BTreeMap<String, Devices>,
    /// Objects in bronze that are not processed yet.
    pub in_flight_objects: u64,
    /// Of these, objects that wait for so long that their event must be lost.
    pub unprocessed_objects: u64,
    /// Some of them, by key.
    pub unprocessed: Vec<String>,
    /// Objects in the folder of a dataset whose names end as no format's: they are never processed.
    pub misnamed_objects: u64,
    /// Objects of the ledger that bronze has no more because their contract keeps them no longer.
    pub expired_objects: u64,
    /// Objects in bronze that a check has set aside.
    pub quarantined_objects: u64,
    /// Gold tables that do not show the newest silver yet.
    pub gold_behind: Vec<String>,
    /// Bytes of the ledger's objects.
    pub bytes: i64,
    /// Disagreements found.
    pub findings_count: u64,
    /// Some of them, in words.
    pub findings: Vec<String>,
}

impl Balance {
    /// Whether nothing disagrees.
    pub fn is_balanced(&self) -> bool {
        self.findings_count == 0
    }

    fn finding(&mut self, text: String) {
        self.findings_count += 1;
        if self.findings.len() < FINDINGS_NAMED_MAX {
            self.findings.push(text);
        }
    }
}

/// The audit could not be held.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A query.
    #[error("adding up the books: {0}")]
    Query(#[from] DataFusionError),
    /// The latest versions.
    #[error(transparent)]
    Latest(#[from] latest::LatestError),
}

/// Balances the lake over all of its objects, as of now.
pub async fn audit(lake: &Lake, contracts: &[Contract]) -> Result<Balance, AuditError> {
    let lost_before_ms = lost_before_ms(Utc::now().timestamp_millis(), UNPROCESSED_AFTER_S);
    audit_before(lake, contracts, lost_before_ms, |_, _| {}).await
}

/// Balances the lake. An object that is not processed and was written before `lost_before_ms`
/// (milliseconds since 1970-01-01 UTC) is a finding; a younger one is in flight. So it is with rows that computed
/// silver or gold do not show yet. `progress` is told the steps done and all of them.
pub async fn audit_before(
    lake: &Lake,
    contracts: &[Contract],
    lost_before_ms: i64,
    progress: impl Fn(u64, u64),
) -> Result<Balance, AuditError> {
    let mut balance = Balance::default();
    let steps = 4 + contracts.len() as u64;
    progress(0, steps);
    let books = Books::open(lake, contracts).await?;
    objects::balance(&mut balance, &books, lost_before_ms).await?;
    progress(1, steps);
    batches::balance(&mut balance, &books).await?;
    progress(2, steps);
    listing::balance(&mut balance, &books, lost_before_ms).await?;
    progress(3, steps);
    devices::balance(&mut balance, &books, contracts).await?;
    for (done, contract) in (4..).zip(contracts) {
        progress(done, steps);
        if let Some(shown) = latest::compare(lake, contract, lost_before_ms).await? {
            balance.waiting += shown.waiting;
            balance.superseded += shown.versions - shown.silver;
            balance.silver -= shown.versions + shown.waiting - shown.silver;
            if shown.wrong > 0 {
                balance.finding(format!(
                    "silver {}: {} rows are not what its versions say; run the processor again",
                    contract.dataset, shown.wrong
                ));
            }
        }
        for gold::Behind { name, since_ms } in gold::behind(lake, contract).await? {
            if since_ms < lost_before_ms {
                balance
                    .finding(format!("gold {name} does not show the newest silver; run the processor again"));
            }
            balance.gold_behind.push(name);
        }
    }
    Ok(balance)
}

/// Hands the objects that were never processed and were written before `lost_before_ms` to `send`, a page at
/// a time; how many they were. What sends them again decides how: a queue takes their keys, and on a
/// disk nothing needs to be done, as the next run lists bronze.
pub async fn requeue<E: From<AuditError>>(
    lake: &Lake,
    contracts: &[Contract],
    lost_before_ms: i64,
    send: impl AsyncFnMut(&[BronzeObject]) -> Result<(), E>,
) -> Result<u64, E> {
    listing::requeue(&Books::open(lake, contracts).await?, lost_before_ms, send).await
}

/// The moment before which an object that is still not processed counts as forgotten.
pub fn lost_before_ms(now_ms: i64, after_s: u64) -> i64 {
    now_ms.saturating_sub(i64::try_from(after_s.saturating_mul(1_000)).unwrap_or(i64::MAX))
}
