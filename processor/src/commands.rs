//! The commands: open what is named, do the work with the library, print a summary, choose the exit code.

pub mod alerts;
pub mod audit;
pub mod catalog;
mod checks;
pub mod contract;
mod contracts;
pub mod cost;
pub mod forget;
mod key;
pub mod lambda;
pub mod lineage;
pub mod redrive;
pub mod trace;
pub mod upkeep;

use std::io::{ErrorKind, IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::util::pretty::pretty_format_batches;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingot_processor::contract::Contract;
use ingot_processor::lake::{Lake, LakeError};
use ingot_processor::lineage::outlet::Outlet;
use ingot_processor::run::RunReport;
use ingot_processor::{land as landing, query as querying};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, Format, Land, Query, Run, Watch};
use contracts::{contracts, contracts_of};
use key::contracts_with_key;

const WORK_FAILED: u8 = 1;
const USAGE: u8 = 2;
const SPINNER_TICK: Duration = Duration::from_millis(100);

/// Logs go to stderr, in JSON where the summary is.
pub fn start_log(cli: &Cli) {
    let ours = || EnvFilter::new("ingot_processor=info");
    let filter = match cli.command {
        // The query engine logs its plans, with the values in them.
        Command::Forget(_) => ours(),
        _ => EnvFilter::try_from_default_env().unwrap_or_else(|_| ours()),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match (cli.format, &cli.command) {
        (Format::Json, _) | (_, Command::Lambda(_)) => log.json().init(),
        (Format::Text, _) => log.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}

/// Says what failed and what lies under it.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    let gone = |cause: &std::io::Error| cause.kind() == ErrorKind::BrokenPipe;
    if error.chain().filter_map(|cause| cause.downcast_ref()).any(gone) {
        // Who read the output has seen enough, as `head` does.
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", in_words(error));
    let lake = error.downcast_ref::<LakeError>();
    let is_usage =
        error.is::<Usage>() || matches!(lake, Some(LakeError::Url { .. } | LakeError::Setup { .. }));
    ExitCode::from(if is_usage { USAGE } else { WORK_FAILED })
}

/// The error and its causes; those that an outer one has told already are not said again.
fn in_words(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        told if told.contains(&cause) => told.to_owned(),
        told => format!("{told}: {cause}"),
    })
}

