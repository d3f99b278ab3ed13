//! `ingot-processor`: the table of contents of the command line.

use std::process::ExitCode;

use clap::Parser;

mod cli;
mod commands;

use cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    commands::start_log(&cli);
    let result = match &cli.command {
        Command::Run(place) => commands::run(&cli, place).await,
        Command::Watch(watch) => commands::watch(&cli, watch).await,
        Command::Land(land) => commands::land(&cli, land).await,
        Command::Audit(audit) => commands::audit::audit(&cli, audit).await,
        Command::Query(query) => commands::query(&cli, query).await,
        Command::Contract(contract) => commands::contract::contract(&cli, contract).await,
    };
    result.unwrap_or_else(|error| commands::failed(&error))
}
