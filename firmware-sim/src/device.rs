//! A virtual sensor node: chips on a simulated bus, analog inputs, and the agent's sampler over them.
//!
//! The chips are read by the agent's own drivers, so what comes out has passed the code that runs on
//! a microcontroller. Time is an argument; a device holds a few hundred bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use embedded_hal::delay::DelayNs;
use ingot_agent::sensor::{Bme280, Sensor, SensorError, Sht4x, round};
use ingot_agent::{ChannelSpec, Quality, Sampler};
use ingot_sim_sensors::{Channel, SimulatedBus, Site, World, bme280, noise};

use crate::Sample;

/// The node's supply.
const VOLTAGE: ChannelSpec<'static> = ChannelSpec {
    channel: Channel::Voltage.name(),
    unit: "V",
    value_min: 0.0,
    value_max: 60.0,
    step_max: 15.0,
    decimals: Channel::Voltage.decimals(),
};

/// The machine that the node is mounted on.
const VIBRATION: ChannelSpec<'static> = ChannelSpec {
    channel: Channel::Vibration.name(),
    unit: "mm/s",
    value_min: 0.0,
    value_max: 50.0,
    step_max: 50.0,
    decimals: Channel::Vibration.decimals(),
};

/// Which climate chip a node carries beside its analog inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// BME280: temperature, humidity, pressure; then voltage and vibration.
    Weather,
    /// SHT4x: temperature, humidity; then voltage and vibration.
    Machine,
}

/// A node.
pub struct VirtualDevice {
    name: Arc<str>,
    boot: u64,
    now_ms: Arc<AtomicI64>,
    started_ms: Option<i64>,
    climate: Box<dyn Sensor + Send>,
    analog: Analog,
    sampler: Sampler<2>,
}

impl VirtualDevice {
    /// A node of this name at its site in the world of `seed`, producing about `rate` readings a
    /// second over all its channels: each channel is read every `channels / rate` seconds, to the
    /// nearest millisecond, all at once and first at the first poll. Its boot follows from seed and name, so that a run can be repeated.
    pub fn new(seed: u64, name: &str, model: Model, rate: f64) -> Self {
        let site = World::new(seed).site(name);
        let now_ms = Arc::new(AtomicI64::new(0));
        let clock = now_ms.clone();
        let bus = SimulatedBus::at_site(site, move || clock.load(Ordering::Relaxed));
        let climate: Box<dyn Sensor + Send> = match model {
            Model::Weather => Box::new(Bme280::new(bus, bme280::Bme280::ADDRESS, NoDelay)),
            Model::Machine => Box::new(Sht4x::new(bus, NoDelay)),
        };
        let analog = Analog { site, now_ms: now_ms.clone() };
        let channels = climate.channels().len() + analog.channels().len();
        // A cast from float to integer saturates, so any rate gives a period.
        let period_ms = (channels as f64 * 1000.0 / rate).round() as u32;
        Self {
            name: name.into(),
            // Half the range: a boot must fit a signed 64-bit column.
            boot: noise::mix(seed ^ noise::key(name)) >> 1,
            now_ms,
            started_ms: None,
            climate,
            analog,
            sampler: Sampler::new([period_ms; 2]),
        }
    }

    /// The same node in a run of this name instead; at most `i64::MAX`.
    pub fn with_boot(mut self, boot: u64) -> Self {
        self.boot = boot;
        self
    }

    /// The device's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The device's run.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Produces the readings due at `now_ms` (the first poll switches the device on) and gives the
    /// time at which the next ones are due.
    pub fn poll(&mut self, now_ms: i64, mut emit: impl FnMut(Sample)) -> i64 {
        self.now_ms.store(now_ms, Ordering::Relaxed);
        let started_ms = *self.started_ms.get_or_insert(now_ms);
        let uptime_ms = now_ms.saturating_sub(started_ms).max(0).cast_unsigned();
        let sensors: &mut [&mut dyn Sensor; 2] = &mut [&mut *self.climate, &mut self.analog];
        let due_ms = self.sampler.poll(uptime_ms, now_ms, sensors, |_, channel, reading| {
            let missing = reading.quality.contains(Quality::MISSING);
            emit(Sample {
                device: self.name.clone(),
                boot: self.boot,
                seq: reading.seq,
                channel: channel_name(channel.channel),
                at_ms: reading.at_ms,
                value: (!missing).then_some(reading.value),
            });
        });
        started_ms.saturating_add_unsigned(due_ms)
    }
}

/// The channel's name, shared by all samples of a thread.
fn channel_name(name: &'static str) -> Arc<str> {
    thread_local! {
        static NAMES: [Arc<str>; Channel::ALL.len()] = Channel::ALL.map(|channel| channel.name().into());
    }
    NAMES.with(|names| names.iter().find(|known| ***known == *name).cloned()).unwrap_or_else(|| name.into())
}

/// Inputs without a chip: read straight from the world, at the resolution of their channel.
struct Analog {
    site: Site,
    now_ms: Arc<AtomicI64>,
}

impl Sensor for Analog {
    fn channels(&self) -> &'static [ChannelSpec<'static>] {
        &[VOLTAGE, VIBRATION]
    }

    fn read(&mut self, values: &mut [f64]) -> Result<(), SensorError> {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        for (value, channel) in values.iter_mut().zip([Channel::Voltage, Channel::Vibration]) {
            *value = round(self.site.value(channel, now_ms), channel.decimals());
        }
        Ok(())
    }
}

/// Simulated chips are ready at once.
struct NoDelay;

impl DelayNs for NoDelay {
    fn delay_ns(&mut self, _ns: u32) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: i64 = 1_767_225_600_000; // 2026-01-01

    fn readings(device: &mut VirtualDevice, until_ms: i64) -> Vec<Sample> {
        let (mut samples, mut due_ms) = (Vec::new(), START_MS);
        while due_ms < START_MS + until_ms {
            due_ms = device.poll(due_ms, |sample| samples.push(sample));
        }
        samples
    }

    #[test]
    fn readings_come_at_the_rate_and_count_up() {
        for (model, channels) in [(Model::Weather, 5), (Model::Machine, 4)] {
            let mut device = VirtualDevice::new(1, "sim-0001", model, 10.0);
            let samples = readings(&mut device, 60_000);
            assert_eq!(samples.len(), 600);
            assert!(samples.iter().zip(0..).all(|(sample, seq)| sample.seq == seq));
            let names: std::collections::HashSet<_> = samples.iter().map(|sample| &*sample.channel).collect();
            assert_eq!(names.len(), channels);
        }
    }

    #[test]
    fn the_drivers_read_the_world() {
        let site = World::new(1).site("sim-0001");
        for model in [Model::Weather, Model::Machine] {
            let mut device = VirtualDevice::new(1, "sim-0001", model, 1.0);
            for sample in readings(&mut device, 3_600_000) {
                let channel = Channel::ALL.into_iter().find(|c| *c.name() == *sample.channel);
                let truth = channel.map(|channel| site.value(channel, sample.at_ms));
                let error = sample.value.zip(truth).map(|(read, truth)| (read - truth).abs());
                // Chip and rounding together: twice the channel's resolution.
                assert!(error.is_some_and(|error| error < 0.02), "{sample:?} {truth:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_device() {
        let run = |seed| readings(&mut VirtualDevice::new(seed, "d", Model::Weather, 2.0), 60_000);
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn a_boot_fits_a_signed_column() {
        for device in 0..1000 {
            let device = VirtualDevice::new(9, &format!("d{device}"), Model::Machine, 1.0);
            assert!(i64::try_from(device.boot()).is_ok());
        }
    }
}
