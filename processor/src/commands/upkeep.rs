//! `compact` and `maintain`: the lake stays quick and small.

use std::process::ExitCode;

use anyhow::Result;
use chrono::Utc;
use clap::Args;
use ingot_processor::compact::{self as compacting, CompactSettings, Compacted};
use ingot_processor::lake::Lake;
use ingot_processor::maintain::{self as maintaining, Line, MaintainSettings, Maintained};
use serde::Serialize;

use super::{WORK_FAILED, contracts_of, print, progress_bar};
use crate::cli::{Cli, Place};

/// What is worth compacting.
#[derive(Args)]
struct Closed {
    /// Days after a partition's own day until it is closed
    #[arg(long, value_name = "DAYS", default_value_t = CompactSettings::default().closed_after_days)]
    closed_after_days: u64,
    /// Small files that make compaction worth while
    #[arg(long, value_name = "N", default_value_t = CompactSettings::default().small_files_min, value_parser = clap::value_parser!(u64).range(2..))]
    small_files_min: u64,
}

impl Closed {
    fn settings(&self) -> CompactSettings {
        CompactSettings {
            closed_after_days: self.closed_after_days,
            small_files_min: self.small_files_min,
            ..CompactSettings::default()
        }
    }
}

/// `compact`.
#[derive(Args)]
pub struct CompactArgs {
    /// The lake and its contracts.
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    closed: Closed,
    /// Show what is due and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// `maintain`.
#[derive(Args)]
pub struct MaintainArgs {
    /// The lake and its contracts.
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    closed: Closed,
    /// Hours for which a file that no table shows any more is kept for readers that opened it before
    #[arg(long, value_name = "HOURS", default_value_t = MaintainSettings::default().keep_hours, value_parser = clap::value_parser!(u32).range(1..=i64::from(ingot_processor::table::KEEP_HOURS_MAX)))]
    keep_hours: u32,
    /// Show what is due and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What `compact` did.
#[derive(Serialize)]
struct CompactReport {
    compacted: Vec<Compacted>,
    failed: Vec<String>,
}

/// `compact`.
pub async fn compact(cli: &Cli, args: &CompactArgs) -> Result<ExitCode> {
    let contracts = contracts_of(&args.place)?;
    let lake = Lake::open(&args.place.lake)?;
    let settings = args.closed.settings();
    let due = compacting::due(&lake, &contracts, settings, Utc::now().timestamp_millis()).await?;
    if args.dry_run {
        return show_plan(cli, &due.iter().map(Line::from).collect::<Vec<_>>());
    }
    let bar = progress_bar(cli, "compacting", "partitions")?;
    bar.set_length(due.len() as u64);
    let mut report = CompactReport { compacted: Vec::new(), failed: Vec::new() };
    for partition in &due {
        match compacting::compact(&lake, partition, settings).await {
            Ok(done) => report.compacted.extend(done),
            Err(error) => report.failed.push(format!("{}: {error}", Line::from(partition).at)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    print(cli, &report, || {
        let mut text = compacted_text(&report.compacted);
        report.failed.iter().for_each(|failed| text += &format!("\n  failed, still due: {failed}"));
        text
    })?;
    Ok(exit(report.failed.is_empty()))
}

/// `maintain`.
pub async fn maintain(cli: &Cli, args: &MaintainArgs) -> Result<ExitCode> {
    let contracts = contracts_of(&args.place)?;
    let lake = Lake::open(&args.place.lake)?;
    let settings = MaintainSettings {
        compact: args.closed.settings(),
        keep_hours: args.keep_hours,
        ..MaintainSettings::default()
    };
    let plan = maintaining::plan(&lake, &contracts, settings, Utc::now().timestamp_millis()).await?;
    if args.dry_run {
        return show_plan(cli, &plan.lines());
    }
    let bar = progress_bar(cli, "maintaining", "steps")?;
    let maintained = maintaining::maintain(&lake, &plan, settings, |done, steps| {
        bar.set_length(steps);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    print(cli, &maintained, || maintained_text(&maintained))?;
    Ok(exit(maintained.failed.is_empty()))
}

fn exit(is_done: bool) -> ExitCode {
    if is_done { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) }
}

fn show_plan(cli: &Cli, lines: &[Line]) -> Result<ExitCode> {
    #[derive(Serialize)]
    struct Plan<'a> {
        due: &'a [Line],
    }
    print(cli, &Plan { due: lines }, || match lines {
        [] => "nothing is due".to_owned(),
        lines => format!("due, nothing was changed:{}", lines_text(lines)),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn maintained_text(maintained: &Maintained) -> String {
    let mut text = match maintained.done.as_slice() {
        [] => "nothing was due".to_owned(),
        done => format!("{} steps, {} bytes freed{}", done.len(), maintained.freed_bytes, lines_text(done)),
    };
    if !maintained.compacted.is_empty() {
        text += &format!("\n{}", compacted_text(&maintained.compacted));
    }
    maintained.failed.iter().for_each(|failed| text += &format!("\n  failed, still due: {failed}"));
    text
}

fn lines_text(lines: &[Line]) -> String {
    let line = |line: &Line| {
        let what = if line.step == "checkpoint" { "commits" } else { "files" };
        format!("\n  {} of {}: {} {what}, {} bytes", line.step, line.at, line.files, line.bytes)
    };
    lines.iter().map(line).collect()
}

fn compacted_text(compacted: &[Compacted]) -> String {
    let (before, after) = compacted
        .iter()
        .fold((0, 0), |(before, after), one| (before + one.files_before, after + one.files_after));
    format!("{} partitions compacted, {before} files became {after}", compacted.len())
}
