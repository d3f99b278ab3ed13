//! `ingot-processor`: the table of contents of the command line.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

mod cli;
mod commands;

use cli::{Cli, Command};

/// It gives back what a large object took; glibc's keeps it for each of the threads (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse_from(cli::words());
    commands::start_log(&cli);
    let result = match &cli.command {
        Command::Run(run) => commands::run(&cli, run).await,
        Command::Watch(watch) => commands::watch(&cli, watch).await,
        Command::Land(land) => commands::land(&cli, land).await,
        Command::Audit(audit) => commands::audit::audit(&cli, audit).await,
        Command::Alerts(args) => commands::alerts::alerts(&cli, args).await,
        Command::Redrive(args) => commands::redrive::redrive(&cli, args).await,
        Command::Rebuild(args) => commands::redrive::rebuild(&cli, args).await,
        Command::Forget(args) => commands::forget::forget(&cli, args).await,
        Command::Trace(args) => commands::trace::trace(&cli, args).await,
        Command::Query(query) => commands::query(&cli, query).await,
        Command::Compact(args) => commands::upkeep::compact(&cli, args).await,
        Command::Maintain(args) => commands::upkeep::maintain(&cli, args).await,
        Command::Cost(cost) => commands::cost::cost(&cli, cost).await,
        Command::Catalog(catalog) => commands::catalog::catalog(&cli, catalog).await,
        Command::Lambda(args) => commands::lambda::lambda(args).await,
        Command::Contract(contract) => commands::contract::contract(&cli, contract).await,
    };
    result.unwrap_or_else(|error| commands::failed(&error))
}
