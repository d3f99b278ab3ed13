//! `ingot-sim demo`: the whole road on this machine.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingot_sim::demo::{Progress, Settings, demo};
use tracing_subscriber::EnvFilter;

use super::{Faults, Format, parse_rate};

#[derive(Parser)]
#[command(after_help = "\
Examples:
  cargo demo
  cargo demo -- --devices 50 --seconds 10 --format json
  cargo demo -- --faults off --seed 7 --out /tmp/demo

A second shows an hour of the fleet's life. Exits with 1 where the books do not balance or a reading is \
not where it belongs.")]
pub struct Args {
    /// How many devices
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    devices: u32,
    /// How long they produce, by the clock
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Readings a second of each device, over all its channels
    #[arg(long, default_value_t = 100.0, value_parser = parse_rate)]
    rate: f64,
    /// The world and its faults follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Whether sensors and broker fail
    #[arg(long, default_value = "on")]
    faults: Faults,
    /// Where lake, spools, truth and report go; a former demo's are replaced
    #[arg(long, value_name = "FOLDER", default_value = "target/demo")]
    out: PathBuf,
    /// How the summary is printed
    #[arg(long, default_value = "text")]
    format: Format,
}

/// Runs the demo, prints its summary, and fails where it proved nothing.
pub fn run(args: Args) -> anyhow::Result<()> {
    start_log();
    let settings = Settings {
        devices: args.devices,
        seconds: args.seconds,
        rate: args.rate,
        seed: args.seed,
        faults: matches!(args.faults, Faults::On),
        out: args.out,
    };
    let bar = bar(args.format)?;
    let show = |progress| match progress {
        Progress::Producing(seconds) => {
            bar.set_message(format!("{} devices, gateways, broker, landing", settings.devices));
            bar.set_length(settings.seconds * 1_000);
            bar.set_position((seconds * 1_000.0) as u64);
        }
        Progress::Draining => bar.set_message("gateways drain their spools"),
        Progress::Processing(done, found) => {
            bar.set_message("bronze to silver and gold");
            bar.set_length(found);
            bar.set_position(done);
        }
        Progress::Proving => bar.set_message("audit and verification"),
    };
    let summary = tokio::runtime::Runtime::new()?.block_on(demo(&settings, show))?;
    bar.finish_and_clear();
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&summary)?),
        Format::Text => println!("{summary}"),
    }
    if !summary.is_proven() {
        bail!("the books do not balance, or the lake is not what was produced");
    }
    Ok(())
}

/// Injected faults make the parts complain as they should; it is shown on demand (`RUST_LOG=warn`). The
/// kernel of Delta calls it an error that a table is not there yet.
fn start_log() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error,buoyant_kernel=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn bar(format: Format) -> anyhow::Result<ProgressBar> {
    let target = match format {
        Format::Text => ProgressDrawTarget::stderr(),
        Format::Json => ProgressDrawTarget::hidden(),
    };
    let style = ProgressStyle::with_template("{bar:40} {msg}").context("the progress bar's template")?;
    Ok(ProgressBar::with_draw_target(None, target).with_style(style))
}
