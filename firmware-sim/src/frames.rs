//! Samples as frames, the way firmware sends them over a serial line: batched, sealed, one after another.
//!
//! The node seals under its own name, so a receiver sees it as a gateway of one device.

use std::io::{self, Write};

use ingot_agent::{Batch, DeclareError, PushError, Quality, Reading};

use crate::Sample;

/// Bytes of a frame: what the firmware's buffer has.
pub const FRAME_BYTES_MAX: usize = 5 * 1024;
/// Channels of a node; more are an error.
pub const CHANNELS_MAX: usize = 8;

/// Writes the frames of one device.
pub struct FrameWriter<W> {
    out: W,
    batch: Box<Batch<CHANNELS_MAX, 1, FRAME_BYTES_MAX>>,
    age_ms_max: i64,
    /// When the first reading of all was: the node's boot, as far as it matters.
    started_ms: Option<i64>,
    /// When the oldest reading of the open batch was written.
    oldest_ms: Option<i64>,
}

impl<W: Write> FrameWriter<W> {
    /// A writer whose frames wait at most `age_ms_max` for further readings.
    ///
    /// # Errors
    /// The device's name cannot be carried.
    pub fn new(out: W, device: &str, boot: u64, age_ms_max: i64) -> Result<Self, DeclareError> {
        Ok(Self {
            out,
            batch: Box::new(Batch::new(device, boot)?),
            age_ms_max,
            started_ms: None,
            oldest_ms: None,
        })
    }

    /// Adds a sample, after sealing a batch that is full.
    pub fn write(&mut self, sample: &Sample) -> io::Result<()> {
        let reading = Reading {
            seq: sample.seq,
            at_ms: sample.at_ms,
            value: sample.value.unwrap_or(f64::NAN),
            quality: match sample.value {
                Some(_) => Quality::GOOD,
                None => Quality::MISSING,
            },
        };
        let device = self.batch.device(&sample.device, sample.boot).map_err(io::Error::other)?;
        let series = self.batch.series(device, &sample.channel).map_err(io::Error::other)?;
        let mut pushed = self.batch.push(series, &reading);
        if pushed == Err(PushError::Full) {
            self.seal(sample.at_ms)?;
            pushed = self.batch.push(series, &reading);
        }
        self.started_ms.get_or_insert(sample.at_ms);
        self.oldest_ms.get_or_insert(sample.at_ms);
        pushed.map_err(io::Error::other)
    }

    /// Seals the batch if its first reading is old enough.
    pub fn seal_if_due(&mut self, now_ms: i64) -> io::Result<()> {
        match self.oldest_ms {
            Some(oldest_ms) if now_ms.saturating_sub(oldest_ms) >= self.age_ms_max => self.seal(now_ms),
            _ => Ok(()),
        }
    }

    /// Seals the batch, unless it is empty, and flushes.
    pub fn seal(&mut self, now_ms: i64) -> io::Result<()> {
        if self.oldest_ms.take().is_none() {
            return Ok(());
        }
        let mut written = Ok(());
        let uptime_ms = now_ms.saturating_sub(self.started_ms.unwrap_or(now_ms)).unsigned_abs();
        self.batch.seal(now_ms, uptime_ms, |bytes| {
            if written.is_ok() {
                written = self.out.write_all(bytes);
            }
        });
        written?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ingot_agent::{Decoder, Frame, FrameReader};

    use super::*;
    use crate::VirtualDevice;
    use crate::device::Model;

    #[test]
    fn frames_decode_to_the_samples() {
        let mut device = VirtualDevice::new(1, "pump-7", Model::Machine, 100.0);
        let (mut bytes, mut samples) = (Vec::new(), Vec::new());
        let mut frames = FrameWriter::new(&mut bytes, "pump-7", 9, 10_000).unwrap();
        let mut due_ms = 0;
        while due_ms < 120_000 {
            due_ms = device.poll(due_ms, |sample| samples.push(sample));
            for sample in &samples[samples.len() - 4..] {
                frames.write(sample).unwrap();
            }
            frames.seal_if_due(due_ms).unwrap();
        }
        frames.seal(due_ms).unwrap();

        let mut reader = Box::new(FrameReader::<FRAME_BYTES_MAX>::new());
        let mut decoder = Box::new(Decoder::<CHANNELS_MAX, 1>::new());
        let (mut input, mut decoded, mut count) = (&bytes[..], Vec::new(), 0);
        while let Some(cut) = reader.read(&mut input) {
            let frame = Frame::open(cut.stuffed).unwrap();
            assert_eq!((frame.gateway(), frame.boot(), frame.seq()), ("pump-7", 9, count));
            count += 1;
            decoder.start(&frame);
            while let Some((series, reading)) = decoder.next(&frame).unwrap() {
                let (device, boot, channel) = decoder.series(series);
                decoded.push(Sample {
                    device: device.into(),
                    boot,
                    seq: reading.seq,
                    channel: channel.into(),
                    at_ms: reading.at_ms,
                    value: Some(reading.value),
                });
            }
        }
        assert!(count >= 12, "a frame at least every ten seconds: {count}");
        assert_eq!(decoded, samples);
    }
}
