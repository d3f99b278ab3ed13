//! The demo: the whole road in one process, with faults, and the proof at its end.
//!
//! A fleet is produced in simulated time that runs [`SPEED`] times as fast as the clock, so that ten
//! seconds show ten hours of gold. Everything after it is the real thing: gateways with their
//! spool, MQTT, landing, processing. Only the broker stands in for the cloud's.

mod folder;
mod summary;
mod uphill;

use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use ingot_processor::audit::audit;
use ingot_processor::contract::Contract;
use ingot_processor::query::query;
use ingot_processor::report::report;
use ingot_processor::run::run;
use serde::Serialize;

use crate::verify::verify;
use crate::{BrokerFaults, Outage};
pub use summary::Summary;

/// Simulated seconds in a second of the clock.
pub const SPEED: u32 = 3_600;
/// Gateways that share the fleet.
pub const GATEWAYS: usize = 2;
/// With faults, the broker delivers every fifth message twice and swallows every seventh PUBACK.
const DUPLICATE_EVERY: Option<NonZeroU64> = NonZeroU64::new(5);
const LOST_PUBACK_EVERY: Option<NonZeroU64> = NonZeroU64::new(7);

/// What is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many devices.
    pub devices: u32,
    /// How long they produce, by the clock.
    pub seconds: u64,
    /// Readings a second of the clock of each device, over all its channels.
    pub rate: f64,
    /// World and faults follow from it.
    pub seed: u64,
    /// Whether sensors and broker fail.
    pub faults: bool,
    /// Where lake, spools, truth and report go.
    pub out: PathBuf,
}

/// Where the demo is, for a progress display.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// Seconds of production done.
    Producing(f64),
    /// All is produced; the gateways drain.
    Draining,
    /// Objects processed, of so many.
    Processing(u64, u64),
    /// The books are compared.
    Proving,
}

/// A line of gold, for the eye.
#[derive(Clone, Debug, Serialize)]
pub struct GoldLine {
    /// The channel.
    pub channel: String,
    /// Readings in gold.
    pub count: i64,
    /// Smallest value.
    pub min: f64,
    /// Mean of the hourly means.
    pub mean: f64,
    /// Largest value.
    pub max: f64,
}

/// Runs the demo to its end.
pub async fn demo(settings: &Settings, progress: impl Fn(Progress)) -> anyhow::Result<Summary> {
    let folder = folder::Folder::prepare(&settings.out)?;
    let lake = folder.lake()?;
    let uphill = uphill::climb(settings, &folder, &lake, &progress).await?;

    let contracts = Contract::embedded();
    let run = run(&lake, &contracts, |done, found| progress(Progress::Processing(done, found))).await?;
    progress(Progress::Proving);
    let balance = audit(&lake, &contracts).await?;
    let verification = verify(folder.truth()?, &lake, uphill.ended_ms).await?;
    let sql = "SELECT CAST(channel AS VARCHAR) AS channel, sum(count) AS count, min(min) AS min, avg(mean) AS mean, max(max) AS max \
               FROM gold.sensor_hourly GROUP BY channel ORDER BY channel";
    let gold = summary::gold_lines(&query(&lake, &contracts, sql).await?)?;
    let page = report(&lake, &contracts).await?;
    std::fs::write(folder.report(), page)?;
    Ok(Summary::new(&folder, &lake, uphill, run, balance, verification, gold))
}

/// The broker's faults during a run: one outage, duplicates, lost PUBACKs.
fn broker_faults(settings: &Settings) -> BrokerFaults {
    if !settings.faults {
        return BrokerFaults::default();
    }
    let seconds = settings.seconds as f64;
    let outage = Outage {
        after: Duration::from_secs_f64(seconds * 0.4),
        lasts: Duration::from_secs_f64((seconds * 0.2).min(5.0)),
    };
    BrokerFaults {
        outages: vec![outage],
        duplicate_every: DUPLICATE_EVERY,
        lost_puback_every: LOST_PUBACK_EVERY,
    }
}

/// The clock: milliseconds since 1970-01-01 UTC.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}
