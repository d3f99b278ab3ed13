//! `catalog`: what Athena sees of the lake.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use ingot_processor::aws::athena::Workgroup;
use ingot_processor::aws::client::Client;
use ingot_processor::aws::glue::Database;
use ingot_processor::catalog::entry::Entry;
use ingot_processor::catalog::sync::{Change, Done, Synced, sync as syncing};
use ingot_processor::catalog::view::View;
use ingot_processor::catalog::{Catalog, describe};
use ingot_processor::contract::Contract;
use ingot_processor::lake::Lake;
use serde::Serialize;

use super::{Usage, WORK_FAILED, contracts_of, print, progress_bar};
use crate::cli::{Cli, Place};

/// `catalog`.
#[derive(Args)]
pub struct CatalogArgs {
    #[command(subcommand)]
    command: CatalogCommand,
}

#[derive(Subcommand)]
enum CatalogCommand {
    /// Make Glue's database, tables and Athena's views as the lake and its contracts say; nothing is ever dropped
    #[command(
        after_help = "Example:\n  ingot-processor catalog sync --lake s3://bucket/lake --database ingot --dry-run\n  ingot-processor catalog sync --lake s3://bucket/lake --database ingot --workgroup ingot\n\nRegion and credentials come from the environment: AWS_REGION, AWS_ACCESS_KEY_ID, …"
    )]
    Sync(Sync),
    /// Show the tables and the views' statements without asking AWS
    #[command(
        after_help = "Example:\n  ingot-processor catalog show --lake file:///data/lake --database ingot"
    )]
    Show(Show),
}

#[derive(Args)]
struct Show {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Sync {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    target: Target,
    /// The workgroup of Athena in which views are made; without it, views are left
    #[arg(long, value_name = "NAME", env = "INGOT_ATHENA_WORKGROUP")]
    workgroup: Option<String>,
    /// Where Athena puts results, where the workgroup does not say so itself
    #[arg(long, value_name = "S3_URL", requires = "workgroup")]
    output: Option<String>,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
struct Target {
    /// The database in Glue's catalog; made where there is none
    #[arg(long, value_name = "NAME", env = "INGOT_CATALOG_DATABASE")]
    database: String,
    /// Where Athena finds the lake, if that is not --lake: a copy of it in S3
    #[arg(long, value_name = "S3_URL")]
    location: Option<String>,
}

impl Target {
    /// The place that tables are told to be at.
    fn location<'a>(&'a self, lake: &'a str) -> Result<&'a str> {
        check_name(&self.database)?;
        Ok(self.location.as_deref().unwrap_or(lake))
    }
}

/// Athena wants names of a-z, 0-9 and _.
pub(super) fn check_name(database: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if database.is_empty() || database.len() > 255 || !database.chars().all(fits) {
        bail!(Usage(format!("--database {database:?} is not of a-z, 0-9 and _, as Athena wants it")));
    }
    Ok(())
}

#[derive(Serialize)]
struct Shown<'a> {
    tables: &'a [Entry],
    views: &'a [View],
    absent: &'a [String],
}

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    #[serde(flatten)]
    synced: Synced,
}

/// `catalog`.
pub async fn catalog(cli: &Cli, args: &CatalogArgs) -> Result<ExitCode> {
    match &args.command {
        CatalogCommand::Sync(args) => sync(cli, args).await,
        CatalogCommand::Show(args) => show(cli, args).await,
    }
}

async fn show(cli: &Cli, args: &Show) -> Result<ExitCode> {
    let location = args.target.location(&args.place.lake)?;
    let contracts = contracts_of(&args.place)?;
    let lake = Lake::open(&args.place.lake)?;
    let Catalog { tables, views, absent } =
        describe(&lake, &contracts, &args.target.database, location).await?;
    let shown = Shown { tables: &tables, views: &views, absent: &absent };
    print(cli, &shown, || show_text(&shown))?;
    Ok(ExitCode::SUCCESS)
}

