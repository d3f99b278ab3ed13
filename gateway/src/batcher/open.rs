//! The open batch: samples in, judged and stamped; sealed by whoever owns it.

use std::collections::HashMap;

use ingot_agent::{Batch, DeclareError, Drop, PushError, Quality, Reading, Sealed, SeriesId};
use tokio::time::Instant;

use crate::range::{self, RangeTable};
use crate::source::{Sample, Stamp};
use crate::spool::FRAME_BYTES_MAX;

/// Most series in a frame.
pub const SERIES_MAX: usize = 1_024;
/// Most devices in a frame.
pub const DEVICES_MAX: usize = 1_024;

/// A batch and the series declared in it.
pub(super) struct Open {
    batch: Box<Batch<SERIES_MAX, DEVICES_MAX, FRAME_BYTES_MAX>>,
    devices: HashMap<Box<str>, Vec<Series>>,
    /// When it got its first reading or drop.
    pub(super) since: Option<Instant>,
    /// When the machine booted by the wall clock, in milliseconds since 1970; `None`: the clock is not
    /// set, so that its times count from the boot.
    pub(super) booted_ms: Option<i64>,
}

/// A series of one device's run, as declared in the open batch.
struct Series {
    boot: u64,
    channel: Box<str>,
    id: SeriesId,
    previous: Option<f64>,
}

/// Why a sample is not in the batch.
pub(super) enum Refusal {
    /// Seal first.
    Full,
    /// Seal and clear the tables first.
    TablesFull,
    /// It is given up.
    Drop(Drop),
}

impl Open {
    pub(super) fn new(gateway: &str, boot: u64) -> Result<Self, DeclareError> {
        let batch = Box::new(Batch::new(gateway, boot)?);
        Ok(Self { batch, devices: HashMap::new(), since: None, booted_ms: None })
    }

    /// Bytes that sealing now would write, at most.
    pub(super) fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    /// Only after it was sealed.
    pub(super) fn clear_tables(&mut self) {
        self.devices.clear();
        let _ = self.batch.clear_tables();
    }

    pub(super) fn count_drop(&mut self, cause: Drop, readings: u64) {
        self.batch.count_drop(cause, readings);
        self.since.get_or_insert_with(Instant::now);
    }

    /// The frame, sealed at this uptime.
    pub(super) fn seal(&mut self, uptime_ms: u64) -> (Vec<u8>, Sealed) {
        let mut frame = Vec::with_capacity(self.batch.bytes());
        let sealed_ms = self.at_ms(uptime_ms);
        let sealed = self.batch.seal(sealed_ms, uptime_ms, |piece| frame.extend_from_slice(piece));
        self.since = None;
        (frame, sealed)
    }

    /// Judges one sample and puts it into the batch.
    pub(super) fn push(
        &mut self,
        sample: &Sample,
        (boot, seq): (u64, u64),
        range: &RangeTable,
    ) -> Result<(), Refusal> {
        let series = self.series(&sample.device, boot, &sample.channel)?;
        let (id, previous) = (series.id, series.previous);
        let (at_ms, mut quality) = self.stamp(sample);
        let has_value = !quality.contains(Quality::MISSING);
        if has_value {
            let flags = range::judge(range.get(&sample.channel), previous, sample.value);
            quality = quality.with(flags.ok_or(Refusal::Drop(Drop::Range))?);
        }
        let reading = Reading { seq, at_ms, value: sample.value, quality };
        self.batch.push(id, &reading).map_err(|error| match error {
            PushError::Full => Refusal::Full,
            PushError::Unknown => Refusal::TablesFull,
        })?;
        self.since.get_or_insert_with(Instant::now);
        if has_value && !quality.contains(Quality::OUT_OF_RANGE) {
            self.series(&sample.device, boot, &sample.channel)?.previous = Some(sample.value);
        }
        Ok(())
    }

    /// A source's own time stays as it is. An uptime becomes a date, or waits for one.
    fn stamp(&self, sample: &Sample) -> (i64, Quality) {
        match sample.at {
            // From outside, both flags together would mean this gateway's uptime.
            Stamp::Wall(at_ms) if sample.quality.contains(Quality::FROM_BOOT) => {
                (at_ms, sample.quality.without(Quality::RESTAMPED))
            }
            Stamp::Wall(at_ms) => (at_ms, sample.quality),
            Stamp::Uptime(uptime_ms) => {
                let quality = match self.booted_ms {
                    Some(_) => sample.quality.without(Quality::CLOCK_UNSET),
                    None => sample.quality.with(Quality::FROM_BOOT),
                };
                (self.booted_ms.unwrap_or(0).saturating_add(uptime_ms), quality)
            }
        }
    }

    fn at_ms(&self, uptime_ms: u64) -> i64 {
        self.booted_ms.unwrap_or(0).saturating_add_unsigned(uptime_ms)
    }

    /// The series' place, declared if it is new.
    fn series(&mut self, device: &str, boot: u64, channel: &str) -> Result<&mut Series, Refusal> {
        if !self.devices.contains_key(device) {
            self.devices.insert(device.into(), Vec::new());
        }
        let Some(known) = self.devices.get_mut(device) else {
            return Err(Refusal::TablesFull);
        };
        let place = match known.iter().position(|series| series.boot == boot && *series.channel == *channel) {
            Some(place) => place,
            None => {
                let declared =
                    self.batch.device(device, boot).and_then(|device| self.batch.series(device, channel));
                let id = declared.map_err(|error| match error {
                    DeclareError::Name => Refusal::Drop(Drop::BadName),
                    DeclareError::TableFull { .. } | DeclareError::Unknown => Refusal::TablesFull,
                })?;
                known.push(Series { boot, channel: channel.into(), id, previous: None });
                known.len() - 1
            }
        };
        known.get_mut(place).ok_or(Refusal::TablesFull)
    }
}
