//! Settling: after rows have landed, silver is computed where the latest versions count, gold is brought up to date,
//! and the dataset's checks are held.
//!
//! What is due is read from the tables' logs, so it does not matter who promoted, when, and whether that program
//! lived to the end. What fails is reported by name and due again; the rest goes on.

use std::collections::BTreeMap;

use serde::Serialize;
use tracing::warn;

use crate::contract::Contract;
use crate::dataset_check::{self, CheckResult};
use crate::gold::{self, Refreshed};
use crate::lake::Lake;
use crate::ledger;
use crate::table::{Table, TableError};

/// What settling did.
#[derive(Debug, Default, Serialize)]
pub struct Settled {
    /// Gold tables brought up to date.
    pub gold: Vec<Refreshed>,
    /// What the dataset's checks found.
    pub checks: Vec<CheckResult>,
    /// What failed, with the reason.
    pub failed: BTreeMap<String, String>,
}

impl Settled {
    /// Adds what settling another dataset did.
    pub fn add(&mut self, other: Self) {
        self.gold.extend(other.gold);
        self.checks.extend(other.checks);
        self.failed.extend(other.failed);
    }

    fn failure(&mut self, what: String, error: &dyn std::error::Error) {
        warn!(%what, %error, "left as it was");
        self.failed.insert(what, error.to_string());
    }
}

/// Settles the contract's dataset, if anything has landed in the lake. `now_ms`: milliseconds since 1970-01-01 UTC.
///
/// # Errors
/// The ledger cannot be opened.
pub async fn settle(lake: &Lake, contract: &Contract, now_ms: i64) -> Result<Settled, TableError> {
    let dataset = &contract.dataset;
    let mut settled = Settled::default();
    // Before silver is computed: all that this ledger has will be there.
    let Some(ledger) = Table::open(lake, ledger::PATH).await? else { return Ok(settled) };
    match gold::refresh(lake, contract).await {
        Ok(refreshed) => settled.gold = refreshed,
        Err(error) => settled.failure(format!("gold of {dataset}"), &error),
    }
    match dataset_check::hold(lake, contract, &ledger, now_ms).await {
        Ok(results) => settled.checks = results,
        Err(error) => settled.failure(format!("checks of {dataset}"), &error),
    }
    Ok(settled)
}
