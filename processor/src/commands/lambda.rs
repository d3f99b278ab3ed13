//! `lambda`: a function of AWS Lambda, until Lambda ends it.
//!
//! Objects that a queue names are ingested; gold, upkeep, the audit and the catalog are done when an event asks for them, by what
//! the commands of these names call. Which of it a function does is up to what invokes it, and its role.

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use chrono::Utc;
use clap::Args;
use ingot_processor::alert::episode::Event as AlertEvent;
use ingot_processor::alert::target::Target;
use ingot_processor::alert::{Judged, judge};
use ingot_processor::audit::UNPROCESSED_AFTER_S;
use ingot_processor::aws::queue::Queue;
use ingot_processor::aws::s3::S3Place;
use ingot_processor::contract::Contract;
use ingot_processor::emf;
use ingot_processor::lake::Lake;
use ingot_processor::lambda::batch::{answer, take, take_created};
use ingot_processor::lambda::event::{Event, Task, parse};
use ingot_processor::lambda::ingest::Bounds;
use ingot_processor::lambda::runtime::{API_VARIABLE, Invocation, RuntimeApi, serve};
use ingot_processor::maintain::{self, MaintainSettings};
use ingot_processor::run::RunReport;
use ingot_processor::settle::{Settled, settle};
use serde::Serialize;
use serde_json::{Value, to_value};
use tracing::{info, warn};

use super::alerts::AlertTargets;
use super::audit::{held, queue_at};
use super::catalog::{check_name, synced};
use super::key::key;
use super::{Usage, contracts_of, in_words};
use crate::cli::Place;

/// Failures that an invocation's error names.
const FAILURES_NAMED_MAX: usize = 5;

/// `lambda`.
#[derive(Args)]
pub struct LambdaArgs {
    /// The lake and its contracts.
    #[command(flatten)]
    place: Place,
    /// Who is told of alerts.
    #[command(flatten)]
    alerts: AlertTargets,
    /// The queue to which the audit hands forgotten objects on
    #[arg(long, value_name = "URL", env = "INGOT_QUEUE_URL")]
    queue_url: Option<String>,
    /// The database in Glue's catalog
    #[arg(long, value_name = "NAME", env = "INGOT_CATALOG_DATABASE")]
    database: Option<String>,
    /// The workgroup of Athena in which views are made; without it, views are left
    #[arg(long, value_name = "NAME", env = "INGOT_ATHENA_WORKGROUP")]
    workgroup: Option<String>,
    /// Memory of the function; what is ingested at once is cut to it
    #[arg(long, value_name = "MIB", env = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", default_value_t = 1_024)]
    memory_mib: u64,
    /// Lambda's Runtime API
    #[arg(long, value_name = "HOST:PORT", env = API_VARIABLE)]
    runtime_api: String,
}

/// What stays from invocation to invocation.
struct Function {
    lake: Lake,
    place: S3Place,
    url: String,
    contracts: Vec<Contract>,
    targets: Vec<Target>,
    queue: Option<(Queue, S3Place)>,
    database: Option<String>,
    workgroup: Option<String>,
    memory_mib: u64,
}

/// `lambda`.
pub async fn lambda(args: &LambdaArgs) -> Result<ExitCode> {
    let api = RuntimeApi::new(&args.runtime_api)?;
    let function = match Function::open(args).await {
        Ok(function) => function,
        Err(error) => {
            api.init_failed(&in_words(&error)).await?;
            return Err(error);
        }
    };
    let ended =
        serve(&api, async |invocation| function.handle(invocation).await.map_err(|error| in_words(&error)));
    bail!(ended.await)
}

impl Function {
    /// Reads what the settings say; what is wrong with them is told before the first invocation.
    async fn open(args: &LambdaArgs) -> Result<Self> {
        let url = args.place.lake.clone();
        let Some(place) = S3Place::parse(&url) else {
            bail!(Usage(format!("a function's lake is in S3, s3://bucket/prefix, and {url} is not")));
        };
        let mut contracts = contracts_of(&args.place)?;
        let key = key(&args.place).await?;
        contracts.iter_mut().for_each(|contract| contract.pseudonym_key.clone_from(&key));
        let queue = args.queue_url.as_deref().map(queue_at).transpose()?;
        args.database.as_deref().map(check_name).transpose()?;
        Ok(Self {
            lake: Lake::open(&url)?,
            queue: queue.map(|queue| (queue, place.clone())),
            place,
            url,
            contracts,
            targets: args.alerts.open()?,
            database: args.database.clone(),
            workgroup: args.workgroup.clone(),
            memory_mib: args.memory_mib,
        })
    }

