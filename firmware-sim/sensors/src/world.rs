//! The physical truth: what a perfect sensor would see at a site, at any time, in any order.
//!
//! Each value is a daily course, a weather-like drift over hours and days, fine noise and an offset
//! of the site. It is plausible weather, not a climate model: there are no seasons, and the sites
//! do not influence each other.

use crate::noise::{key, mix, slow, wave, white};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A machine runs or rests for whole spans of this length.
const DUTY_MS: i64 = 20 * 60_000;

/// What can be measured at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Air temperature in Cel.
    Temperature,
    /// Relative humidity in %.
    Humidity,
    /// Air pressure in hPa.
    Pressure,
    /// Supply voltage of a 12 V battery with a solar panel, in V.
    Voltage,
    /// Vibration velocity of a machine (root mean square) in mm/s.
    Vibration,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 5] =
        [Self::Temperature, Self::Humidity, Self::Pressure, Self::Voltage, Self::Vibration];

    /// The channel's name in readings and in the data contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Pressure => "pressure",
            Self::Voltage => "voltage",
            Self::Vibration => "vibration",
        }
    }

    /// Decimal places of the sensor's resolution, as in the data contract.
    pub const fn decimals(self) -> u8 {
        match self {
            Self::Temperature | Self::Humidity | Self::Pressure => 2,
            Self::Voltage | Self::Vibration => 3,
        }
    }
}

/// A whole world, given by its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    seed: u64,
}

impl World {
    /// The world of this seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The place where the device of this name stands.
    pub fn site(self, device: &str) -> Site {
        Site { key: mix(self.seed ^ key(device)), weather: mix(self.seed) }
    }
}

/// A place in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// What differs from site to site.
    key: u64,
    /// What all sites of a world share.
    weather: u64,
}

impl Site {
    /// The true value of `channel`, in its unit, at `at_ms` since 1970-01-01 UTC.
    pub fn value(self, channel: Channel, at_ms: i64) -> f64 {
        match channel {
            Channel::Temperature => self.temperature(at_ms),
            Channel::Humidity => self.humidity(at_ms),
            Channel::Pressure => self.pressure(at_ms),
            Channel::Voltage => self.voltage(at_ms),
            Channel::Vibration => self.vibration(at_ms),
        }
    }

    /// About -3 to 37 Cel: warmest in mid-afternoon, drifting with the weather.
    fn temperature(self, at_ms: i64) -> f64 {
        let mean = 17.0 + 5.0 * self.fixed(1);
        let swing = 5.0 + 2.0 * self.fixed(2);
        mean + swing * day(at_ms)
            + 6.0 * slow(self.weather ^ 3, at_ms, 2 * DAY_MS)
            + 1.5 * slow(self.key ^ 4, at_ms, 3 * HOUR_MS)
            + 0.02 * white(self.key ^ 5, at_ms)
    }

    /// About 14 to 96 %: air holds relatively less water when it is warm.
    fn humidity(self, at_ms: i64) -> f64 {
        let value = 55.0 + 10.0 * self.fixed(6) - 12.0 * day(at_ms)
            + 15.0 * slow(self.weather ^ 7, at_ms, DAY_MS)
            + 4.0 * slow(self.key ^ 8, at_ms, 2 * HOUR_MS)
            + 0.05 * white(self.key ^ 9, at_ms);
        value.clamp(1.0, 99.0)
    }

    /// About 914 to 1032 hPa: sites lie up to 700 m high, lows and highs pass over all of them.
    fn pressure(self, at_ms: i64) -> f64 {
        let height = 40.0 * (1.0 + self.fixed(10));
        1013.25 - height
            + 18.0 * slow(self.weather ^ 11, at_ms, 3 * DAY_MS)
            + 0.8 * wave(at_ms, DAY_MS / 2)
            + 0.01 * white(self.key ^ 12, at_ms)
    }

    /// About 11.7 to 14.2 V: charged by day, drained by night.
    fn voltage(self, at_ms: i64) -> f64 {
        let sun = day(at_ms).max(0.0) * (0.7 + 0.3 * slow(self.weather ^ 13, at_ms, HOUR_MS));
        12.2 + 0.3 * self.fixed(14)
            + 1.5 * sun
            + 0.15 * slow(self.key ^ 15, at_ms, 4 * HOUR_MS)
            + 0.004 * white(self.key ^ 16, at_ms)
    }

