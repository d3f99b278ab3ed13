//! Takes readings when they are due, and counts them: the `seq` of one device.
//!
//! The schedule runs on the uptime, which never jumps; readings are stamped with the wall clock, which
//! may. A sensor that fails is read again at its next period, not before; a period that passed unread
//! is counted and never replayed.

use crate::sensor::{CHANNELS_MAX, Sensor};
use crate::{ChannelSpec, Quality, Reading};

/// The schedule of a device's `SENSORS` sensors.
#[derive(Clone, Debug)]
pub struct Sampler<const SENSORS: usize> {
    period_ms: [u32; SENSORS],
    /// Uptime at which each is due; `None` until the first poll.
    due_ms: [Option<u64>; SENSORS],
    seq: u64,
    missed_periods: u64,
}

impl<const SENSORS: usize> Sampler<SENSORS> {
    /// Sensors read every `period_ms` each (0 counts as 1), all of them first at the first poll.
    pub fn new(period_ms: [u32; SENSORS]) -> Self {
        let period_ms = period_ms.map(|period| period.max(1));
        Self { period_ms, due_ms: [None; SENSORS], seq: 0, missed_periods: 0 }
    }

    /// Reads the sensors that are due at `uptime_ms` and emits a reading per channel, stamped
    /// `at_ms`: `emit(sensor, channel, reading)`. A sensor that fails emits readings without value,
    /// flagged [`Quality::MISSING`]. Gives the uptime of the next one due.
    pub fn poll(
        &mut self,
        uptime_ms: u64,
        at_ms: i64,
        sensors: &mut [&mut dyn Sensor; SENSORS],
        mut emit: impl FnMut(usize, &'static ChannelSpec<'static>, Reading),
    ) -> u64 {
        let mut next_ms = u64::MAX;
        for (index, sensor) in sensors.iter_mut().enumerate() {
            let due_ms = self.due_ms[index].unwrap_or(uptime_ms);
            let due_ms = if due_ms <= uptime_ms {
                self.read(index, &mut **sensor, at_ms, &mut emit);
                let period_ms = u64::from(self.period_ms[index]);
                let missed = (uptime_ms - due_ms) / period_ms;
                self.missed_periods = self.missed_periods.saturating_add(missed);
                due_ms.saturating_add((missed + 1).saturating_mul(period_ms))
            } else {
                due_ms
            };
            self.due_ms[index] = Some(due_ms);
            next_ms = next_ms.min(due_ms);
        }
        next_ms
    }

    /// The `seq` of the next reading: readings taken so far.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Periods in which a sensor was not read because no poll came.
    pub fn missed_periods(&self) -> u64 {
        self.missed_periods
    }

    fn read(
        &mut self,
        index: usize,
        sensor: &mut dyn Sensor,
        at_ms: i64,
        emit: &mut impl FnMut(usize, &'static ChannelSpec<'static>, Reading),
    ) {
        let channels = sensor.channels();
        let channels = &channels[..channels.len().min(CHANNELS_MAX)];
        let mut values = [f64::NAN; CHANNELS_MAX];
        let values = &mut values[..channels.len()];
        let quality = match sensor.read(values) {
            Ok(()) => Quality::GOOD,
            Err(_) => {
                values.fill(f64::NAN);
                Quality::MISSING
            }
        };
        for (channel, value) in channels.iter().zip(values) {
            emit(index, channel, Reading { seq: self.seq, at_ms, value: *value, quality });
            self.seq = self.seq.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::vec::Vec;

    use super::*;
    use crate::sensor::{HUMIDITY, SensorError, TEMPERATURE};

    /// Gives its results in turn, the last one for ever.
    struct Script(&'static [Result<f64, SensorError>], usize);

    impl Sensor for Script {
        fn channels(&self) -> &'static [ChannelSpec<'static>] {
            &[TEMPERATURE, HUMIDITY]
        }

        fn read(&mut self, values: &mut [f64]) -> Result<(), SensorError> {
            let result = self.0[self.1.min(self.0.len() - 1)];
            self.1 += 1;
            values.fill(result?);
            Ok(())
        }
    }

    fn poll(sampler: &mut Sampler<1>, script: &mut Script, uptime_ms: u64) -> (Vec<Reading>, u64) {
        let mut readings = Vec::new();
        let at_ms = 1_000_000 + uptime_ms as i64;
        let next = sampler.poll(uptime_ms, at_ms, &mut [script], |_, _, reading| readings.push(reading));
        (readings, next)
    }

    #[test]
    fn reads_when_due_and_counts_every_channel() {
        let mut sampler = Sampler::new([1000]);
        let mut script = Script(&[Ok(20.0), Ok(21.0)], 0);
        let (readings, next) = poll(&mut sampler, &mut script, 50);
        assert_eq!(readings.iter().map(|r| r.seq).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((readings[0].at_ms, next), (1_000_050, 1050));
        assert_eq!(poll(&mut sampler, &mut script, 1049), (Vec::new(), 1050));
        let (readings, next) = poll(&mut sampler, &mut script, 1055);
        assert_eq!(readings.iter().map(|r| (r.seq, r.value)).collect::<Vec<_>>(), [(2, 21.0), (3, 21.0)]);
        assert_eq!(next, 2050, "a late poll does not shift the schedule");
        assert_eq!(sampler.missed_periods(), 0);
    }

    #[test]
    fn a_failed_read_is_a_gap_in_the_record_and_not_retried_before_its_period() {
        let mut sampler = Sampler::new([1000]);
        let mut script = Script(&[Err(SensorError::Checksum), Ok(20.0)], 0);
        let (readings, _) = poll(&mut sampler, &mut script, 0);
        assert_eq!(script.1, 1);
        assert!(readings.iter().all(|r| r.quality == Quality::MISSING && r.value.is_nan()));
        let (readings, _) = poll(&mut sampler, &mut script, 1000);
        assert_eq!((readings[0].seq, readings[0].quality), (2, Quality::GOOD));
    }

    #[test]
    fn missed_periods_are_counted_and_never_replayed() {
        let mut sampler = Sampler::new([1000]);
        let mut script = Script(&[Ok(20.0)], 0);
        poll(&mut sampler, &mut script, 0);
        let (readings, next) = poll(&mut sampler, &mut script, 4500);
        assert_eq!((readings.len(), next), (2, 5000));
        assert_eq!(sampler.missed_periods(), 3);
    }
}
