//! When a contract on trial is bad: its ranges put readings out of range that the former ones did not.
//!
//! Every reading is held against both, so that a sensor that is out of range anyhow does not count.

use std::time::Duration;

/// Fewer readings give no verdict.
pub const READINGS_MIN: u64 = 100;

/// From this share of the readings on, in percent, the contract is bad.
pub const NEWLY_OUT_PERCENT: u64 = 10;

/// What the batcher has counted in a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrialCount {
    /// The trial's number.
    pub trial: u64,
    /// Readings with a value.
    pub readings: u64,
    /// Of these, out of range now and not by the former contract.
    pub newly_out: u64,
}

/// Where a trial stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not long enough, or too few readings.
    GoesOn,
    /// The contract is kept.
    Good,
    /// It is not, and why.
    Bad(String),
}

/// Judges a trial; a gateway without readings is on trial until it has some.
pub fn verdict(count: TrialCount, elapsed: Duration, trial_ms: u64) -> Verdict {
    let TrialCount { readings, newly_out, .. } = count;
    if readings < READINGS_MIN {
        return Verdict::GoesOn;
    }
    if newly_out.saturating_mul(100) >= readings.saturating_mul(NEWLY_OUT_PERCENT) {
        return Verdict::Bad(format!(
            "rolled back: of {readings} readings it put {newly_out} out of range that were in range before ({NEWLY_OUT_PERCENT} % is too many)"
        ));
    }
    if elapsed >= Duration::from_millis(trial_ms) { Verdict::Good } else { Verdict::GoesOn }
}
