//! Sensor chips on an I2C bus of this machine, or on a simulated one for trials without hardware.
//!
//! The agent's drivers and sampler do the work; this file opens the bus and waits. A chip that does not
//! answer gives readings flagged `MISSING`, never an invented value. The gateway counts for the device.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use embedded_hal::i2c::I2c;
use ingot_agent::Sampler;
use ingot_agent::sensor::{Bme280, Sensor, Sht4x};
use ingot_sim_sensors::{SimulatedBus, World};
use linux_embedded_hal::{Delay, I2CError, I2cdev};

use super::{Chunk, Outlet, Sample, Stamp};
use crate::clock;
use crate::phase::Phase;

/// Longest sleep before the source looks whether to stop.
const STOP_CHECK: Duration = Duration::from_millis(200);

/// A bus, the device that its readings are of, and the chips on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct I2cConfig {
    /// The bus.
    pub bus: Bus,
    /// The device's name in its readings.
    pub device: String,
    /// At least one.
    pub sensors: Vec<SensorConfig>,
}

/// Which bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// A character device such as `/dev/i2c-1`.
    Linux(PathBuf),
    /// Chips in a simulated world.
    Simulated {
        /// The world.
        seed: u64,
    },
}

/// A chip and how often it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorConfig {
    /// What it is.
    pub chip: Chip,
    /// Its address on the bus, 7 bits.
    pub address: u8,
    /// From one reading to the next, in milliseconds.
    pub period_ms: u32,
}

/// Chips that have a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// Bosch BME280: temperature, humidity, pressure.
    Bme280,
    /// Sensirion SHT4x: temperature, humidity.
    Sht4x,
}

impl Chip {
    /// The addresses that it can have; the first one is usual.
    pub fn addresses(self) -> RangeInclusive<u8> {
        match self {
            Self::Bme280 => 0x76..=0x77,
            Self::Sht4x => 0x44..=0x44,
        }
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linux(path) => path.display().fmt(to),
            Self::Simulated { seed } => write!(to, "simulated I2C bus with seed {seed}"),
        }
    }
}

/// An open bus.
pub struct I2cSource {
    device: Box<str>,
    sensors: Vec<(Sampler<1>, Box<dyn Sensor + Send>)>,
}

/// Opens the bus; a chip that is not there shows when it is read.
///
/// # Errors
/// The character device cannot be opened.
pub fn open(config: I2cConfig) -> Result<I2cSource, I2CError> {
    let mut sensors = Vec::new();
    for SensorConfig { chip, address, period_ms } in config.sensors {
        // Each driver owns its bus: Linux shares a character device between openings.
        let sensor = match &config.bus {
            Bus::Linux(path) => driver(chip, address, I2cdev::new(path)?),
            Bus::Simulated { seed } => {
                let site = World::new(*seed).site(&config.device);
                driver(chip, address, SimulatedBus::at_site(site, clock::now_ms))
            }
        };
        sensors.push((Sampler::new([period_ms]), sensor));
    }
    Ok(I2cSource { device: config.device.into(), sensors })
}

fn driver(chip: Chip, address: u8, bus: impl I2c + Send + 'static) -> Box<dyn Sensor + Send> {
    match chip {
        Chip::Bme280 => Box::new(Bme280::new(bus, address, Delay)),
        Chip::Sht4x => Box::new(Sht4x::new(bus, Delay)),
    }
}

impl I2cSource {
    /// Samples until intake stops. Blocks its thread: bus transfers and waits.
    pub fn run(mut self, outlet: &Outlet) {
        let started = Instant::now();
        while *outlet.phase.borrow() == Phase::Running {
            let uptime_ms = started.elapsed().as_millis() as u64;
            let (mut chunk, next_ms) = self.poll(uptime_ms, clock::uptime_ms());
            if !chunk.is_empty() && outlet.chunks.blocking_send(std::mem::take(&mut chunk)).is_err() {
                return;
            }
            let due = started + Duration::from_millis(next_ms);
            thread::sleep(due.saturating_duration_since(Instant::now()).min(STOP_CHECK));
        }
    }

    /// Reads what is due after `uptime_ms` of this source, stamped with `at_ms` of the machine's uptime,
    /// and tells when the next one is.
    fn poll(&mut self, uptime_ms: u64, at_ms: u64) -> (Chunk, u64) {
        let mut chunk = Chunk::default();
        let mut next_ms = u64::MAX;
        for (sampler, sensor) in &mut self.sensors {
            let due_ms = sampler.poll(uptime_ms, 0, &mut [&mut **sensor], |_, spec, reading| {
                chunk.samples.push(Sample {
                    device: self.device.clone(),
                    boot_seq: None,
                    channel: spec.channel.into(),
                    at: Stamp::Uptime(at_ms as i64),
                    value: reading.value,
                    quality: reading.quality,
                });
            });
            next_ms = next_ms.min(due_ms);
        }
        (chunk, next_ms)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use ingot_agent::Quality;

    fn source(address: u8) -> I2cSource {
        let sensors = vec![
            SensorConfig { chip: Chip::Bme280, address, period_ms: 1_000 },
            SensorConfig { chip: Chip::Sht4x, address: 0x44, period_ms: 250 },
        ];
        open(I2cConfig { bus: Bus::Simulated { seed: 7 }, device: "cellar".into(), sensors }).unwrap()
    }

    #[test]
    fn simulated_chips_are_read_when_they_are_due() {
        let mut source = source(0x76);
        let (first, next_ms) = source.poll(0, 1_767_225_600_000);
        let channels: Vec<_> = first.samples.iter().map(|sample| &*sample.channel).collect();
        assert_eq!(channels, ["temperature", "humidity", "pressure", "temperature", "humidity"]);
        assert!(
            first.samples.iter().all(|sample| sample.quality == Quality::GOOD && sample.value.is_finite())
        );
        assert!((300.0..=1_100.0).contains(&first.samples[2].value));
        assert_eq!(next_ms, 250);
        assert_eq!(source.poll(250, 1_767_225_600_250).0.samples.len(), 2);
    }

    #[test]
    fn a_chip_that_does_not_answer_leaves_a_flagged_gap() {
        let (chunk, _) = source(0x77).poll(0, 0);
        let missing = chunk.samples.iter().filter(|sample| sample.quality == Quality::MISSING).count();
        assert_eq!(missing, 3);
    }
}
