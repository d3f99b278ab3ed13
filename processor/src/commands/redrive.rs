//! `redrive` and `rebuild`: what bronze gives under the contract as it is now.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use ingot_processor::lake::Lake;
use ingot_processor::rebuild::{self, RebuildError, RebuildReport};
use ingot_processor::redrive::{self, RedriveError, RedriveReport, Which, since_ms};

use super::key::contracts_with_key;
use super::{Usage, WORK_FAILED, print, progress_bar};
use crate::cli::{Cli, Place};

/// `redrive`.
#[derive(Args)]
pub struct RedriveArgs {
    /// The lake and its contracts, as they are now.
    #[command(flatten)]
    place: Place,
    /// The rule whose discards are judged again, e.g. bad_currency or type.amount
    #[arg(long, value_name = "RULE")]
    rule: String,
    /// Only rows discarded since this day or moment (UTC), e.g. 2026-01-31
    #[arg(long, value_name = "TIME", value_parser = since_ms)]
    since: Option<i64>,
    /// Only this dataset
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
}

/// `rebuild`.
#[derive(Args)]
pub struct RebuildArgs {
    /// The lake and its contracts, as they are now.
    #[command(flatten)]
    place: Place,
    /// The new lake, e.g. file:///data/lake-2; made where there is none. The old one is only read
    #[arg(long, value_name = "LAKE")]
    into: String,
}

/// `redrive`.
pub async fn redrive(cli: &Cli, args: &RedriveArgs) -> Result<ExitCode> {
    let contracts = contracts_with_key(&args.place).await?;
    let lake = Lake::open(&args.place.lake)?;
    let which = Which { rule: args.rule.clone(), since_ms: args.since, dataset: args.dataset.clone() };
    let bar = progress_bar(cli, "judging again", "objects")?;
    let report = redrive::redrive(&lake, &contracts, &which, |done, found| {
        bar.set_length(found);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    let report = match report {
        Err(error @ RedriveError::Duplicate) => bail!(Usage(error.to_string())),
        report => report?,
    };
    print(cli, &report, || redrive_text(&report))?;
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
}

fn redrive_text(report: &RedriveReport) -> String {
    let mut text = format!(
        "{} objects, {} rows discarded by {} = {} in silver now + {} duplicates + {} discarded still",
        report.objects, report.rows, report.rule, report.silver, report.duplicates, report.discarded
    );
    for (rule, rows) in &report.rules {
        text += &format!("\n  discarded by {rule}: {rows}");
    }
    if !report.other_rules.is_empty() {
        let named = report.other_rules.iter().map(|(rule, rows)| format!("{rule} ({rows})"));
        text += &format!("\n  rules that discarded rows: {}", named.collect::<Vec<_>>().join(", "));
    }
    for gold in &report.gold {
        let days = gold.days.map_or("all days".to_owned(), |days| format!("{days} days"));
        text += &format!("\n  gold {}: {} rows, {days} recomputed", gold.name, gold.rows);
    }
    for (key, reason) in &report.failed {
        text += &format!("\n  left as it was: {key}: {reason}");
    }
    text
}

/// `rebuild`.
pub async fn rebuild(cli: &Cli, args: &RebuildArgs) -> Result<ExitCode> {
    let contracts = contracts_with_key(&args.place).await?;
    let from = Lake::open(&args.place.lake)?;
    let into = Lake::create(&args.into)?;
    let bar = progress_bar(cli, "rebuilding", "objects")?;
    let report = rebuild::rebuild(&from, &into, &contracts, |done, found| {
        bar.set_length(found);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    let report = match report {
        Err(error @ (RebuildError::NotEmpty { .. } | RebuildError::Same)) => bail!(Usage(error.to_string())),
        report => report?,
    };
    print(cli, &report, || rebuild_text(&report))?;
    Ok(if report.run.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
}

fn rebuild_text(report: &RebuildReport) -> String {
    let mut text = format!("{} objects rebuilt into {}", report.objects, report.into);
    for (table, compared) in &report.tables {
        let rows = |print: &Option<_>| {
            print.as_ref().map_or(0, |print: &ingot_processor::fingerprint::Fingerprint| print.rows)
        };
        let verdict = if compared.old == compared.new { "equal" } else { "DIFFERENT" };
        text += &format!(
            "\n  {table}: {} rows were, {} rows are, {verdict}",
            rows(&compared.old),
            rows(&compared.new)
        );
    }
    for (key, reason) in &report.run.failed {
        text += &format!("\n  failed: {key}: {reason}");
    }
    text += if report.equal {
        "\nevery row is as it was"
    } else {
        "\nthe new lake is what bronze gives under these contracts; the old one is as it was"
    };
    text
}