    /// Near 0.1 mm/s at rest, 0.6 to 6 mm/s while the machine runs.
    fn vibration(self, at_ms: i64) -> f64 {
        let runs = white(self.key ^ 17, at_ms.div_euclid(DUTY_MS)) < 0.4;
        let wear = 1.0 + 0.5 * slow(self.key ^ 18, at_ms, 7 * DAY_MS);
        let level = if runs { 3.0 * wear + 0.8 * slow(self.key ^ 19, at_ms, 20_000) } else { 0.1 };
        level * (1.0 + 0.15 * white(self.key ^ 20, at_ms))
    }

    /// A constant of the site in -1 to 1.
    fn fixed(self, salt: u64) -> f64 {
        white(self.key ^ salt, 0)
    }
}

/// The day's course in -1 to 1: its crest at 15:00 UTC, its trough at 03:00.
fn day(at_ms: i64) -> f64 {
    wave(at_ms.wrapping_sub(9 * HOUR_MS), DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: i64 = 1_767_225_600_000; // 2026-01-01

    #[test]
    fn a_moment_has_one_value_whenever_it_is_asked_for() {
        let site = World::new(42).site("sim-0001");
        let forward: Vec<u64> =
            (0..500).map(|s| site.value(Channel::Pressure, START_MS + s * 977).to_bits()).collect();
        let again = World::new(42).site("sim-0001");
        for s in (0..500).rev() {
            let value = again.value(Channel::Pressure, START_MS + s * 977);
            assert_eq!(value.to_bits(), forward[s as usize]);
        }
    }

    #[test]
    fn the_bits_are_the_same_on_every_machine() {
        let site = World::new(1).site("sim-0001");
        let bits = Channel::ALL.map(|channel| site.value(channel, START_MS).to_bits());
        assert_eq!(bits, GOLDEN, "{bits:#018x?}");
    }

    /// Written by this code on x86-64; any machine must give the same.
    const GOLDEN: [u64; 5] = [
        0x402b_6584_cd69_ae53,
        0x4049_8622_80b4_e7ce,
        0x408d_7703_12bb_e9c0,
        0x4028_3ebe_a280_7e5c,
        0x3ffa_94c6_9da5_bd91,
    ];

    #[test]
    fn devices_and_seeds_differ() {
        let value = |seed, device| World::new(seed).site(device).value(Channel::Voltage, START_MS);
        assert_ne!(value(1, "a").to_bits(), value(1, "b").to_bits());
        assert_ne!(value(1, "a").to_bits(), value(2, "a").to_bits());
    }

    /// A fault-free fleet must pass its contract: nothing out of range, no step too large.
    #[test]
    fn a_month_on_a_hundred_sites_stays_inside_the_contract() {
        let limits = |channel| match channel {
            Channel::Temperature => (-40.0, 85.0, 10.0),
            Channel::Humidity => (0.0, 100.0, 25.0),
            Channel::Pressure => (300.0, 1100.0, 10.0),
            Channel::Voltage => (0.0, 60.0, 15.0),
            Channel::Vibration => (0.0, 50.0, 50.0),
        };
        for device in 0..100 {
            let site = World::new(7).site(&format!("sim-{device:04}"));
            for channel in Channel::ALL {
                let (min, max, step_max) = limits(channel);
                let mut last: Option<f64> = None;
                for minute in (0..30 * 24 * 60).step_by(17) {
                    let value = site.value(channel, START_MS + minute * 60_000);
                    assert!(value >= min && value <= max, "{channel:?} {value}");
                    assert!(last.is_none_or(|last| (value - last).abs() <= step_max));
                    last = Some(value);
                }
            }
        }
    }

    #[test]
    fn afternoons_are_warmer_than_nights() {
        let site = World::new(3).site("d");
        let mean = |hour: i64| {
            (0..60).map(|d| site.value(Channel::Temperature, d * DAY_MS + hour * HOUR_MS)).sum::<f64>()
        };
        assert!(mean(15) > mean(3) + 60.0 * 5.0);
    }
}