async fn sync(cli: &Cli, args: &Sync) -> Result<ExitCode> {
    let location = args.target.location(&args.place.lake)?;
    if !location.starts_with("s3://") {
        bail!(Usage(format!(
            "Athena reads from S3, and the lake is {location}; give --location s3://…, or look at it with `catalog show`"
        )));
    }
    let contracts = contracts_of(&args.place)?;
    let lake = Lake::open(&args.place.lake)?;
    let database = &args.target.database;
    let workgroup = args.workgroup.as_deref().map(|name| (name, args.output.as_deref()));
    let bar = progress_bar(cli, "syncing", "tables and views")?;
    let synced = synced(&lake, &contracts, location, database, workgroup, args.dry_run, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    let synced = synced.await;
    bar.finish_and_clear();
    let report = Report { dry_run: args.dry_run, synced: synced? };
    print(cli, &report, || sync_text(&report))?;
    Ok(if report.synced.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
}

/// Makes the catalog as the lake and its contracts say; `workgroup` is its name and where results go. `progress` is told the
/// tables and views that are done, and all.
pub(super) async fn synced(
    lake: &Lake,
    contracts: &[Contract],
    location: &str,
    database: &str,
    workgroup: Option<(&str, Option<&str>)>,
    dry_run: bool,
    progress: impl Fn(u64, u64),
) -> Result<Synced> {
    let client = Client::from_env().map_err(|error| Usage(error.to_string()))?;
    let catalog = describe(lake, contracts, database, location).await?;
    let workgroup = workgroup.map(|(name, output)| Workgroup::new(client.clone(), name, output));
    let database = Database::new(client, database);
    let all = catalog.tables.len() + catalog.views.len();
    let done = |done: usize| progress(done as u64, all as u64);
    Ok(syncing(&catalog, &database, workgroup.as_ref(), dry_run, done).await?)
}

fn show_text(shown: &Shown) -> String {
    let mut text = String::new();
    for table in shown.tables {
        text += &format!("{}: {}\n  at {}\n", table.name, table.description, table.location);
        for column in &table.columns {
            let personal = if column.personal { " (personal data)" } else { "" };
            text += &format!("  {} {}{personal}: {}\n", column.name, column.hive_type, column.comment);
        }
    }
    for view in shown.views {
        text += &format!("\n-- {}\n{};\n", view.description, view.statement);
    }
    shown.absent.iter().for_each(|path| text += &format!("\n{path} is not in the lake yet"));
    text.trim_end().to_owned()
}

fn sync_text(Report { dry_run, synced }: &Report) -> String {
    let mut text = format!("database {}", synced.database);
    if synced.database_created {
        text += ": created";
    }
    for (kind, changes) in [("tables", &synced.tables), ("views", &synced.views)] {
        text += &changes_text(kind, changes);
    }
    synced.absent.iter().for_each(|path| text += &format!("\n  {path} is not in the lake yet"));
    for (name, reason) in &synced.failed {
        text += &format!("\n  failed: {name}: {reason}");
    }
    let would = if *dry_run { " would be made; nothing was" } else { "" };
    text + &format!("\n{} changes{would}", synced.changes)
}

fn changes_text(kind: &str, changes: &[Change]) -> String {
    let mut text = String::new();
    let count = |done: Done| changes.iter().filter(|change| change.done == done).count();
    for change in changes {
        let word = match change.done {
            Done::Created => "created",
            Done::Changed => "changed",
            Done::Unchanged | Done::Left => continue,
        };
        text += &format!("\n  {word} {}", change.name);
        if !change.what.is_empty() {
            text += &format!(": {}", change.what.join(", "));
        }
    }
    if count(Done::Unchanged) > 0 {
        text += &format!("\n  {} {kind} are as they should be", count(Done::Unchanged));
    }
    if count(Done::Left) > 0 {
        text += &format!("\n  {} {kind} are left: give --workgroup", count(Done::Left));
    }
    text
}
