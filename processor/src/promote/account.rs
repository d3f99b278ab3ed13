//! What has become of an object's rows, summed up over its parts.

use std::collections::BTreeMap;

use crate::contract::Contract;
use crate::examine::Examined;
use crate::lake::BronzeObject;
use crate::ledger::{Batch, Entry};

/// The sums so far.
#[derive(Default)]
pub(super) struct Account {
    rows_in: u64,
    silver: usize,
    discarded: usize,
    duplicates: usize,
    rules: BTreeMap<String, u64>,
    warnings: BTreeMap<String, u64>,
    batches: Vec<Batch>,
}

impl Account {
    /// Adds a part, of whose accepted rows so many are in silver.
    pub(super) fn add(&mut self, part: &Examined, in_silver: usize) {
        self.rows_in += part.rows_in;
        self.silver += in_silver;
        self.discarded += part.discards.len();
        self.duplicates += part.accepted.num_rows() - in_silver;
        for row in &part.discards {
            let rule = row.rules.first().map(String::as_str).unwrap_or_default();
            match self.rules.get_mut(rule) {
                Some(rows) => *rows += 1,
                None => drop(self.rules.insert(rule.to_owned(), 1)),
            }
        }
        for (check, rows) in &part.warnings {
            *self.warnings.entry(check.clone()).or_default() += rows;
        }
        self.batches.extend(part.frames.iter().map(Batch::from));
    }

    /// The object's row of the ledger.
    pub(super) fn entry(self, contract: &Contract, object: &BronzeObject, now_ms: i64) -> Entry {
        Entry {
            dataset: contract.dataset.clone(),
            bronze_key: object.key.clone(),
            bronze_etag: object.etag.clone(),
            bytes: object.bytes as i64,
            rows_in: self.rows_in as i64,
            silver: self.silver as i64,
            discarded: self.discarded as i64,
            duplicates: self.duplicates as i64,
            rules: self.rules,
            warnings: self.warnings,
            batches: self.batches,
            contract_version: contract.version.clone(),
            processed_ms: now_ms,
        }
    }
}
