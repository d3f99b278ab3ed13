//! What the demo says at its end, for people and as one JSON object.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use ingot_gateway::health::Summary as GatewaySummary;
use ingot_processor::arrow::array::{AsArray, RecordBatch};
use ingot_processor::arrow::compute::cast;
use ingot_processor::arrow::datatypes::{DataType, Float64Type, Int64Type};
use ingot_processor::arrow::error::ArrowError;
use ingot_processor::audit::Balance;
use ingot_processor::lake::Lake;
use ingot_processor::run::RunReport;
use serde::Serialize;

use super::GoldLine;
use super::folder::Folder;
use super::uphill::Uphill;
use crate::FaultCounts;
use crate::verify::Verification;

/// The demo's result. `produced = silver + discarded + dropped + in_flight`.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Readings that the sensors produced, resends not counted.
    pub produced: u64,
    /// Of these in silver, equal bit for bit.
    pub silver: u64,
    /// Of these in discard, with the reason.
    pub discarded: u64,
    /// Readings that came again and were not counted again.
    pub duplicates: u64,
    /// Readings that the edge gave up, and counted.
    pub dropped: u64,
    /// Readings that are in none of these yet.
    pub in_flight: u64,
    /// Whether the lake's own books balance, and with the production.
    pub balanced: bool,
    /// Whether every reading is where it belongs, unaltered, once.
    pub verified: bool,
    /// Bronze bytes for each reading, everything included.
    pub bytes_per_reading: f64,
    /// Messages that were landed, redelivered ones included.
    pub landed: u64,
    /// Bronze objects that they became.
    pub objects: u64,
    /// Discarded readings by their first failing rule.
    pub rules: BTreeMap<String, u64>,
    /// A look at gold: `sensor_hourly` by channel.
    pub gold: Vec<GoldLine>,
    /// What went wrong on purpose.
    pub injected: Injected,
    /// Each gateway's own count.
    pub gateways: Vec<GatewaySummary>,
    /// What the audit and the verification found wrong.
    pub findings: Vec<String>,
    /// The lake, to be asked.
    pub lake: String,
    /// The report, to be looked at.
    pub report: PathBuf,
}

/// Faults that were injected.
#[derive(Debug, Serialize)]
pub struct Injected {
    /// At the sensors.
    pub sensors: FaultCounts,
    /// Connections that the broker refused or cut short during its outage.
    pub broker_refusals: u64,
    /// Messages that the broker delivered a second time.
    pub duplicate_deliveries: u64,
    /// Acknowledgements that the broker swallowed.
    pub lost_pubacks: u64,
}

impl Summary {
    /// Draws the sums together.
    pub(super) fn new(
        folder: &Folder,
        lake: &Lake,
        uphill: Uphill,
        run: RunReport,
        balance: Balance,
        verification: Verification,
        gold: Vec<GoldLine>,
    ) -> Self {
        let dropped: u64 = balance.dropped.values().sum();
        let in_flight = verification.elsewhere.saturating_sub(dropped);
        let produced = verification.produced;
        let in_gold: i64 = gold.iter().map(|line| line.count).sum();
        let adds_up = produced == verification.silver + verification.discarded + dropped
            && in_gold == verification.silver as i64;
        Self {
            produced,
            silver: verification.silver,
            discarded: verification.discarded,
            duplicates: balance.duplicates as u64 + verification.discarded_again,
            dropped,
            in_flight,
            balanced: balance.is_balanced() && balance.in_flight_objects == 0 && adds_up,
            verified: verification.is_verified(&balance.dropped),
            bytes_per_reading: balance.bytes as f64 / (balance.rows_in.max(1)) as f64,
            landed: uphill.landed.messages,
            objects: balance.objects,
            rules: run.total.rules,
            gold,
            injected: Injected {
                sensors: uphill.faults,
                broker_refusals: uphill.broker.refused,
                duplicate_deliveries: uphill.broker.duplicated,
                lost_pubacks: uphill.broker.pubacks_lost,
            },
            gateways: uphill.gateways,
            findings: [balance.findings, verification.wrong_named].concat(),
            lake: lake.url().to_string(),
            report: folder.report(),
        }
    }

    /// Whether the demo showed what it promises.
    pub fn is_proven(&self) -> bool {
        self.balanced && self.verified
    }
}

/// Rows of (channel, count, min, mean, max) as lines.
pub(super) fn gold_lines(batches: &[RecordBatch]) -> Result<Vec<GoldLine>, ArrowError> {
    let mut lines = Vec::new();
    for batch in batches {
        let channel = cast(batch.column(0), &DataType::Utf8)?;
        let count = batch.column(1).as_primitive::<Int64Type>();
        let value = |column: usize, row: usize| batch.column(column).as_primitive::<Float64Type>().value(row);
        lines.extend((0..batch.num_rows()).map(|row| GoldLine {
            channel: channel.as_string::<i32>().value(row).to_owned(),
            count: count.value(row),
            min: value(2, row),
            mean: value(3, row),
            max: value(4, row),
        }));
    }
    Ok(lines)
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |good: bool| if good { "yes" } else { "NO" };
        writeln!(out, "The ledger")?;
        writeln!(out, "  produced   {:>10}", self.produced)?;
        writeln!(out, "  = silver   {:>10}", self.silver)?;
        writeln!(out, "  + discarded{:>10}", self.discarded)?;
        for (rule, rows) in &self.rules {
            writeln!(out, "      {rows:>10} {rule}")?;
        }
        writeln!(out, "  + dropped  {:>10}  at the edge, counted", self.dropped)?;
        writeln!(out, "  + in flight{:>10}", self.in_flight)?;
        writeln!(out, "  duplicates {:>10}  came again, not counted again", self.duplicates)?;
        writeln!(out, "Injected on purpose")?;
        writeln!(
            out,
            "  broker: {} connections refused in an outage, {} messages delivered twice, {} PUBACKs lost",
            self.injected.broker_refusals, self.injected.duplicate_deliveries, self.injected.lost_pubacks
        )?;
        writeln!(out, "Gold, by channel")?;
        writeln!(out, "  {:<12}{:>9}{:>12}{:>12}{:>12}", "channel", "readings", "min", "mean", "max")?;
        for line in &self.gold {
            writeln!(
                out,
                "  {:<12}{:>9}{:>12.3}{:>12.3}{:>12.3}",
                line.channel, line.count, line.min, line.mean, line.max
            )?;
        }
        writeln!(out, "Proof")?;
        writeln!(out, "  balanced, from the lake alone:             {}", yes(self.balanced))?;
        writeln!(out, "  verified, reading for reading, bit by bit: {}", yes(self.verified))?;
        for finding in &self.findings {
            writeln!(out, "    {finding}")?;
        }
        writeln!(
            out,
            "  {} messages landed as {} bronze objects, {:.2} bytes a reading, everything included",
            self.landed, self.objects, self.bytes_per_reading
        )?;
        writeln!(out, "Look further")?;
        writeln!(out, "  report  {}", self.report.display())?;
        write!(
            out,
            "  ask     cargo run --all-features --bin ingot-processor -- query --lake {} \"SELECT * FROM gold.sensor_hourly LIMIT 10\"",
            self.lake
        )
    }
}
