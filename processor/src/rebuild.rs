//! Rebuild: silver, discard, gold and ledger anew from bronze alone, in a lake beside the old one.
//!
//! The old lake is only read. The new one gets bronze's objects under the same identities, an ordinary run
//! over them, and, table by table, a comparison with the old one. Cut anywhere, the same command goes on: a
//! marker says whose rebuild the new lake is. When it is done the operator exchanges the two.
//!
//! Equal, under the same contract, as a run takes objects in the order in which they were written. Where
//! several rows have one key, the first in that order is kept; a lake filled by
//! several processors at once, or from events out of order, may have kept another one of them.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use serde::Serialize;

use crate::bronze::is_possible;
use crate::contract::Contract;
use crate::fingerprint::{Fingerprint, FingerprintError, Floats, fingerprint};
use crate::lake::{Lake, LakeError};
use crate::run::{RunError, RunReport, run};
use crate::table::{Table, TableError};
use crate::{discard, forgotten, gold, ledger, silver};

/// Names the lake of which another one is the rebuild.
const MARKER: &str = "rebuild-of";

/// What a rebuild did.
#[derive(Debug, Serialize)]
pub struct RebuildReport {
    /// The new lake.
    pub into: String,
    /// Objects of bronze in it.
    pub objects: u64,
    /// What its last run did.
    pub run: RunReport,
    /// Each table, old and new.
    pub tables: BTreeMap<String, Compared>,
    /// Whether every table's rows are those of the old lake.
    pub equal: bool,
}

/// A table in both lakes.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// As it was; none where there is no such table.
    pub old: Option<Fingerprint>,
    /// As bronze gives it.
    pub new: Option<Fingerprint>,
}

/// A rebuild stopped; the old lake is as it was, and the same command goes on.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The new lake is something else.
    #[error("{into} is not empty and no rebuild of {from}; name an empty or new folder with --into")]
    NotEmpty {
        /// The old lake.
        from: String,
        /// The new one.
        into: String,
    },
    /// A lake cannot be rebuilt into itself.
    #[error("--into is the lake itself; name another folder, exchange them when it is done")]
    Same,
    /// A lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Who is forgotten.
    #[error(transparent)]
    Forgotten(#[from] forgotten::ForgottenError),
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The comparison.
    #[error(transparent)]
    Compare(#[from] FingerprintError),
}

/// Rebuilds `from` into `into`. `progress` is told the objects done and found.
pub async fn rebuild(
    from: &Lake,
    into: &Lake,
    contracts: &[Contract],
    progress: impl Fn(u64, u64),
) -> Result<RebuildReport, RebuildError> {
    mark(from, into).await?;
    let mut objects = 0;
    let mut listed = from.bronze_stream();
    while let Some(object) = listed.try_next().await? {
        if is_possible(&object.key) {
            into.adopt(from, &object)?;
            objects += 1;
        }
    }
    // What erasure left has to be known in the new lake as in the old one.
    into.adopt_tags(from).await?;
    forgotten::adopt(from, into).await?;
    let run = run(into, contracts, progress).await?;
    let tables = compare(from, into, contracts).await?;
    let equal = run.failed.is_empty() && tables.values().all(|table| table.old == table.new);
    Ok(RebuildReport { into: into.url().to_string(), objects, run, tables, equal })
}

/// Claims the new lake, or finds the claim of the rebuild that was cut.
async fn mark(from: &Lake, into: &Lake) -> Result<(), RebuildError> {
    if from.url() == into.url() {
        return Err(RebuildError::Same);
    }
    let name = from.url().to_string();
    if into.is_empty()? {
        into.put_durable(MARKER, name.into()).await?;
        return Ok(());
    }
    match into.read(MARKER).await {
        Ok(marked) if marked == name.as_bytes() => Ok(()),
        _ => Err(RebuildError::NotEmpty { from: name, into: into.url().to_string() }),
    }
}

/// Every table of both lakes: rows and what they say, not when or by which version they were written.
pub async fn compare(
    old: &Lake,
    new: &Lake,
    contracts: &[Contract],
) -> Result<BTreeMap<String, Compared>, FingerprintError> {
    let mut paths = vec![
        (discard::PATH.to_owned(), vec!["discarded_at", "contract_version"], Floats::Exact),
        (ledger::PATH.to_owned(), vec!["processed_at", "contract_version"], Floats::Exact),
    ];
    for contract in contracts {
        for path in BTreeSet::from([silver::path(&contract.dataset), silver::rows_path(contract)]) {
            paths.push((path, Vec::new(), Floats::Exact));
        }
        let golden = contract.gold.iter().map(|query| (gold::path(&query.name), Vec::new(), Floats::Summed));
        paths.extend(golden);
    }
    let mut tables = BTreeMap::new();
    for (path, except, floats) in paths {
        let mut prints = [None, None];
        for (lake, print) in [old, new].into_iter().zip(&mut prints) {
            if let Some(table) = Table::open(lake, &path).await? {
                *print = Some(fingerprint(&table, &except, floats).await?);
            }
        }
        let [old, new] = prints;
        // A dataset that was never there is no difference; an empty table is no table.
        let [old, new] = [old, new].map(|print| print.filter(|print: &Fingerprint| print.rows > 0));
        if old.is_some() || new.is_some() {
            tables.insert(path, Compared { old, new });
        }
    }
    Ok(tables)
}