    async fn handle(&self, invocation: &Invocation) -> Result<Value> {
        let bounds = || Bounds::new(self.memory_mib, invocation.left());
        match parse(&invocation.event).context("the event is not understood")? {
            Event::Batch(messages) => {
                let taken = messages.len();
                let (report, failed) =
                    take(&self.lake, &self.place, &self.contracts, messages, bounds()).await;
                told(&report, taken, failed.len())?;
                Ok(answer(&failed))
            }
            Event::Created(created) => {
                let report = take_created(&self.lake, &self.place, &self.contracts, &created, bounds()).await;
                told(&report, created.len(), report.failed.len())?;
                match failure(&report.failed) {
                    Some(failure) => Err(failure),
                    None => Ok(to_value(&report)?),
                }
            }
            Event::Task(Task::Gold) => self.gold().await,
            Event::Task(Task::Maintain) => self.maintain().await,
            Event::Task(Task::Audit) => self.audit().await,
            Event::Task(Task::Catalog) => self.catalog().await,
        }
    }

    /// Checks that fail are the answer's and the alerts'; the invocation fails where something could not be done.
    async fn gold(&self) -> Result<Value> {
        #[derive(Serialize)]
        struct Report {
            #[serde(flatten)]
            settled: Settled,
            events: Vec<AlertEvent>,
            untold: Vec<String>,
        }
        let mut settled = Settled::default();
        for contract in &self.contracts {
            settled.add(settle(&self.lake, contract, Utc::now().timestamp_millis()).await?);
        }
        let now_ms = Utc::now().timestamp_millis();
        let Judged { events, untold, unmeasured } =
            judge(&self.lake, &self.contracts, &self.targets, now_ms).await?;
        settled.failed.extend(unmeasured);
        match failure(&settled.failed) {
            Some(failure) => Err(failure),
            None => Ok(to_value(&Report { settled, events, untold })?),
        }
    }

    async fn maintain(&self) -> Result<Value> {
        let settings = MaintainSettings::default();
        let now_ms = Utc::now().timestamp_millis();
        let plan = maintain::plan(&self.lake, &self.contracts, settings, now_ms).await?;
        let maintained = maintain::maintain(&self.lake, &plan, settings, |_, _| {}).await;
        match maintained.failed.as_slice() {
            [] => Ok(to_value(&maintained)?),
            failed => Err(anyhow!("{} steps failed and are still due: {}", failed.len(), failed.join("; "))),
        }
    }

    /// Gaps are the answer's and the metrics'; the invocation fails only where the audit could not be held.
    async fn audit(&self) -> Result<Value> {
        let Some(queue) = &self.queue else {
            bail!("the audit hands forgotten objects to a queue: set INGOT_QUEUE_URL");
        };
        let audited =
            held(&self.lake, &self.contracts, UNPROCESSED_AFTER_S, true, Some(queue), |_, _| {}).await?;
        let (findings, requeued) = (audited.balance.findings_count, audited.requeued.unwrap_or_default());
        emit([emf::of_audit(findings, requeued, Utc::now().timestamp_millis())])?;
        Ok(to_value(&audited)?)
    }

    async fn catalog(&self) -> Result<Value> {
        let Some(database) = &self.database else {
            bail!("the catalog needs the name of its database: set INGOT_CATALOG_DATABASE");
        };
        let workgroup = self.workgroup.as_deref().map(|name| (name, None));
        let synced = synced(&self.lake, &self.contracts, &self.url, database, workgroup, false, |_, _| {});
        let synced = synced.await?;
        match failure(&synced.failed) {
            Some(failure) => Err(failure),
            None => Ok(to_value(&synced)?),
        }
    }
}

/// A line in the log and the metrics of what was ingested.
fn told(report: &RunReport, taken: usize, failed: usize) -> Result<()> {
    info!(
        taken,
        failed,
        objects = report.total.objects,
        rows_in = report.total.rows_in,
        silver = report.total.silver,
        discarded = report.total.discarded,
        duplicates = report.total.duplicates,
        skipped = report.skipped,
        "ingested"
    );
    emit(emf::of_run(report, Utc::now().timestamp_millis()))
}

/// Lambda's log takes metrics from stdout, a line each.
fn emit(lines: impl IntoIterator<Item = String>) -> Result<()> {
    let mut out = stdout().lock();
    lines.into_iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(out.flush()?)
}

/// What failed: all in the log, the first in the error too, for one of them may be why the others did.
fn failure(failed: &BTreeMap<String, String>) -> Option<anyhow::Error> {
    failed.iter().for_each(|(what, reason)| warn!(%what, %reason, "failed"));
    let mut named: Vec<String> =
        failed.iter().take(FAILURES_NAMED_MAX).map(|(what, reason)| format!("{what}: {reason}")).collect();
    if failed.len() > FAILURES_NAMED_MAX {
        named.push(format!("and {} more, see the log", failed.len() - FAILURES_NAMED_MAX));
    }
    (!named.is_empty()).then(|| anyhow!(named.join("; ")))
}
