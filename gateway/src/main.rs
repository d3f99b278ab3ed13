//! `ingot-gateway`: read the flags, start the log, load the settings, run, say what was done.
//!
//! Exit codes: 0 done, 1 the work failed or is not complete, 2 usage or configuration.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ingot_gateway::config::{Config, Overrides};
use ingot_gateway::provision::command::Provision;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(version, about = "Edge daemon: sources, agent, spool on disk, MQTT uplink")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read sources, seal frames, keep them on disk, send them until they are confirmed
    #[command(
        after_help = "Examples:\n  ingot-gateway run --lake file:///tmp/lake < readings.ndjson\n  ingot-gateway run --config /etc/ingot/gateway.toml"
    )]
    Run(Settings),
    /// Validate the settings and print them as they take effect
    #[command(after_help = "Example:\n  ingot-gateway check --config /etc/ingot/gateway.toml")]
    Check(Settings),
    /// Get this gateway its certificate, or a new one
    Provision {
        #[command(subcommand)]
        how: Provision,
        /// Form of the output on stdout; the log goes to stderr
        #[arg(long, value_enum, default_value = "text", global = true)]
        format: Format,
    },
}

#[derive(Args)]
struct Settings {
    /// Settings in TOML; see config/gateway.example.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write bronze objects below this URL instead of the configured uplink
    #[arg(long, value_name = "file:///DIR")]
    lake: Option<String>,
    /// The gateway's name
    #[arg(long)]
    name: Option<String>,
    /// The spool's directory
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Form of the output on stdout; the log goes to stderr
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    let (settings, checks_only) = match cli.command {
        Command::Run(settings) => (settings, false),
        Command::Check(settings) => (settings, true),
        Command::Provision { how, format } => return provision(how, format),
    };
    let overrides = Overrides { name: settings.name, spool: settings.spool, lake: settings.lake };
    let config = match Config::load(settings.config.as_deref(), overrides) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let done = if checks_only { Ok(check(&config)) } else { run(config, settings.format) };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn provision(how: Provision, format: Format) -> ExitCode {
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the system gave no runtime")
        .and_then(|runtime| Ok(runtime.block_on(how.run())?));
    match done {
        Ok(done) => {
            match format {
                Format::Text => println!("{done}"),
                Format::Json => println!("{}", serde_json::json!(done)),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn check(config: &Config) -> ExitCode {
    print!("{}", config.effective());
    ExitCode::SUCCESS
}

fn run(config: Config, format: Format) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the system gave no threads")?;
    let summary = runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let shutdown = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        anyhow::Ok(ingot_gateway::run(config, Vec::new(), shutdown).await?)
    })?;
    // A read of standard input that nobody will answer must not hold up the end.
    runtime.shutdown_background();
    match format {
        Format::Text => println!("{summary}"),
        Format::Json => println!("{}", serde_json::to_string(&summary)?),
    }
    Ok(if summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
