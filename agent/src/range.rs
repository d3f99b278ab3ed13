//! The range check: pure and total. A bad value is kept and flagged, never corrected.

use crate::{ChannelSpec, Quality};

/// The flags that `value` deserves on this channel, given the series' previous good value.
///
/// NaN and infinities are out of every range. The cloud's contract checks must give the same verdict.
pub fn check(spec: &ChannelSpec<'_>, previous: Option<f64>, value: f64) -> Quality {
    let mut quality = Quality::GOOD;
    if !(value >= spec.value_min && value <= spec.value_max) {
        quality = quality.with(Quality::OUT_OF_RANGE);
    }
    if let Some(previous) = previous
        && (value - previous).abs() > spec.step_max
    {
        quality = quality.with(Quality::STEP);
    }
    quality
}
