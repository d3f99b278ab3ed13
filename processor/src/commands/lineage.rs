//! Where `run` and `watch` tell of lineage.

use anyhow::Result;
use chrono::Utc;
use clap::Args;
use ingot_processor::contract::Contract;
use ingot_processor::lake::Lake;
use ingot_processor::lineage::Lineage;
use ingot_processor::lineage::outlet::Outlet;
use ingot_processor::run::{RunError, RunReport, run_telling};

use super::Usage;

/// Where lineage goes.
#[derive(Args)]
pub struct LineageTarget {
    /// Tell each run in OpenLineage events: file:///path/events.ndjson, or a collector's URL, e.g.
    /// https://marquez.example.org/api/v1/lineage
    #[arg(long, value_name = "URL", env = "INGOT_LINEAGE", hide_env_values = true)]
    lineage: Option<String>,
    /// Allow plain http:// to another machine than this
    #[arg(long, requires = "lineage")]
    lineage_allow_http: bool,
}

impl LineageTarget {
    /// The outlet; what is wrong with the target is told before anything is done.
    pub fn open(&self) -> Result<Option<Outlet>> {
        let Some(target) = &self.lineage else { return Ok(None) };
        let outlet = Outlet::open(target, self.lineage_allow_http);
        Ok(Some(outlet.map_err(|error| Usage(error.to_string()))?))
    }
}

/// A run that tells the outlet what it does.
pub async fn run(
    lake: &Lake,
    contracts: &[Contract],
    outlet: Option<&Outlet>,
    progress: impl Fn(u64, u64),
) -> Result<RunReport, RunError> {
    let Some(outlet) = outlet else { return ingot_processor::run::run(lake, contracts, progress).await };
    let lineage = Lineage::new(lake, contracts);
    let starts = |dataset: &str| {
        if let Some(event) = lineage.started(dataset, Utc::now().timestamp_millis()) {
            outlet.put(event);
        }
    };
    let report = run_telling(lake, contracts, progress, starts).await;
    let ended = match &report {
        Ok(report) => lineage.ended(Ok(report), Utc::now().timestamp_millis()).await,
        Err(error) => lineage.ended(Err(&error.to_string()), Utc::now().timestamp_millis()).await,
    };
    ended.into_iter().for_each(|event| outlet.put(event));
    report
}

/// Waits a little for what is not sent yet.
pub async fn close(outlet: Option<Outlet>) {
    if let Some(outlet) = outlet {
        outlet.close().await;
    }
}
