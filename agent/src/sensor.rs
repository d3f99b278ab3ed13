//! A sensor: the channels it has, and one value of each per reading.
//!
//! Drivers stand in this folder, generic over the bus and the delay of `embedded-hal`; what they
//! cannot do is said without the bus's own types, so that sensors on different buses fit one sampler.

pub mod bme280;
pub mod sht4x;

use crate::ChannelSpec;

pub use bme280::Bme280;
pub use sht4x::Sht4x;

/// Most channels of one sensor.
pub const CHANNELS_MAX: usize = 8;

/// Air temperature, as both climate sensors give it.
pub const TEMPERATURE: ChannelSpec<'static> = ChannelSpec {
    channel: "temperature",
    unit: "Cel",
    value_min: -40.0,
    value_max: 85.0,
    step_max: 10.0,
    decimals: 2,
};

/// Relative humidity.
pub const HUMIDITY: ChannelSpec<'static> = ChannelSpec {
    channel: "humidity",
    unit: "%",
    value_min: 0.0,
    value_max: 100.0,
    step_max: 25.0,
    decimals: 2,
};

/// Air pressure at the sensor, not reduced to sea level.
pub const PRESSURE: ChannelSpec<'static> = ChannelSpec {
    channel: "pressure",
    unit: "hPa",
    value_min: 300.0,
    value_max: 1100.0,
    step_max: 10.0,
    decimals: 2,
};

/// Why a sensor gave no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SensorError {
    /// The bus failed: no answer, a lost arbitration, a held line. Check wiring and address.
    #[error("the sensor's bus failed")]
    Bus,
    /// The answer's checksum disagrees.
    #[error("the sensor's answer has a wrong checksum")]
    Checksum,
    /// It answers, but not with a measurement: another chip, no calibration, still measuring.
    #[error("the sensor is not ready to measure")]
    NotReady,
}

/// Something that measures.
pub trait Sensor {
    /// What it measures, at most [`CHANNELS_MAX`]; always the same.
    fn channels(&self) -> &'static [ChannelSpec<'static>];

    /// Measures once: a value per channel, in their order and units, rounded to their decimals.
    /// `values` is as long as [`Self::channels`].
    fn read(&mut self, values: &mut [f64]) -> Result<(), SensorError>;
}

/// `value` at the channel's decimals, half away from zero; zero has no sign. NaN and infinities stay.
pub fn round(value: f64, decimals: u8) -> f64 {
    let power = (0..decimals).fold(1.0, |power, _| power * 10.0);
    let scaled = value * power;
    if scaled.is_nan() || scaled.abs() >= 9e15 {
        return value;
    }
    let whole = (scaled + 0.5_f64.copysign(scaled)) as i64; // within i64 by the check above
    whole as f64 / power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_away_from_zero_and_never_to_a_negative_zero() {
        assert_eq!(round(21.456, 2), 21.46);
        assert_eq!(round(-21.456, 2), -21.46);
        assert_eq!(round(0.125, 2), 0.13);
        assert_eq!(round(-0.001, 2).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn leaves_what_cannot_be_rounded() {
        assert_eq!(round(1e300, 2), 1e300);
        assert_eq!(round(f64::INFINITY, 2), f64::INFINITY);
        assert!(round(f64::NAN, 2).is_nan());
    }
}