/// The user's files or words are wrong; nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// `run`.
pub async fn run(cli: &Cli, run: &Run) -> Result<ExitCode> {
    let contracts = contracts_with_key(&run.place).await?;
    let targets = run.alerts.open()?;
    let outlet = run.lineage.open()?;
    let lake = Lake::open(&run.place.lake)?;
    let report = run_with_progress(cli, &lake, &contracts, outlet.as_ref()).await;
    lineage::close(outlet).await;
    let report = report?;
    alerts::after_run(&lake, &contracts, &targets).await;
    print(cli, &report, || run_text(&report))?;
    Ok(if report.succeeded() { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
}

/// `watch`.
pub async fn watch(cli: &Cli, watch: &Watch) -> Result<ExitCode> {
    let contracts = contracts_with_key(&watch.place).await?;
    let targets = watch.alerts.open()?;
    let outlet = watch.lineage.open()?;
    let lake = Lake::open(&watch.place.lake)?;
    let stop = stop_asked()?;
    tokio::pin!(stop);
    loop {
        // A failed run is reported and tried again: the next look goes on where this one stopped.
        match run_with_progress(cli, &lake, &contracts, outlet.as_ref()).await {
            Ok(report) if report.total.objects > 0 => print(cli, &report, || run_text(&report))?,
            Ok(_) => {}
            Err(error) => eprintln!("error: {}", in_words(&error)),
        }
        alerts::after_run(&lake, &contracts, &targets).await;
        tokio::select! {
            _ = &mut stop => {
                lineage::close(outlet).await;
                return Ok(ExitCode::SUCCESS);
            }
            () = tokio::time::sleep(Duration::from_secs(watch.every_s)) => {}
        }
    }
}

/// `land`.
pub async fn land(cli: &Cli, land: &Land) -> Result<ExitCode> {
    if !land.mqtt.ip().is_loopback() {
        bail!(Usage(format!(
            "--mqtt {} is not on this machine, and the connection is not encrypted; run `land` beside the broker",
            land.mqtt
        )));
    }
    let lake = Lake::create(&land.lake)?;
    let stop = stop_asked()?;
    let host = land.mqtt.ip().to_string();
    let landed = landing::land(&lake, &host, land.mqtt.port(), &land.client_id, stop).await?;
    print(cli, &landed, || {
        format!("landed {} messages, {} bytes; refused {}", landed.messages, landed.bytes, landed.refused)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `query`.
pub async fn query(cli: &Cli, query: &Query) -> Result<ExitCode> {
    let contracts = contracts_of(&query.place)?;
    let lake = Lake::open(&query.place.lake)?;
    let asking = spinner(cli, "asking");
    let rows = querying::query(&lake, &contracts, &query.sql).await;
    asking.finish_and_clear();
    let rows = rows?;
    match cli.format {
        Format::Text => writeln!(stdout().lock(), "{}", pretty_format_batches(&rows)?)?,
        Format::Json => {
            let mut json = LineDelimitedWriter::new(stdout().lock());
            json.write_batches(&rows.iter().collect::<Vec<_>>())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Done when the user or the system asks the program to end: SIGINT or SIGTERM.
fn stop_asked() -> Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

async fn run_with_progress(
    cli: &Cli,
    lake: &Lake,
    contracts: &[Contract],
    outlet: Option<&Outlet>,
) -> Result<RunReport> {
    let bar = progress_bar(cli, "processing", "objects")?;
    let report = lineage::run(lake, contracts, outlet, |done, found| {
        bar.set_length(found);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    Ok(report?)
}

/// A bar on stderr for work that can take long; none where the summary is JSON.
fn progress_bar(cli: &Cli, doing: &str, what: &str) -> Result<ProgressBar> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if cli.format == Format::Json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.set_style(
        ProgressStyle::with_template(&format!("{doing} {{wide_bar}} {{pos}}/{{len}} {what}, {{eta}} left"))
            .context("the progress bar's template")?,
    );
    Ok(bar)
}

/// A spinner on stderr for work of which nobody knows how long it takes; none where the summary is JSON.
fn spinner(cli: &Cli, doing: &'static str) -> ProgressBar {
    if cli.format == Format::Json {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_message(doing);
    spinner.enable_steady_tick(SPINNER_TICK);
    spinner
}

fn print<T: Serialize>(cli: &Cli, value: &T, text: impl FnOnce() -> String) -> Result<()> {
    let text = match cli.format {
        Format::Text => text(),
        Format::Json => serde_json::to_string(value)?,
    };
    Ok(writeln!(stdout().lock(), "{text}")?)
}

fn run_text(report: &RunReport) -> String {
    let mut text = format!(
        "{} objects, {} rows in = {} silver + {} discarded + {} duplicates{}",
        report.total.objects,
        report.total.rows_in,
        report.total.silver,
        report.total.discarded,
        report.total.duplicates,
        superseded(report.total.superseded),
    );
    for (rule, rows) in &report.total.rules {
        text += &format!("\n  discarded by {rule}: {rows}");
    }
    for (check, rows) in &report.total.warnings {
        text += &format!("\n  warned of by {check}: {rows}");
    }
    for gold in &report.gold {
        let days = gold.days.map_or("all days".to_owned(), |days| format!("{days} days"));
        text += &format!("\n  gold {}: {} rows, {days} recomputed", gold.name, gold.rows);
    }
    text += &checks::text(&report.checks);
    if report.skipped > 0 {
        text += &format!("\n  skipped {} objects, for instance", report.skipped);
    }
    for reason in report.skipped_keys.values() {
        text += &format!("\n    {reason}");
    }
    for (key, reason) in &report.quarantined {
        text += &format!("\n  set aside: {key}: {reason}");
    }
    if report.in_quarantine > 0 {
        text += &format!("\n  {} objects are in quarantine since earlier runs", report.in_quarantine);
    }
    for (dataset, objects) in &report.stopped {
        text += &format!("\n  stopped for {dataset}, {objects} objects are left for the next run");
    }
    for (key, reason) in &report.failed {
        text += &format!("\n  failed, to be tried again: {key}: {reason}");
    }
    text
}

fn superseded(rows: i64) -> String {
    if rows == 0 { String::new() } else { format!(" + {rows} superseded") }
}
