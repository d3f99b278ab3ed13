//! Lineage: what each run read and wrote, told in OpenLineage events.
//!
//! A dataset's part of a run is one OpenLineage run: START before its first object, then COMPLETE, or FAIL
//! with the reason. The events name bronze as input, with what its checks found, and silver, discard and the gold tables as
//! outputs, with their columns and where each column comes from. They hold names and counts, never a row's
//! values. [`outlet`] sends them; ingestion never waits for it.

mod facets;
pub mod outlet;

use std::collections::BTreeMap;
use std::sync::Mutex;

use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

use crate::contract::Contract;
use crate::dataset_check::CheckResult;
use crate::lake::Lake;
use crate::run::{RunReport, Sums};
use crate::{discard, gold, ledger, origin, silver};

use facets::{PRODUCER, event_schema};

/// The runs of one processor's run, by dataset; each is told as started once, and as ended once.
pub struct Lineage<'a> {
    lake: &'a Lake,
    contracts: &'a [Contract],
    started: Mutex<BTreeMap<String, String>>,
}

impl<'a> Lineage<'a> {
    /// Nothing has started yet.
    pub fn new(lake: &'a Lake, contracts: &'a [Contract]) -> Self {
        Self { lake, contracts, started: Mutex::default() }
    }

    /// The event that a dataset's part of the run starts; `None` for a dataset without a contract.
    pub fn started(&self, dataset: &str, now_ms: i64) -> Option<Value> {
        let contract = self.contracts.iter().find(|contract| contract.dataset == dataset)?;
        let run = run_id();
        self.lock().insert(dataset.to_owned(), run.clone());
        let inputs = vec![self.input(contract, None)];
        let outputs = tables(contract).map(|path| self.dataset(&path, json!({}))).collect();
        Some(self.event("START", &run, contract, now_ms, json!({}), [inputs, outputs]))
    }

