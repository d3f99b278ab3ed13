//! `forget`: a person or a device is erased from the lake, and a receipt proves it.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use ingot_processor::forget::receipt::{Statement, verify};
use ingot_processor::forget::{self as forgetting, ForgetError, ForgetReport, ForgetSettings, Subject};
use ingot_processor::forgotten::ForgottenError;
use ingot_processor::lake::Lake;
use ingot_processor::pseudonym::PseudonymKey;

use super::key::{contracts_with_key, key};
use super::{Usage, WORK_FAILED, print, progress_bar};
use crate::cli::{Cli, Place};

/// `forget`.
#[derive(Args)]
pub struct ForgetArgs {
    /// The lake and its contracts.
    #[command(flatten)]
    place: Place,
    /// Who: a column that names people or devices and a value, e.g. device=d1; `-` reads it from standard input, out of sight of process lists
    #[arg(long, value_name = "COLUMN=VALUE", required_unless_present = "verify")]
    subject: Option<String>,
    /// Count what would go and change nothing
    #[arg(long)]
    dry_run: bool,
    /// No processor is at work on the lake: files of writes that never finished go at once, not ten minutes later
    #[arg(long)]
    alone: bool,
    /// Check a receipt instead; with --subject also whether it is about this one
    #[arg(long, value_name = "RECEIPT", conflicts_with_all = ["dry_run", "alone"])]
    verify: Option<PathBuf>,
}

/// `forget`.
pub async fn forget(cli: &Cli, args: &ForgetArgs) -> Result<ExitCode> {
    let contracts = contracts_with_key(&args.place).await?;
    let Some(key) = key(&args.place).await? else { bail!(Usage(ForgetError::NoKey.to_string())) };
    let subject = args.subject.as_deref().map(subject).transpose()?;
    if let Some(receipt) = &args.verify {
        return verified(cli, receipt, &key, subject.as_ref());
    }
    let Some(subject) = subject else { bail!(Usage(ForgetError::Subject.to_string())) };
    let lake = Lake::open(&args.place.lake)?;
    let settings = ForgetSettings { alone: args.alone, dry_run: args.dry_run };
    let bar = progress_bar(cli, "forgetting", "objects")?;
    let report = forgetting::forget(&lake, &contracts, &key, &subject, settings, |done, found| {
        bar.set_length(found);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    let report = match report {
        Err(error @ (ForgetError::Column { .. } | ForgetError::Forgotten(ForgottenError::OtherKey))) => {
            bail!(Usage(error.to_string()))
        }
        report => report?,
    };
    print(cli, &report, || text(&report, args.dry_run))?;
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
}

fn subject(argument: &str) -> Result<Subject> {
    let mut text = argument.to_owned();
    if argument == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text).context("reading the subject from standard input")?;
    }
    text.trim_end_matches(['\r', '\n']).parse().or_else(|error: ForgetError| bail!(Usage(error.to_string())))
}

fn verified(cli: &Cli, receipt: &PathBuf, key: &PseudonymKey, subject: Option<&Subject>) -> Result<ExitCode> {
    let read = std::fs::read_to_string(receipt);
    let read = read.or_else(|error| bail!(Usage(format!("--verify {}: {error}", receipt.display()))))?;
    let statement = verify(&read, key, subject).with_context(|| receipt.display().to_string())?;
    print(cli, &statement, || statement_text(&statement))?;
    Ok(ExitCode::SUCCESS)
}

fn statement_text(statement: &Statement) -> String {
    let rows: u64 = statement.datasets.values().map(|erased| erased.bronze_rows).sum();
    format!(
        "genuine: a subject of the column {} was erased on {}, {rows} rows in bronze",
        statement.column, statement.done_at
    )
}

fn text(report: &ForgetReport, dry_run: bool) -> String {
    let mut text = String::from(if dry_run { "would go:" } else { "erased:" });
    for (dataset, erased) in &report.datasets {
        text += &format!(
            "\n  {dataset}: {} rows in {} bronze objects, {} rows of silver, {} of discard",
            erased.bronze_rows, erased.bronze_objects, erased.silver_rows, erased.discard_rows
        );
        if erased.mentions > 0 {
            text += &format!("; {} rows of others mention the value and stay in bronze", erased.mentions);
        }
    }
    for gold in &report.gold {
        let days = gold.days.map_or("all days".to_owned(), |days| format!("{days} days"));
        text += &format!("\n  gold {}: {} rows, {days} recomputed", gold.name, gold.rows);
    }
    for (key, reason) in &report.failed {
        text += &format!("\n  not erased: {key}: {reason}");
    }
    if report.in_flight > 0 {
        text += &format!(
            "\n  {} files may be a processor's unfinished writes and hold its rows: run the same command in ten minutes, or with --alone when no processor runs",
            report.in_flight
        );
    }
    if let Some(receipt) = &report.receipt {
        text += &format!("\nreceipt: {receipt}, below the lake");
    }
    text
}
