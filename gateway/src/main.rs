//! `ingot-gateway`: read the flags, start the log, load the settings, do the command.
//!
//! Exit codes: 0 done, 1 the work failed or is not complete, 2 usage or configuration.

mod cli;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use cli::{Cli, Command, Format};
use ingot_gateway::config::Config;
use ingot_gateway::notify::Notifier;
use ingot_gateway::provision::command::Provision;
use ingot_gateway::reload::{Origin, Reloads};
use ingot_gateway::{Host, doctor, status};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    let done = match cli.command {
        Command::Doctor { settings, publish } => examine(&settings.origin(), publish, settings.format),
        Command::Check(settings) => with_config(&settings.origin(), check),
        Command::Run(settings) => {
            let origin = settings.origin();
            with_config(&origin, |config| run(config, origin.clone(), settings.format))
        }
        Command::Status { settings, once } => {
            with_config(&settings.origin(), |config| show(&config, once, settings.format))
        }
        Command::Provision { how, format } => provision(how, format),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn with_config(
    origin: &Origin,
    work: impl FnOnce(Config) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    match origin.load() {
        Ok(config) => work(config),
        Err(error) => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(2))
        }
    }
}

fn check(config: Config) -> anyhow::Result<ExitCode> {
    print!("{}", config.effective());
    Ok(ExitCode::SUCCESS)
}

fn run(config: Config, origin: Origin, format: Format) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the system gave no threads")?;
    let summary = runtime.block_on(async {
        let (mut interrupt, mut terminate, mut hangup) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        );
        let shutdown = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        // One reload may wait while one is done; more of them would read the same file.
        let (ask, asked) = mpsc::channel(1);
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let _ = ask.try_send(());
            }
        });
        let host = Host { reloads: Reloads::new(origin, asked), notifier: Notifier::from_env() };
        anyhow::Ok(ingot_gateway::run_hosted(config, Vec::new(), host, shutdown).await?)
    })?;
    // A read of standard input that nobody will answer must not hold up the end.
    runtime.shutdown_background();
    match format {
        Format::Text => println!("{summary}"),
        Format::Json => println!("{}", serde_json::to_string(&summary)?),
    }
    Ok(if summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(config: &Config, once: bool, format: Format) -> anyhow::Result<ExitCode> {
    let live = !once && format == Format::Text && std::io::stdout().is_terminal();
    let mut before = None;
    loop {
        let now = status::fetch(&config.health)?;
        match format {
            Format::Json => println!("{}", serde_json::to_string(&now)?),
            // Home, the new text with each line cleared to its end, and the rest of the screen cleared.
            Format::Text if live => {
                print!("\x1b[H{}\x1b[J", status::text(&now, before.as_ref()).replace('\n', "\x1b[K\n"));
            }
            Format::Text => print!("{}", status::text(&now, None)),
        }
        if !live {
            return Ok(if now.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        before = Some(now);
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn examine(origin: &Origin, publish: bool, format: Format) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(doctor::examine(origin, publish));
    match format {
        Format::Text => println!("{report}"),
        Format::Json => println!("{}", serde_json::to_string(&report)?),
    }
    Ok(if report.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn provision(how: Provision, format: Format) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(how.run())?;
    match format {
        Format::Text => println!("{done}"),
        Format::Json => println!("{}", serde_json::to_string(&done)?),
    }
    Ok(ExitCode::SUCCESS)
}
