//! `alerts`, and what `run` and `watch` do about them at their end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use ingot_processor::alert::episode::{Event, Open};
use ingot_processor::alert::store::Store;
use ingot_processor::alert::target::{Target, Webhook};
use ingot_processor::alert::{Judged, judge};
use ingot_processor::aws::client::Client;
use ingot_processor::aws::topic::Topic;
use ingot_processor::contract::Contract;
use ingot_processor::lake::Lake;
use serde::Serialize;
use tracing::warn;

use super::{Usage, WORK_FAILED, contracts_of, print, spinner};
use crate::cli::{Cli, Place};

/// Who is told of alerts, besides the log.
#[derive(Args)]
pub struct AlertTargets {
    /// POST each alert as JSON to this URL when it opens and when it resolves
    #[arg(long, value_name = "URL", env = "INGOT_ALERT_WEBHOOK", hide_env_values = true)]
    alert_webhook: Option<String>,
    /// A file with the key that signs each POST (HMAC-SHA256 in the header Ingot-Signature)
    #[arg(long, value_name = "FILE", env = "INGOT_ALERT_WEBHOOK_KEY_FILE", requires = "alert_webhook")]
    alert_webhook_key_file: Option<PathBuf>,
    /// Publish each alert as JSON to this topic of SNS, with the usual AWS_* environment variables
    #[arg(long, value_name = "ARN", env = "INGOT_ALERT_TOPIC")]
    alert_topic: Option<String>,
}

impl AlertTargets {
    /// The targets; what is wrong with them is told before anything is done.
    pub fn open(&self) -> Result<Vec<Target>> {
        let mut targets = vec![Target::Log];
        if let Some(url) = &self.alert_webhook {
            let key = self.alert_webhook_key_file.as_ref().map(|file| {
                let key = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
                Ok::<_, anyhow::Error>(key.trim_ascii().to_vec())
            });
            let key = key.transpose()?;
            if key.as_ref().is_some_and(Vec::is_empty) {
                bail!(Usage("the file of --alert-webhook-key-file is empty".to_owned()));
            }
            let webhook = Webhook::new(url, key.as_deref()).map_err(|error| Usage(error.to_string()))?;
            targets.push(Target::Webhook(Box::new(webhook)));
        }
        if let Some(arn) = &self.alert_topic {
            let topic = Client::from_env().and_then(|client| Topic::new(client, arn));
            targets.push(Target::Topic(Box::new(topic.map_err(|error| Usage(error.to_string()))?)));
        }
        Ok(targets)
    }
}

/// `alerts`.
#[derive(Args)]
pub struct AlertsArgs {
    /// The lake and its contracts.
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    targets: AlertTargets,
}

#[derive(Serialize)]
struct Report {
    open: Vec<Open>,
    events: Vec<Event>,
    untold: Vec<String>,
    unmeasured: BTreeMap<String, String>,
}

/// `alerts`.
pub async fn alerts(cli: &Cli, args: &AlertsArgs) -> Result<ExitCode> {
    let contracts = contracts_of(&args.place)?;
    let targets = args.targets.open()?;
    let lake = Lake::open(&args.place.lake)?;
    let spinner = spinner(cli, "judging");
    let judged = judge(&lake, &contracts, &targets, Utc::now().timestamp_millis()).await;
    spinner.finish_and_clear();
    let Judged { events, untold, unmeasured } = judged?;
    let open: Vec<Open> = Store::new(&lake).load().await?.open.into_values().collect();
    let report = Report { open, events, untold, unmeasured };
    print(cli, &report, || text(&report))?;
    // What could not be measured may be as bad as what is open.
    let quiet = report.open.is_empty() && report.unmeasured.is_empty();
    Ok(if quiet { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
}

/// Judges alerts after a run. Whatever goes wrong here is told and does not fail the run.
pub async fn after_run(lake: &Lake, contracts: &[Contract], targets: &[Target]) {
    match judge(lake, contracts, targets, Utc::now().timestamp_millis()).await {
        Ok(judged) => {
            judged.untold.iter().for_each(|untold| warn!("{untold}"));
            judged.unmeasured.iter().for_each(|(alert, reason)| warn!("{alert} was not measured: {reason}"));
        }
        Err(error) => warn!(%error, "alerts were not judged"),
    }
}

fn text(report: &Report) -> String {
    let mut text = match report.open.len() {
        0 => "no alert is open".to_owned(),
        open => format!("{open} open"),
    };
    for open in &report.open {
        let since = DateTime::from_timestamp_millis(open.since_ms).unwrap_or_default();
        let since = since.format("%Y-%m-%d %H:%M:%S UTC");
        text += &format!("\n  {} of {} since {since}: {}", open.alert, open.dataset, open.summary);
        if !open.common.is_empty() {
            let common: Vec<_> = open.common.iter().map(|(name, value)| format!("{name} {value}")).collect();
            text += &format!("; in common: {}", common.join(", "));
        }
    }
    report.untold.iter().for_each(|untold| text += &format!("\n  {untold}"));
    for (alert, reason) in &report.unmeasured {
        text += &format!("\n  {alert} was not measured: {reason}");
    }
    text
}
