//! `ingot-sim device`: one sensor node in real time, speaking NDJSON or, like firmware, frames.

use std::io::{self, BufWriter, Write};

use clap::{Parser, ValueEnum};
use ingot_sim::device::Model;
use ingot_sim::frames::FrameWriter;
use ingot_sim::{Sample, VirtualDevice, ndjson};

use super::{Format, now_ms, parse_rate, sleep_until, unless_closed};

#[derive(Parser)]
#[command(after_help = "\
Examples:
  ingot-sim device --rate 5 | ingot-gateway run --lake file:///tmp/lake
  ingot-sim device --name pump-7 --model machine --seconds 10
  ingot-sim device --frames --seconds 30 > node.frames

Without --seconds the device runs until it is stopped or its reader closes the pipe. Its seq counts \
from 0 and its boot is the time of its start, as a real node's would be new.")]
pub struct Args {
    /// The device's name: 1 to 64 characters of A-Z a-z 0-9 . _ -
    #[arg(long, default_value = "sim-0001", value_parser = parse_name)]
    name: String,
    /// Which chips it carries
    #[arg(long, default_value = "weather")]
    model: ModelName,
    /// Readings a second over all its channels
    #[arg(long, default_value_t = 5.0, value_parser = parse_rate)]
    rate: f64,
    /// The world that it stands in follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long it runs [default: until it is stopped]
    #[arg(long)]
    seconds: Option<u64>,
    /// Print the agent's frames, each closed by a zero byte, instead of NDJSON
    #[arg(long)]
    frames: bool,
    /// Seal a frame at this age of its first reading, in seconds
    #[arg(long, default_value_t = 10, requires = "frames")]
    frame_seconds: u32,
    /// How the summary on stderr is printed
    #[arg(long, default_value = "text")]
    format: Format,
}

/// The models' names on the command line.
#[derive(Clone, Copy, ValueEnum)]
enum ModelName {
    /// BME280, voltage, vibration
    Weather,
    /// SHT4x, voltage, vibration
    Machine,
}

fn parse_name(name: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(name.to_owned())
    } else {
        Err("a name is 1 to 64 characters of A-Z a-z 0-9 . _ -".into())
    }
}

/// Runs the device in real time.
pub fn run(args: Args) -> anyhow::Result<()> {
    let model = match args.model {
        ModelName::Weather => Model::Weather,
        ModelName::Machine => Model::Machine,
    };
    let start_ms = now_ms();
    let mut device =
        VirtualDevice::new(args.seed, &args.name, model, args.rate).with_boot(start_ms.unsigned_abs());
    let end_ms = args
        .seconds
        .map_or(i64::MAX, |seconds| start_ms.saturating_add_unsigned(seconds.saturating_mul(1000)));
    let out = BufWriter::new(io::stdout().lock());
    let mut output = if args.frames {
        let age_ms_max = i64::from(args.frame_seconds) * 1000;
        Output::Frames(FrameWriter::new(out, &args.name, device.boot(), age_ms_max)?)
    } else {
        Output::Ndjson(out)
    };
    let mut readings = 0;
    unless_closed(produce(&mut device, start_ms, end_ms, &mut output, &mut readings))?;
    match args.format {
        Format::Text => eprintln!("{readings} readings of {}", args.name),
        Format::Json => eprintln!("{}", serde_json::json!({"device": args.name, "readings": readings})),
    }
    Ok(())
}

fn produce(
    device: &mut VirtualDevice,
    mut due_ms: i64,
    end_ms: i64,
    output: &mut Output<impl Write>,
    readings: &mut u64,
) -> io::Result<()> {
    let mut samples = Vec::new();
    while due_ms < end_ms {
        sleep_until(due_ms);
        due_ms = device.poll(due_ms, |sample| samples.push(sample));
        for sample in samples.drain(..) {
            output.write(&sample)?;
            *readings += 1;
        }
        output.tick(now_ms())?;
    }
    output.finish(now_ms())
}

enum Output<W: Write> {
    Ndjson(W),
    Frames(FrameWriter<W>),
}

impl<W: Write> Output<W> {
    fn write(&mut self, sample: &Sample) -> io::Result<()> {
        match self {
            Self::Ndjson(out) => ndjson::write_line(out, sample),
            Self::Frames(frames) => frames.write(sample),
        }
    }

    /// Lets go of what is due: lines at once, a frame when it is old enough.
    fn tick(&mut self, now_ms: i64) -> io::Result<()> {
        match self {
            Self::Ndjson(out) => out.flush(),
            Self::Frames(frames) => frames.seal_if_due(now_ms),
        }
    }

    fn finish(&mut self, now_ms: i64) -> io::Result<()> {
        match self {
            Self::Ndjson(out) => out.flush(),
            Self::Frames(frames) => frames.seal(now_ms),
        }
    }
}
