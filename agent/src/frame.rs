//! Reading frames back: cut a byte stream into frames, check them, decode their readings.

use crate::{Drop, Reading, SeriesId};

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Too short to hold a version and a checksum, or a header field is cut.
    #[error("the frame is cut short at {bytes} bytes")]
    Short {
        /// How long it is.
        bytes: usize,
    },
    /// COBS codes point past the end.
    #[error("the frame's byte stuffing is damaged")]
    Stuffing,
    /// The checksum disagrees.
    #[error("the frame's checksum is {found:08x}, its bytes give {computed:08x}")]
    Checksum {
        /// What the frame says.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Written by a newer Ingot.
    #[error("frame version {version} is not known here (newest: 1); update this program")]
    Version {
        /// What the frame says.
        version: u8,
    },
    /// A valid checksum over a body that does not decode: an encoder's bug.
    #[error("the frame's body does not decode at reading {reading}")]
    Body {
        /// Where decoding stopped.
        reading: u32,
    },
}

/// A checked frame, unstuffed in place.
pub struct Frame<'a> {
    bytes: &'a [u8],
}

#[allow(unused_variables, clippy::todo)]
impl<'a> Frame<'a> {
    /// Unstuffs and checks one frame: the bytes before its closing `0x00`.
    pub fn open(stuffed: &'a mut [u8]) -> Result<Self, FrameError> {
        todo!()
    }
    /// The gateway that sealed it.
    pub fn gateway(&self) -> &'a str {
        todo!()
    }
    /// The gateway's run.
    pub fn boot(&self) -> u64 {
        todo!()
    }
    /// The batch's position in that run.
    pub fn seq(&self) -> u64 {
        todo!()
    }
    /// When it was sealed: milliseconds since 1970-01-01 UTC.
    pub fn sealed_ms(&self) -> i64 {
        todo!()
    }
    /// Readings in it.
    pub fn readings(&self) -> u32 {
        todo!()
    }
    /// Readings given up since the gateway's previous frame, for this cause.
    pub fn dropped(&self, cause: Drop) -> u64 {
        todo!()
    }
}

/// Decodes a frame's readings in the order in which they were pushed; reusable from frame to frame.
pub struct Decoder<const SERIES: usize, const DEVICES: usize> {}

#[allow(unused_variables, clippy::todo)]
impl<const SERIES: usize, const DEVICES: usize> Decoder<SERIES, DEVICES> {
    /// An empty decoder.
    pub fn new() -> Self {
        todo!()
    }
    /// Starts on a frame, forgetting the one before.
    pub fn start(&mut self, frame: &Frame<'_>) {
        todo!()
    }
    /// The next reading and its series, or `None` after the last.
    pub fn next(&mut self, frame: &Frame<'_>) -> Result<Option<(SeriesId, Reading)>, FrameError> {
        todo!()
    }
    /// The name and boot of the series' device, and its channel, as declared so far in this frame.
    pub fn series(&self, series: SeriesId) -> (&str, u64, &str) {
        todo!()
    }
}

/// Cuts a byte stream into stuffed frames at each `0x00`; too long a run is skipped and counted.
pub struct FrameReader<const BYTES: usize> {}
