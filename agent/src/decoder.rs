//! A frame's inside: its readings, in the order in which they were pushed.
//!
//! Bounded by the header's count of readings and by the body's length; a body that no encoder writes
//! ends in [`FrameError::Body`].

use crate::codec::range_coder::{self, Position};
use crate::codec::reading;
use crate::codec::table::Table;
use crate::{Frame, FrameError, Reading, SeriesId};

/// Decodes a frame's readings; reusable from frame to frame.
///
/// About 1.1 KiB per series: put large ones where there is room (a `Box`, a `static`). A frame with
/// more series or devices than fit ends in [`FrameError::Body`].
pub struct Decoder<const SERIES: usize, const DEVICES: usize> {
    table: Table<SERIES, DEVICES>,
    position: Position,
    done: u32,
}

impl<const SERIES: usize, const DEVICES: usize> Default for Decoder<SERIES, DEVICES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const SERIES: usize, const DEVICES: usize> Decoder<SERIES, DEVICES> {
    /// An empty decoder.
    pub fn new() -> Self {
        Self { table: Table::NEW, position: Position::start(&[]), done: 0 }
    }

    /// Starts on a frame, forgetting the one before.
    pub fn start(&mut self, frame: &Frame<'_>) {
        self.table.clear();
        self.position = Position::start(frame.body());
        self.done = 0;
    }

    /// The next reading and its series, or `None` after the last. A reading flagged
    /// [`crate::Quality::FROM_BOOT`] comes out dated by the header. The frame is the one of
    /// [`Self::start`]; after an error, start anew.
    #[allow(clippy::should_implement_trait)] // it borrows the frame
    pub fn next(&mut self, frame: &Frame<'_>) -> Result<Option<(SeriesId, Reading)>, FrameError> {
        let damaged = FrameError::Body { reading: self.done };
        let body = frame.body();
        if self.done >= frame.readings() {
            return if self.position.is_at_end(body) { Ok(None) } else { Err(damaged) };
        }
        let mut coder = range_coder::Decoder { position: self.position, body };
        let (series, reading) = reading::decode(&mut self.table, &mut coder).map_err(|_| damaged)?;
        self.position = coder.position;
        if self.position.is_past_end(body) {
            return Err(damaged);
        }
        self.done += 1;
        Ok(Some((SeriesId(series), frame.dated(reading))))
    }

    /// The name and boot of the series' device, and its channel, as declared so far in this frame;
    /// empty for a series that is not.
    pub fn series(&self, series: SeriesId) -> (&str, u64, &str) {
        if series.0 >= self.table.series_len {
            return ("", 0, "");
        }
        let series = &self.table.series[usize::from(series.0)];
        let device = &self.table.devices[usize::from(series.device)];
        (device.name.as_str(), device.boot, series.channel.as_str())
    }
}
