//! For how long each tier of a dataset is kept: the custom property `retention`.

use serde::Deserialize;

use super::custom::{custom_path, custom_value};
use super::odcs;
use super::problem::Problems;

/// Longest time that can be asked for: a hundred years.
const DAYS_MAX: u32 = 36_525;

/// Days for which each tier is kept after a row's own day (in bronze and discard: the object's); `None`: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retention {
    /// Objects of bronze, once they are processed.
    pub bronze_days: Option<u32>,
    /// Rows of silver, and of versions.
    pub silver_days: Option<u32>,
    /// Discard rows.
    pub discard_days: Option<u32>,
    /// Rows of gold tables by day.
    pub gold_days: Option<u32>,
}

/// How it is written.
pub(super) fn retention(custom: &[odcs::Custom], problems: &mut Problems) -> Retention {
    let retention: Retention = custom_value(custom, "retention", problems).unwrap_or_default();
    let tiers = [
        ("bronzeDays", retention.bronze_days),
        ("silverDays", retention.silver_days),
        ("discardDays", retention.discard_days),
        ("goldDays", retention.gold_days),
    ];
    for (name, days) in tiers {
        if days.is_some_and(|days| !(1..=DAYS_MAX).contains(&days)) {
            problems
                .at(custom_path("retention"))
                .push(format!("retention: {name} is {} and not 1 to {DAYS_MAX}", days.unwrap_or_default()));
        }
    }
    retention
}
