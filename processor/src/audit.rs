//! The audit: proves from the lake alone that every reading is in exactly one place.
//!
//! Three books are held against each other: bronze as it is listed, the ledger, and the rows that
//! silver and discard really have. What does not agree is a finding; without findings the lake balances.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::DataFusionError;
use serde::Serialize;

use crate::bronze::BronzeKey;
use crate::contract::Contract;
use crate::lake::{Lake, LakeError};
use crate::ledger::{self, Batch, Entry, LedgerError};
use crate::quarantine::{self, QuarantineError, SetAside};
use crate::table::{Table, TableError};
use crate::{discard, gold, latest, session, silver};

/// Findings that a report names; the rest is counted.
const FINDINGS_NAMED_MAX: usize = 100;

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
    /// Readings that gateways gave up, by cause, as their frames say.
    pub dropped: BTreeMap<String, u64>,
    /// Objects in bronze that are not processed yet.
    pub in_flight_objects: u64,
    /// Objects in bronze that a check has set aside.
    pub quarantined_objects: u64,
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
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A query.
    #[error("counting rows: {0}")]
    Query(#[from] DataFusionError),
    /// The latest versions.
    #[error(transparent)]
    Latest(#[from] latest::LatestError),
    /// Quarantine.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
}

/// Balances the lake over all of its objects.
pub async fn audit(lake: &Lake, contracts: &[Contract]) -> Result<Balance, AuditError> {
    let mut balance = Balance::default();
    let entries = match Table::open(lake, ledger::PATH).await? {
        Some(table) => ledger::entries(&table).await?,
        None => Vec::new(),
    };
    let counted = Counted::of(lake, contracts, &entries).await?;
    balance_entries(&mut balance, &entries, &counted);
    let quarantined = balance_bronze(&mut balance, lake, &entries, contracts).await?;
    balance_batches(&mut balance, &entries, &quarantined);
    for contract in contracts {
        if let Some(shown) = latest::compare(lake, contract).await? {
            balance.superseded += shown.versions - shown.silver;
            balance.silver -= shown.versions - shown.silver;
            if shown.wrong > 0 {
                balance.finding(format!(
                    "silver {}: {} rows are not what its versions say; run the processor again",
                    contract.dataset, shown.wrong
                ));
            }
        }
        for name in gold::behind(lake, contract).await? {
            balance.finding(format!("gold {name} does not show the newest silver; run the processor again"));
        }
    }
    Ok(balance)
}

/// Every entry against itself and against the rows that are really there.
fn balance_entries(balance: &mut Balance, entries: &[Entry], counted: &Counted) {
    let mut seen = HashSet::new();
    for entry in entries {
        balance.objects += 1;
        balance.rows_in += entry.rows_in;
        balance.bytes += entry.bytes;
        balance.silver += entry.silver;
        balance.discarded += entry.discarded;
        balance.duplicates += entry.duplicates;
        let id = (entry.bronze_key.clone(), entry.bronze_etag.clone());
        let key = &entry.bronze_key;
        if entry.rows_in != entry.silver + entry.discarded + entry.duplicates {
            balance.finding(format!(
                "{key}: {} rows in, but {} in silver + {} discarded + {} duplicates",
                entry.rows_in, entry.silver, entry.discarded, entry.duplicates
            ));
        }
        for (place, said, there) in [
            ("silver", entry.silver, counted.silver.get(&id)),
            ("discard", entry.discarded, counted.discarded.get(&id)),
            ("discard as duplicates", entry.duplicates, counted.duplicates.get(&id)),
        ] {
            let there = there.copied().unwrap_or_default();
            if said != there {
                balance.finding(format!("{key}: the ledger says {said} rows in {place}, there are {there}"));
            }
        }
        let whole = !entry.batches.is_empty()
            && !entry.rules.contains_key("frame")
            && !entry.rules.contains_key("gz");
        let sealed: i64 = entry.batches.iter().map(|batch| i64::from(batch.readings)).sum();
        if whole && sealed != entry.rows_in {
            balance.finding(format!(
                "{key}: its gateway sealed {sealed} readings, the ledger says {} rows in",
                entry.rows_in
            ));
        }
        if !seen.insert(id) {
            balance.finding(format!("{key}: the ledger has it more than once"));
        }
    }
    let unknown: BTreeSet<&String> = counted
        .silver
        .keys()
        .chain(counted.discarded.keys())
        .chain(counted.duplicates.keys())
        .filter(|id| !seen.contains(*id))
        .map(|(key, _)| key)
        .collect();
    for key in unknown {
        balance.finding(format!(
            "{key}: its rows are in the lake, but not in the ledger; run the processor again"
        ));
    }
}

/// Every gateway run's batch numbers, which must leave no hole; and what the edge gave up.
fn balance_batches(balance: &mut Balance, entries: &[Entry], quarantined: &[SetAside]) {
    let mut runs: BTreeMap<(&str, u64), BTreeMap<u64, &Batch>> = BTreeMap::new();
    let set_aside = quarantined.iter().flat_map(|object| &object.batches);
    for batch in entries.iter().flat_map(|entry| &entry.batches).chain(set_aside) {
        runs.entry((&batch.gateway, batch.boot)).or_default().insert(batch.seq, batch);
    }
    let overflowed: HashSet<&str> = runs
        .iter()
        .filter(|(_, batches)| {
            batches.values().any(|batch| batch.dropped.get("spool_full").is_some_and(|n| *n > 0))
        })
        .map(|((gateway, _), _)| *gateway)
        .collect();
    for ((gateway, boot), batches) in runs {
        let newest = batches.keys().next_back().copied().unwrap_or_default();
        let sealed = newest.saturating_add(1);
        let missing = sealed.saturating_sub(batches.len() as u64);
        // Frames that a full spool gave up leave a hole, and their readings are counted as dropped.
        if missing > 0 && !overflowed.contains(gateway) {
            let first = (0..=newest).find(|seq| !batches.contains_key(seq)).unwrap_or_default();
            balance.finding(format!(
                "gateway {gateway}, boot {boot:016x}: {missing} of {} batches are not in the ledger, the first is {first}",
                sealed
            ));
        }
        for (cause, readings) in batches.values().flat_map(|batch| &batch.dropped) {
            *balance.dropped.entry(cause.clone()).or_insert(0) += readings;
        }
    }
}

/// The listing against the ledger; what is in quarantine.
async fn balance_bronze(
    balance: &mut Balance,
    lake: &Lake,
    entries: &[Entry],
    contracts: &[Contract],
) -> Result<Vec<SetAside>, AuditError> {
    let quarantine = quarantine::entries(lake).await?;
    let mut quarantined = Vec::new();
    let listed = lake.list_bronze().await?;
    let mut processed: HashSet<(&str, &str)> =
        entries.iter().map(|entry| (entry.bronze_key.as_str(), entry.bronze_etag.as_str())).collect();
    for object in &listed {
        let is_dataset = |name: &str| contracts.iter().any(|contract| contract.dataset == name);
        let key = BronzeKey::parse(&object.key, is_dataset);
        if processed.remove(&(object.key.as_str(), object.etag.as_str())) {
            continue;
        }
        let Some(contract) = key.ok().and_then(|key| contracts.iter().find(|c| c.dataset == key.dataset))
        else {
            continue;
        };
        match quarantine.holds(object, contract) {
            Some(set_aside) => quarantined.push(set_aside.clone()),
            None => balance.in_flight_objects += 1,
        }
    }
    for (key, _) in processed.into_iter().collect::<BTreeSet<_>>() {
        balance.finding(format!("{key}: the ledger has it, bronze no longer does in that state"));
    }
    balance.quarantined_objects = quarantined.len() as u64;
    Ok(quarantined)
}

/// Rows by bronze object, as silver and discard have them.
#[derive(Default)]
struct Counted {
    silver: Counts,
    discarded: Counts,
    duplicates: Counts,
}

type Counts = HashMap<(String, String), i64>;

impl Counted {
    async fn of(lake: &Lake, contracts: &[Contract], entries: &[Entry]) -> Result<Self, AuditError> {
        let mut counted = Self::default();
        let known = contracts.iter().map(|contract| contract.dataset.as_str());
        let datasets: BTreeSet<&str> =
            known.chain(entries.iter().map(|entry| entry.dataset.as_str())).collect();
        for dataset in datasets {
            // Where versions are kept, silver is computed from them, and held against them elsewhere.
            let versions = silver::versions_path(dataset);
            let path = if lake.has(&versions) { versions } else { silver::path(dataset) };
            count(lake, &path, "true", &mut counted.silver).await?;
        }
        let rule = discard::DUPLICATE;
        count(lake, discard::PATH, &format!("rule <> '{rule}'"), &mut counted.discarded).await?;
        count(lake, discard::PATH, &format!("rule = '{rule}'"), &mut counted.duplicates).await?;
        Ok(counted)
    }
}

async fn count(lake: &Lake, path: &str, which: &str, counts: &mut Counts) -> Result<(), AuditError> {
    let Some(table) = Table::open(lake, path).await? else { return Ok(()) };
    let context = session::context();
    context.register_table("rows", table.provider().await?)?;
    let sql = format!(
        "SELECT bronze_key, bronze_etag, count(*) FROM rows WHERE {which} GROUP BY bronze_key, bronze_etag"
    );
    for batch in context.sql(&sql).await?.collect().await? {
        let key = cast(batch.column(0), &DataType::Utf8).map_err(DataFusionError::from)?;
        let etag = cast(batch.column(1), &DataType::Utf8).map_err(DataFusionError::from)?;
        let rows = batch.column(2).as_primitive::<Int64Type>();
        for i in 0..rows.len() {
            let id =
                (key.as_string::<i32>().value(i).to_owned(), etag.as_string::<i32>().value(i).to_owned());
            *counts.entry(id).or_insert(0) += rows.value(i);
        }
    }
    Ok(())
}