    /// The events that end what has started: as the report says, or failed for the reason.
    pub async fn ended(&self, report: Result<&RunReport, &str>, now_ms: i64) -> Vec<Value> {
        let started = std::mem::take(&mut *self.lock());
        let mut events = Vec::new();
        for contract in self.contracts {
            let Some(run) = started.get(&contract.dataset) else { continue };
            let nothing = Sums::default();
            let (did, failure) = match report {
                Ok(report) => {
                    let stopped = report.stopped.get(&contract.dataset).map(|left| {
                        format!("a check of severity fail stopped the run, {left} objects are left for the next one")
                    });
                    (report.datasets.get(&contract.dataset).unwrap_or(&nothing), stopped)
                }
                Err(reason) => (&nothing, Some(reason.to_owned())),
            };
            let facets = failure.as_deref().map_or_else(|| json!({}), facets::failure);
            let held = report.map_or(&[][..], |report| &report.checks);
            let inputs = vec![self.input(contract, Some((did, held)))];
            let outputs = self.outputs(contract, did, report.ok()).await;
            let kind = if failure.is_some() { "FAIL" } else { "COMPLETE" };
            events.push(self.event(kind, run, contract, now_ms, facets, [inputs, outputs]));
        }
        events
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.started.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn event(
        &self,
        kind: &str,
        run: &str,
        contract: &Contract,
        now_ms: i64,
        more: Value,
        [inputs, outputs]: [Vec<Value>; 2],
    ) -> Value {
        let mut run_facets = facets::engine();
        extend(&mut run_facets, more);
        json!({
            "eventType": kind,
            "eventTime": DateTime::from_timestamp_millis(now_ms)
                .unwrap_or_default()
                .to_rfc3339_opts(SecondsFormat::Millis, true),
            "producer": PRODUCER,
            "schemaURL": event_schema(),
            "run": { "runId": run, "facets": run_facets },
            "job": {
                "namespace": "ingot",
                "name": format!("process.{}", contract.dataset),
                "facets": facets::job(contract),
            },
            "inputs": inputs,
            "outputs": outputs,
        })
    }

    /// Bronze of the dataset, with what the checks found in it.
    fn input(&self, contract: &Contract, did: Option<(&Sums, &[CheckResult])>) -> Value {
        let mut input = self.dataset(&bronze(contract), facets::schema(&contract.row_schema(), contract));
        if let Some((did, held)) = did {
            input["inputFacets"] = facets::quality(contract, did, held);
        }
        input
    }

    async fn outputs(&self, contract: &Contract, did: &Sums, report: Option<&RunReport>) -> Vec<Value> {
        let from = |path: String| self.name(&path);
        let mut outputs = Vec::new();
        let mut put = |path: String, facets: Value, rows: Option<u64>| {
            let mut output = self.dataset(&path, facets);
            if let Some(rows) = rows {
                output["outputFacets"] = facets::written(rows);
            }
            outputs.push(output);
        };

        let mut of_silver = facets::schema(&silver::schema(contract), contract);
        extend(&mut of_silver, facets::silver_columns(contract, &from(bronze(contract))));
        put(silver_path(contract), of_silver, count(did.silver));
        let mut of_discard = facets::schema(&discard::schema(), contract);
        extend(&mut of_discard, facets::discard_columns(contract, &from(bronze(contract))));
        put(discard::PATH.to_owned(), of_discard, count(did.discarded + did.duplicates));
        put(ledger::PATH.to_owned(), facets::schema(&ledger::schema(), contract), Some(did.objects));
        for query in &contract.gold {
            let refreshed = report.and_then(|report| report.gold.iter().find(|gold| gold.name == query.name));
            // A query that cannot be planned is told of by the run itself.
            let facets = match origin::plan(contract, query).await {
                Ok(plan) => {
                    let mut of_gold = facets::schema(plan.schema().as_arrow(), contract);
                    let columns = origin::columns(&plan);
                    extend(&mut of_gold, facets::gold_columns(&columns, &from(silver_path(contract))));
                    of_gold
                }
                Err(_) => json!({}),
            };
            put(gold::path(&query.name), facets, refreshed.map(|gold| gold.rows as u64));
        }
        outputs
    }

    fn dataset(&self, path: &str, facets: Value) -> Value {
        let (namespace, name) = self.name(path);
        json!({ "namespace": namespace, "name": name, "facets": facets })
    }

    /// A dataset's namespace and name, as OpenLineage names files: the store, and the path in it.
    fn name(&self, path: &str) -> (String, String) {
        let url = self.lake.url();
        let root = url.path().trim_end_matches('/');
        match url.host_str().filter(|host| !host.is_empty()) {
            Some(host) => {
                let name = format!("{root}/{path}");
                (format!("{}://{host}", url.scheme()), name.trim_start_matches('/').to_owned())
            }
            None => (url.scheme().to_owned(), format!("{root}/{path}")),
        }
    }
}

fn tables(contract: &Contract) -> impl Iterator<Item = String> {
    [silver_path(contract), discard::PATH.to_owned(), ledger::PATH.to_owned()]
        .into_iter()
        .chain(contract.gold.iter().map(|query| gold::path(&query.name)))
}

fn bronze(contract: &Contract) -> String {
    format!("bronze/{}", contract.dataset)
}

fn silver_path(contract: &Contract) -> String {
    format!("silver/{}", contract.dataset)
}

fn count(rows: i64) -> Option<u64> {
    u64::try_from(rows).ok()
}

fn extend(facets: &mut Value, more: Value) {
    if let (Value::Object(facets), Value::Object(more)) = (facets, more) {
        facets.extend::<Map<String, Value>>(more);
    }
}

/// A random UUID (version 4).
fn run_id() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76 | 0x3 << 62) | (0x4 << 76 | 0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_a_random_uuid() {
        for _ in 0..100 {
            let id = run_id();
            let parts: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12]);
            assert_eq!(&id[14..15], "4");
            assert!("89ab".contains(&id[19..20]), "{id}");
        }
    }
}
