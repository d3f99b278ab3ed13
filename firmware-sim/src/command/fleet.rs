//! `ingot-sim fleet`: many devices, as fast as the machine allows or in real time.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use ingot_sim::truth::TruthWriter;
use ingot_sim::{FaultCounts, Fleet, FleetConfig, ndjson};
use serde::Serialize;

use super::{Faults, Format, now_ms, parse_rate, sleep_until, unless_closed};

/// When a simulated run starts if nothing else is said: 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

#[derive(Parser)]
#[command(after_help = "\
Examples:
  ingot-sim fleet --devices 100 --seconds 3600 --out readings.ndjson --truth truth.tsv
  ingot-sim fleet --devices 10000 --rate 0.5 --seconds 60 | wc -l
  ingot-sim fleet --devices 10 --real-time | ingot-gateway run --lake file:///tmp/lake

The same arguments give the same bytes. In simulated time the first reading is of 2026-01-01; \
--real-time starts now. The truth file has one line a reading, without the resends.")]
pub struct Args {
    /// How many devices: sim-0001, sim-0002 and so on
    #[arg(long, default_value_t = 10)]
    devices: u32,
    /// How long the fleet runs, in its own time
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Readings a second of each device, over all its channels
    #[arg(long, default_value_t = 1.0, value_parser = parse_rate)]
    rate: f64,
    /// The world and its faults follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Whether sensors fail
    #[arg(long, default_value = "on")]
    faults: Faults,
    /// When the simulated time starts, in milliseconds since 1970-01-01 UTC
    #[arg(long, default_value_t = START_MS, conflicts_with = "real_time")]
    start_ms: i64,
    /// Start now, and send each reading when it is due
    #[arg(long)]
    real_time: bool,
    /// Where the NDJSON goes [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the ground truth goes [default: nowhere]
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// How the summary on stderr is printed
    #[arg(long, default_value = "text")]
    format: Format,
}

/// What a run did.
#[derive(Default, Serialize)]
struct Summary {
    devices: u32,
    readings: u64,
    lines: u64,
    seconds_taken: f64,
    faults: FaultCounts,
}

/// Runs the fleet to its end, or until the reader of stdout closes it.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = FleetConfig {
        devices: args.devices,
        seed: args.seed,
        rate: args.rate,
        start_ms: if args.real_time { now_ms() } else { args.start_ms },
        seconds: args.seconds,
        faults: args.faults.into(),
    };
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => create(path)?,
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    let mut truth = match &args.truth {
        Some(path) => Some(TruthWriter::new(create(path)?)?),
        None => None,
    };
    let began = Instant::now();
    let mut fleet = Fleet::new(&config);
    let mut summary = Summary { devices: args.devices, ..Summary::default() };
    unless_closed(produce(&mut fleet, &mut out, truth.as_mut(), args.real_time, &mut summary))?;
    if let Some(truth) = truth {
        truth.finish()?;
    }
    summary.seconds_taken = began.elapsed().as_secs_f64();
    summary.faults = fleet.fault_counts();
    summary.print(args.format)
}

fn create(path: &Path) -> anyhow::Result<Box<dyn Write>> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}

/// The truth of a reading is written before the reading itself.
fn produce(
    fleet: &mut Fleet,
    out: &mut impl Write,
    mut truth: Option<&mut TruthWriter<Box<dyn Write>>>,
    real_time: bool,
    summary: &mut Summary,
) -> io::Result<()> {
    let mut sent_ms = i64::MIN;
    for emission in fleet {
        if real_time && emission.sent_ms > sent_ms {
            out.flush()?;
            sleep_until(emission.sent_ms);
            sent_ms = emission.sent_ms;
        }
        if !emission.resend {
            if let Some(truth) = &mut truth {
                truth.write(&emission.sample)?;
            }
            summary.readings += 1;
        }
        ndjson::write_line(out, &emission.sample)?;
        summary.lines += 1;
    }
    out.flush()
}

impl Summary {
    fn print(&self, format: Format) -> anyhow::Result<()> {
        if format == Format::Json {
            eprintln!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let Self { devices, readings, lines, seconds_taken, faults } = self;
        eprintln!("{readings} readings of {devices} devices, {lines} lines, in {seconds_taken:.2} s");
        eprintln!(
            "faults: {} spikes, {} stuck, {} missing, {} drifted, {} of an unknown channel, \
             {} in the future, {} sent again",
            faults.spikes,
            faults.stuck,
            faults.missing,
            faults.drifted,
            faults.unknown_channels,
            faults.future_times,
            faults.resends,
        );
        Ok(())
    }
}
