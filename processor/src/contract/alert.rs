//! When a dataset's alerts open and resolve: the custom property `alerts`.
//!
//! Each alert has two thresholds, one to open above and a lower one to resolve below; between them it
//! stays what it is.

use super::custom::{custom_path, custom_value};
use super::name::{check_name, check_unique};
use super::odcs;
use super::problem::Problems;

/// An alert of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    /// Its name in reports.
    pub name: String,
    /// What it watches.
    pub watch: Watch,
    /// It opens when what it watches is above this.
    pub open: f64,
    /// It resolves when what it watches is below this, or zero.
    pub resolve: f64,
    /// How far back it looks, in milliseconds.
    pub window_ms: i64,
}

/// What an alert watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Percent of a window's rows that one rule discards; each rule by itself.
    DiscardRate {
        /// Rows that a window must have to say anything.
        rows_min: u64,
    },
    /// Minutes since the newest row's own time.
    Freshness,
    /// Readings of a window that gateways gave up, and batches that are missing between others for longer than
    /// the window.
    Lost,
    /// Windows in which a dataset check last failed; each check by itself.
    Checks,
}

/// How it is written.
pub(super) fn alerts(custom: &[odcs::Custom], problems: &mut Problems) -> Vec<AlertRule> {
    let written: Vec<odcs::Alert> = custom_value(custom, "alerts", problems).unwrap_or_default();
    let path = custom_path("alerts");
    let mut rules = Vec::new();
    for (position, alert) in written.into_iter().enumerate() {
        problems.at(format!("{path}.{position}"));
        check_name("alert", &alert.name, problems);
        let at = format!("alert {}", alert.name);
        let watch = match alert.watch.as_str() {
            "discard_rate" => Watch::DiscardRate { rows_min: alert.rows_min.unwrap_or(100) },
            "freshness" => Watch::Freshness,
            "lost" => Watch::Lost,
            "checks" => Watch::Checks,
            other => {
                problems
                    .push(format!("{at}: watch {other} is not one of discard_rate, freshness, lost, checks"));
                continue;
            }
        };
        let (above, below, unit, other) = match watch {
            Watch::DiscardRate { .. } => (
                alert.open_above_percent,
                alert.resolve_below_percent,
                "Percent",
                [alert.open_above_minutes, alert.open_above_count],
            ),
            Watch::Freshness => (
                alert.open_above_minutes,
                alert.resolve_below_minutes,
                "Minutes",
                [alert.open_above_percent, alert.open_above_count],
            ),
            Watch::Lost | Watch::Checks => (
                alert.open_above_count.or(Some(0.0)),
                alert.resolve_below_count.or(Some(0.0)),
                "Count",
                [alert.open_above_percent, alert.open_above_minutes],
            ),
        };
        if other.iter().any(Option::is_some) {
            problems
                .push(format!("{at}: {} is measured as openAbove{unit} and resolveBelow{unit}", alert.watch));
        }
        let (Some(open), Some(resolve)) = (above, below) else {
            problems.push(format!("{at}: openAbove{unit} and resolveBelow{unit} are missing"));
            continue;
        };
        if !(open >= resolve && resolve >= 0.0) {
            problems.push(format!(
                "{at}: it resolves below {resolve} and opens above {open}; a lower threshold to resolve keeps it from flapping"
            ));
        }
        let window_minutes = alert.window_minutes.unwrap_or(60);
        if !(1..=60 * 24 * 31).contains(&window_minutes) {
            problems.push(format!("{at}: windowMinutes {window_minutes} is not 1 to 44640"));
        }
        rules.push(AlertRule {
            name: alert.name,
            watch,
            open,
            resolve,
            window_ms: i64::from(window_minutes) * 60_000,
        });
    }
    check_unique("alert", &path, rules.iter().map(|rule| &rule.name), problems);
    rules
}
