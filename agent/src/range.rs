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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::TEMPERATURE;

    #[test]
    fn limits_are_inclusive_and_nan_is_out_of_every_range() {
        let check = |value| check(&TEMPERATURE, None, value);
        assert_eq!(check(-40.0), Quality::GOOD);
        assert_eq!(check(85.0), Quality::GOOD);
        for value in [-40.01, 85.01, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(check(value), Quality::OUT_OF_RANGE, "{value}");
        }
    }

    #[test]
    fn a_step_is_further_than_the_channels_largest() {
        assert_eq!(check(&TEMPERATURE, Some(20.0), 30.0), Quality::GOOD);
        assert_eq!(check(&TEMPERATURE, Some(20.0), 30.5), Quality::STEP);
        let both = Quality::OUT_OF_RANGE.with(Quality::STEP);
        assert_eq!(check(&TEMPERATURE, Some(20.0), 90.0), both);
    }

    #[test]
    fn a_channel_without_a_largest_step_has_no_step() {
        let spec = ChannelSpec { step_max: f64::INFINITY, ..TEMPERATURE };
        assert_eq!(check(&spec, Some(-40.0), 85.0), Quality::GOOD);
    }
}
