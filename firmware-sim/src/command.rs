//! The commands, a file each, and what their arguments share.

#[cfg(feature = "lake")]
pub mod demo;
pub mod device;
pub mod fleet;
#[cfg(feature = "lake")]
pub mod verify;

use std::io;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use ingot_sim::FaultProfile;

/// How a summary is printed. It goes to stderr, so that stdout stays data.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Whether sensors fail.
#[derive(Clone, Copy, ValueEnum)]
pub enum Faults {
    /// Spikes, stuck and drifting sensors, dropouts, unknown channels, wrong clocks, resends
    On,
    /// Every reading is good
    Off,
}

impl From<Faults> for FaultProfile {
    fn from(faults: Faults) -> Self {
        match faults {
            Faults::On => Self::TYPICAL,
            Faults::Off => Self::OFF,
        }
    }
}

/// Readings a second; so large that a period is below a millisecond would not be kept.
fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1000.0 => Ok(rate),
        _ => Err("a rate is a number above 0 and up to 1000 readings a second".into()),
    }
}

/// The clock: milliseconds since 1970-01-01 UTC.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Sleeps until the clock shows `at_ms`.
fn sleep_until(at_ms: i64) {
    if let Ok(wait_ms) = u64::try_from(at_ms.saturating_sub(now_ms())) {
        thread::sleep(Duration::from_millis(wait_ms));
    }
}

/// A reader that closes the pipe has had enough: an end, not a failure.
fn unless_closed(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
