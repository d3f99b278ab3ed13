//! Alerts: one per cause, told once when it opens and once when it resolves.
//!
//! At the end of each run the contract's alerts are measured ([`measure`]), held against what is open
//! ([`episode`]), and the change is stored in the lake ([`store`]) before anybody is told ([`target`]). Of two
//! processors that see the same cause, one stores the change and tells; the other finds it open. A
//! target that is down gets what it missed by the next run. What was told but could not be noted as told (a crash in
//! between) is told again under the same id.

pub mod episode;
pub mod measure;
pub mod store;
pub mod target;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::contract::Contract;
use crate::lake::{Lake, LakeError};
use crate::ledger::LedgerError;
use crate::table::TableError;
use episode::Event;
use store::Store;
use target::Target;

/// Alerts could not be judged; what is open stays open.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The table of dataset checks.
    #[error(transparent)]
    Checks(#[from] crate::dataset_check::DatasetCheckError),
    /// A query.
    #[error("measuring for alerts: {0}")]
    Query(#[from] datafusion::common::DataFusionError),
    /// The stored state is not what this program writes.
    #[error(
        "the alerts' state {key} cannot be read: {source}; remove it to start anew, open alerts open again"
    )]
    State {
        /// The document.
        key: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Other processors were always first.
    #[error("the alerts' state stayed contended")]
    Contended,
}

/// What judging the alerts came to.
#[derive(Debug, Default, Serialize)]
pub struct Judged {
    /// What opened or resolved by this run.
    pub events: Vec<Event>,
    /// Targets that could not be told, with the reason; the next run tries again.
    pub untold: Vec<String>,
    /// Alerts that could not be measured, with the reason; what is open of them stays open.
    pub unmeasured: BTreeMap<String, String>,
}

/// Measures, notes what opened and resolved, and tells the targets what they do not know yet.
pub async fn judge(
    lake: &Lake,
    contracts: &[Contract],
    targets: &[Target],
    now_ms: i64,
) -> Result<Judged, AlertError> {
    let store = Store::new(lake);
    let open = store.load().await?.open;
    let (measured, unmeasured) = measure::measure(lake, contracts, &open, now_ms).await?;
    let names: Vec<&str> = targets.iter().map(Target::name).collect();
    let (events, claims) = store
        .change(|state| {
            let events = state.step(&measured, contracts, now_ms);
            let claims = state.claim(&names, events.len(), now_ms);
            (events, claims)
        })
        .await?;
    let mut judged = Judged { events, untold: Vec::new(), unmeasured };
    for claim in claims {
        let Some(target) = targets.iter().find(|target| target.name() == claim.target) else { continue };
        let mut told = 0;
        for event in &claim.events {
            if let Err(error) = target.tell(event, now_ms).await {
                let left = claim.events.len() - told;
                let name = &claim.target;
                judged.untold.push(format!("{name}: {error}; {left} events wait for the next run"));
                break;
            }
            told += 1;
        }
        store.change(|state| state.told(&claim, told as u64)).await?;
    }
    Ok(judged)
}
