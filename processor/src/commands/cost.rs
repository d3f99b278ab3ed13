//! `cost`: what a billion readings cost on AWS, and what the batch settings have to do with it.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use ingot_processor::cost::usage::Usage as Load;
use ingot_processor::cost::{Advice, Bill, Settings, advise, one_json_each, per_billion};
use ingot_processor::lake::Lake;
use serde::Serialize;

use super::{Usage, contracts, print};
use crate::cli::Cli;

/// Latency budgets that are compared, in seconds.
const BUDGETS_S: [f64; 5] = [70.0, 90.0, 180.0, 600.0, 1_800.0];

/// `cost`.
#[derive(Args)]
pub struct CostArgs {
    /// The lake whose ledger says how readings came, e.g. file:///data/lake; without it, what is assumed below
    #[arg(long, env = "INGOT_LAKE")]
    lake: Option<String>,
    /// A contract file; may be given more than once. Without it, the built-in sensor_readings and orders.
    #[arg(long = "contract", value_name = "FILE")]
    contracts: Vec<std::path::PathBuf>,
    /// The dataset
    #[arg(long, default_value = "sensor_readings")]
    dataset: String,
    /// Without a lake: bytes of a reading in its frame
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    bytes_per_reading: f64,
    /// Without a lake: bytes of a frame
    #[arg(long, default_value_t = 50_000.0, value_parser = positive)]
    frame_bytes: f64,
    /// Readings a second of one gateway
    #[arg(long, default_value_t = 1_000.0, value_parser = positive)]
    readings_per_s: f64,
    /// Topics without the Basic Ingest prefix: each message is paid for
    #[arg(long)]
    no_basic_ingest: bool,
    /// Gateways that send at that rate
    #[arg(long, default_value_t = 30.0, value_parser = positive)]
    gateways: f64,
    /// Seconds for which the queue gathers objects: BatchWindowSeconds of the stack
    #[arg(long, default_value_t = 60.0, value_parser = positive)]
    window_s: f64,
    /// Objects that one invocation takes at most: BatchSize of the stack
    #[arg(long, default_value_t = 500.0, value_parser = positive)]
    batch_size: f64,
    /// The function's memory in GB
    #[arg(long, default_value_t = 1.77, value_parser = positive)]
    lambda_gb: f64,
    /// Rows a second from bronze to silver
    #[arg(long, default_value_t = 400_000.0, value_parser = positive)]
    rows_per_s: f64,
    /// Advise for this many seconds from sensor to silver, beside the usual budgets
    #[arg(long, value_parser = positive)]
    latency_s: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    usage: Load,
    settings: Settings,
    per_billion: Bill,
    one_json_each_usd: f64,
    advice: Vec<Budget>,
}

#[derive(Serialize)]
struct Budget {
    latency_s: f64,
    /// Nothing, where the road alone takes longer.
    advice: Option<Advice>,
}

/// `cost`.
pub async fn cost(cli: &Cli, arguments: &CostArgs) -> Result<ExitCode> {
    let settings = Settings {
        readings_per_s: arguments.readings_per_s,
        basic_ingest: !arguments.no_basic_ingest,
        gateways: arguments.gateways,
        window_s: arguments.window_s,
        batch_size: arguments.batch_size,
        lambda_gb: arguments.lambda_gb,
        rows_per_s: arguments.rows_per_s,
    };
    let usage = load(arguments).await?;
    let budgets = BUDGETS_S.into_iter().chain(arguments.latency_s);
    let report = Report {
        per_billion: per_billion(&usage, &settings),
        one_json_each_usd: one_json_each(&usage, &settings).total_usd,
        advice: budgets
            .map(|latency_s| Budget { latency_s, advice: advise(&usage, &settings, latency_s) })
            .collect(),
        usage,
        settings,
    };
    print(cli, &report, || text(&report))?;
    Ok(ExitCode::SUCCESS)
}

async fn load(arguments: &CostArgs) -> Result<Load> {
    let Some(lake) = &arguments.lake else {
        return Ok(Load::assumed(arguments.bytes_per_reading, arguments.frame_bytes));
    };
    let contracts = contracts(&arguments.contracts)?;
    let Some(contract) = contracts.iter().find(|contract| contract.dataset == arguments.dataset) else {
        bail!(Usage(format!(
            "no contract is of the dataset {}; name its file by --contract",
            arguments.dataset
        )));
    };
    Ok(Load::of(&Lake::open(lake)?, contract).await?)
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("a number above 0 is wanted".into()),
    }
}

fn text(report: &Report) -> String {
    let usage = &report.usage;
    let mut text = format!(
        "{:.0} readings in {:.0} messages and {:.0} objects, {:.2} bytes a reading; {:.1} objects an invocation\n\na billion of them, list prices:\n",
        usage.readings,
        usage.messages,
        usage.objects,
        usage.bronze_bytes / usage.readings,
        report.settings.objects_per_invocation(usage),
    );
    for item in &report.per_billion.items {
        text += &format!("  {:<42} {:>14.0} {:>12.4} USD\n", item.what, item.count, item.usd);
    }
    text += &format!("  {:<42} {:>14} {:>12.4} USD\n", "sum", "", report.per_billion.total_usd);
    text += &format!(
        "  {:<42} {:>14} {:>12.2} USD\n\nfrom sensor to silver within (of this the road takes {} s):\n",
        "one JSON message and object a reading",
        "",
        report.one_json_each_usd,
        report.settings.road_s()
    );
    for Budget { latency_s, advice } in &report.advice {
        text += &match advice {
            None => format!("  {latency_s:>6} s  not within reach\n"),
            Some(advice) => format!(
                "  {latency_s:>6} s  age_ms_max = {:>7}, frame_bytes_max = {}: frames of {:.0} bytes, {:.4} USD\n",
                advice.age_ms_max, advice.frame_bytes_max, advice.frame_bytes, advice.usd_per_billion
            ),
        };
    }
    text.trim_end().to_owned()
}
