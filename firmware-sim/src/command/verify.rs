//! `ingot-sim verify`: the ground truth against a lake.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Parser;
use ingot_processor::audit::audit;
use ingot_processor::contract::Contract;
use ingot_processor::lake::Lake;
use ingot_sim::truth::TruthReader;
use ingot_sim::verify::verify;

use super::{Format, now_ms};

#[derive(Parser)]
#[command(after_help = "\
Example:
  ingot-sim fleet --devices 10 --out readings.ndjson --truth truth.tsv
  ingot-gateway run --lake file:///tmp/lake < readings.ndjson
  ingot-processor run --lake file:///tmp/lake
  ingot-sim verify --truth truth.tsv --lake file:///tmp/lake

Exits with 1 where a reading is lost, altered, misjudged or there twice.")]
pub struct Args {
    /// The ground truth that `fleet` or `demo` wrote
    #[arg(long, value_name = "FILE")]
    truth: PathBuf,
    /// The lake, e.g. file:///tmp/lake
    #[arg(long)]
    lake: String,
    /// How the result is printed
    #[arg(long, default_value = "text")]
    format: Format,
}

/// Compares, prints, and fails where something is wrong.
pub fn run(args: Args) -> anyhow::Result<()> {
    let file = File::open(&args.truth).with_context(|| format!("cannot read {}", args.truth.display()))?;
    let truth = TruthReader::new(BufReader::new(file))?;
    let lake = Lake::open(&args.lake)?;
    let (found, dropped) = tokio::runtime::Runtime::new()?.block_on(async {
        let balance = audit(&lake, &Contract::embedded()).await?;
        anyhow::Ok((verify(truth, &lake, now_ms()).await?, balance.dropped))
    })?;
    let given_up: u64 = dropped.values().sum();
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&found)?),
        Format::Text => {
            println!(
                "{} produced = {} in silver + {} discarded + {} elsewhere; {given_up} given up at the edge; {} wrong",
                found.produced, found.silver, found.discarded, found.elsewhere, found.wrong
            );
            found.wrong_named.iter().for_each(|what| println!("  {what}"));
        }
    }
    if !found.is_verified(&dropped) {
        bail!("the lake is not what was produced");
    }
    Ok(())
}
