//! What the contract's alerts measure, from ledger, discard and silver; and what the bad rows have in common.
//!
//! A common factor is named by what cannot be personal data: the gateway, the contract's version, a value that
//! stands in one of the contract's own reference lists. Of everything else there is a number only.

mod freshness;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{col, lit};
use futures::StreamExt;
use serde_json::Value;

use super::AlertError;
use super::episode::{Measured, OpenAlerts, Signal, cause};
use crate::bronze::BronzeKey;
use crate::contract::{AlertRule, Contract, Redact, Watch};
use crate::dataset_check::record::{self, Failing};
use crate::lake::Lake;
use crate::ledger::{self, Batch, Entry};
use crate::table::Table;
use crate::{discard, session};
use freshness::freshness;

/// The share of the bad rows that must have a value for it to be their common factor.
const COMMON_SHARE: f64 = 0.95;
/// How far back, beyond an alert's window, batches are held against each other for gaps.
const GAP_LOOK_BACK_MS: i64 = 24 * 60 * 60 * 1_000;

/// Measures every alert of the contracts at `now_ms`; and which could not be measured, with the reason: of those nothing
/// can be said, and the others go on. What the rows of a cause have in common is looked for when it is about to open, so
/// not for one that is `open`.
pub async fn measure(
    lake: &Lake,
    contracts: &[Contract],
    open: &OpenAlerts,
    now_ms: i64,
) -> Result<(Vec<Measured>, BTreeMap<String, String>), AlertError> {
    let (mut measured, mut unmeasured) = (Vec::new(), BTreeMap::new());
    let watching = contracts.iter().filter(|contract| !contract.alerts.is_empty());
    let Some(ledger) = Table::open(lake, ledger::PATH).await? else { return Ok((measured, unmeasured)) };
    for contract in watching {
        let longest = contract.alerts.iter().map(|rule| rule.window_ms).max().unwrap_or_default();
        let since_ms = now_ms - longest - GAP_LOOK_BACK_MS;
        let entries = ledger::entries_since(&ledger, &contract.dataset, since_ms).await;
        for rule in &contract.alerts {
            let found = match &entries {
                Ok(entries) => signals(lake, contract, rule, entries, open, now_ms)
                    .await
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let signals = found.unwrap_or_else(|reason| {
                unmeasured.insert(format!("the alert {} of {}", rule.name, contract.dataset), reason);
                None
            });
            measured.push(Measured {
                dataset: contract.dataset.clone(),
                alert: rule.name.clone(),
                open: rule.open,
                resolve: rule.resolve,
                signals,
            });
        }
    }
    Ok((measured, unmeasured))
}

/// What one alert's causes measure; `None`: nothing can be said.
async fn signals(
    lake: &Lake,
    contract: &Contract,
    rule: &AlertRule,
    entries: &[Entry],
    open: &OpenAlerts,
    now_ms: i64,
) -> Result<Option<Vec<Signal>>, AlertError> {
    let recent: Vec<&Entry> =
        entries.iter().filter(|entry| entry.processed_ms > now_ms - rule.window_ms).collect();
    let mut signals = match rule.watch {
        Watch::DiscardRate { rows_min } => discard_rates(&recent, rows_min),
        Watch::Freshness => freshness(lake, contract, now_ms).await?,
        Watch::Checks => Some(failing(lake, contract, now_ms - rule.window_ms).await?),
        Watch::Lost => Some(vec![lost(&recent, entries, now_ms - rule.window_ms)]),
    };
    for signal in signals.iter_mut().flatten().filter(|signal| signal.value > rule.open) {
        if matches!(rule.watch, Watch::DiscardRate { .. })
            && !open.contains_key(&cause(&contract.dataset, &rule.name, &signal.rule))
        {
            explain(lake, contract, rule, &recent, signal, now_ms).await?;
        }
    }
    Ok(signals)
}

/// Each rule's share of the rows, in percent; `None` where there are too few rows.
fn discard_rates(recent: &[&Entry], rows_min: u64) -> Option<Vec<Signal>> {
    let rows: i64 = recent.iter().map(|entry| entry.rows_in).sum();
    if rows <= 0 || rows.cast_unsigned() < rows_min {
        return None;
    }
    let mut discarded: BTreeMap<&str, u64> = BTreeMap::new();
    for (rule, count) in recent.iter().flat_map(|entry| &entry.rules) {
        *discarded.entry(rule).or_default() += count;
    }
    let signal = |(rule, count): (&str, u64)| {
        let value = 100.0 * count as f64 / rows as f64;
        let summary = format!("{rule} discards {value:.1} % of the rows, {count} of {rows}");
        Signal { rule: rule.to_owned(), value, summary, common: BTreeMap::new() }
    };
    Some(discarded.into_iter().map(signal).collect())
}

/// The dataset checks that fail. Of days only those count that were judged after `since_ms`.
async fn failing(lake: &Lake, contract: &Contract, since_ms: i64) -> Result<Vec<Signal>, AlertError> {
    let failing = record::failing(lake, &contract.dataset, since_ms).await?;
    let signal = |Failing { check, windows, newest }: Failing| {
        let further = if windows > 1 { format!(" and {} more", windows - 1) } else { String::new() };
        let summary = format!("the check {check} fails for the window {newest}{further}");
        Signal { rule: check, value: windows as f64, summary, common: BTreeMap::new() }
    };
    Ok(failing.into_iter().map(signal).collect())
}

/// Readings that the edge gave up in the window, and batches that are missing since before it.
fn lost(recent: &[&Entry], entries: &[Entry], window_start_ms: i64) -> Signal {
    let mut dropped: BTreeMap<&str, u64> = BTreeMap::new();
    let mut gateways = BTreeSet::new();
    for batch in recent.iter().flat_map(|entry| &entry.batches) {
        for (cause, readings) in batch.dropped.iter().filter(|(_, readings)| **readings > 0) {
            *dropped.entry(cause).or_default() += readings;
            gateways.insert(batch.gateway.as_str());
        }
    }
    let missing = missing_batches(entries, window_start_ms);
    gateways.extend(missing.keys().copied());
    let readings: u64 = dropped.values().sum();
    let batches: u64 = missing.values().sum();
    let causes: Vec<String> = dropped.iter().map(|(cause, readings)| format!("{readings} {cause}")).collect();
    let summary = format!(
        "{readings} readings given up at the edge{}{}, {batches} batches missing",
        if causes.is_empty() { "" } else { ": " },
        causes.join(", ")
    );
    let common = match gateways.iter().next() {
        Some(gateway) if gateways.len() == 1 => {
            BTreeMap::from([("gateway".to_owned(), (*gateway).to_owned())])
        }
        _ => BTreeMap::new(),
    };
    Signal { rule: String::new(), value: (readings + batches) as f64, summary, common }
}

/// By gateway, the batches that are missing though a later one of the same run was processed before
/// `later_before_ms`; what is younger may still be on its way. A gateway whose spool overflowed counts such
/// batches as dropped readings.
fn missing_batches(entries: &[Entry], later_before_ms: i64) -> BTreeMap<&str, u64> {
    let mut runs: HashMap<(&str, u64), BTreeMap<u64, i64>> = HashMap::new();
    let mut overflowed = BTreeSet::new();
    for entry in entries {
        for Batch { gateway, boot, seq, dropped, .. } in &entry.batches {
            let processed_ms =
                runs.entry((gateway, *boot)).or_default().entry(*seq).or_insert(entry.processed_ms);
            *processed_ms = entry.processed_ms.min(*processed_ms);
            if dropped.get("spool_full").is_some_and(|readings| *readings > 0) {
                overflowed.insert(gateway.as_str());
            }
        }
    }
    let mut missing = BTreeMap::new();
    for ((gateway, _), batches) in runs.iter().filter(|((gateway, _), _)| !overflowed.contains(gateway)) {
        let mut later_ms = i64::MAX;
        let mut next = None;
        for (seq, processed_ms) in batches.iter().rev() {
            let hole = next.map_or(0, |next: u64| next - seq - 1);
            if hole > 0 && later_ms < later_before_ms {
                *missing.entry(*gateway).or_default() += hole;
            }
            later_ms = later_ms.min(*processed_ms);
            next = Some(*seq);
        }
    }
    missing
}

/// Names what nearly all rows have in common that the rule discarded in the window.
async fn explain(
    lake: &Lake,
    contract: &Contract,
    rule: &AlertRule,
    recent: &[&Entry],
    signal: &mut Signal,
    now_ms: i64,
) -> Result<(), AlertError> {
    let mut shares = Shares::default();
    let mut all_gateways = BTreeSet::new();
    for entry in recent {
        let gateway = BronzeKey::parse(&entry.bronze_key, |_| true).ok().and_then(|key| key.gateway);
        let count = entry.rules.get(&signal.rule).copied().unwrap_or_default();
        if let Some(gateway) = &gateway {
            shares.add("gateway", gateway, count);
        }
        shares.add("contract", &entry.contract_version, count);
        shares.rows += count;
        all_gateways.extend(gateway);
    }
    signal.common = shares.common();
    // Where there is only one, all rows come from it, good and bad.
    if all_gateways.len() == 1 {
        signal.common.remove("gateway");
    }
    let (shares, key, values) = from_discard(lake, contract, &signal.rule, now_ms - rule.window_ms).await?;
    signal.common.extend(shares.common());
    if let Some(key) = key {
        signal.summary += &format!("; {values} different values of {key}");
    }
    Ok(())
}

/// The discarded rows' values of listed columns, and the number of different values of the first key column.
async fn from_discard(
    lake: &Lake,
    contract: &Contract,
    rule: &str,
    since_ms: i64,
) -> Result<(Shares, Option<String>, usize), AlertError> {
    let mut shares = Shares::default();
    let Some(table) = Table::open(lake, discard::PATH).await? else { return Ok((shares, None, 0)) };
    let listed: Vec<&str> = contract
        .references
        .iter()
        .map(|reference| reference.on.as_str())
        .filter(|on| {
            let column = contract.columns.iter().find(|column| column.name == *on);
            column.is_some_and(|column| !column.personal && column.redact == Redact::None)
        })
        .collect();
    let since =
        datafusion::common::ScalarValue::TimestampMicrosecond(Some(since_ms * 1_000), Some("UTC".into()));
    let mut rows = session::context()
        .read_table(table.provider().await?)?
        .filter(col("dataset").eq(lit(contract.dataset.as_str())))?
        .filter(col("rule").eq(lit(rule)))?
        .filter(col("discarded_at").gt(lit(since)))?
        .select_columns(&["record"])?
        .execute_stream()
        .await?;
    let mut keys: BTreeSet<u64> = BTreeSet::new();
    while let Some(batch) = rows.next().await {
        let records = cast(batch?.column(0), &DataType::Utf8).map_err(DataFusionError::from)?;
        for record in records.as_string::<i32>().iter().flatten() {
            shares.rows += 1;
            let Ok(record) = serde_json::from_str::<Value>(record) else { continue };
            for column in &listed {
                if let Some(value) = record.get(column).and_then(Value::as_str) {
                    shares.add(column, value, 1);
                }
            }
            if let Some(value) = contract.key.first().and_then(|key| record.get(key)) {
                keys.insert(hash(value));
            }
        }
    }
    shares.keep_listed(contract);
    Ok((shares, contract.key.first().cloned(), keys.len()))
}

/// A value's hash: enough to count different ones, and nothing that could be told.
fn hash(value: &Value) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Rows by name and value.
#[derive(Default)]
struct Shares {
    rows: u64,
    values: BTreeMap<String, HashMap<String, u64>>,
}

/// Different values of one name that are counted; a name with more has nothing in common.
const VALUES_MAX: usize = 10_000;

impl Shares {
    fn add(&mut self, name: &str, value: &str, rows: u64) {
        let values = self.values.entry(name.to_owned()).or_default();
        let is_full = values.len() >= VALUES_MAX;
        match values.get_mut(value) {
            Some(count) => *count += rows,
            None if is_full => {}
            None => drop(values.insert(value.to_owned(), rows)),
        }
    }

    /// Drops values that are not in the contract's own lists: they could be anything.
    fn keep_listed(&mut self, contract: &Contract) {
        for reference in &contract.references {
            if let Some(values) = self.values.get_mut(&reference.on) {
                values.retain(|value, _| reference.places.contains_key(value));
            }
        }
    }

    fn common(&self) -> BTreeMap<String, String> {
        let of_all = |rows: u64| rows > 0 && rows as f64 >= COMMON_SHARE * self.rows as f64;
        self.values
            .iter()
            .filter_map(|(name, values)| {
                let (value, _) = values.iter().find(|(_, rows)| of_all(**rows))?;
                Some((name.clone(), value.clone()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
