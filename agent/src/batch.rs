//! A batch: the readings of a gateway that share one identity and leave together as one frame.
//!
//! Streaming: a pushed reading is coded at once into the fixed buffer, and only the coder's state per
//! series stays. Sealed once, with the identity `gateway / boot / seq`, and never re-cut.

use crate::{Drop, Reading};

/// A device declared in this batch's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId(pub u16);

/// A series (a device's channel) declared in this batch's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesId(pub u16);

/// Why a name cannot enter the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeclareError {
    /// The table has no place left: seal, [`Batch::clear_tables`], and declare anew.
    #[error("the batch's table is full at {max} entries")]
    TableFull {
        /// The table's size.
        max: usize,
    },
    /// Names are 1 to 64 bytes of `[A-Za-z0-9._-]`.
    #[error("a name is 1 to 64 characters of A-Z a-z 0-9 . _ -")]
    Name,
}

/// The batch cannot take this reading: seal it, then push again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch is full")]
pub struct Full;

/// What was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The batch's position in the gateway's count since its boot, from 0.
    pub seq: u64,
    /// Readings in it.
    pub readings: u32,
    /// Bytes written, the closing `0x00` included.
    pub bytes: usize,
}

/// A batch of at most `SERIES` series of `DEVICES` devices in a frame of at most `BYTES` bytes.
pub struct Batch<const SERIES: usize, const DEVICES: usize, const BYTES: usize> {}

#[allow(unused_variables, clippy::todo)]
impl<const SERIES: usize, const DEVICES: usize, const BYTES: usize> Batch<SERIES, DEVICES, BYTES> {
    /// An empty batch of the gateway's run `boot`; its first seal is `seq` 0.
    pub fn new(gateway: &str, boot: u64) -> Result<Self, DeclareError> {
        todo!()
    }
    /// The device's place in the table, made if it is new. `boot` names the device's own run.
    pub fn device(&mut self, name: &str, boot: u64) -> Result<DeviceId, DeclareError> {
        todo!()
    }
    /// The series' place in the table, made if it is new. Stays valid over seals, until `clear_tables`.
    pub fn series(&mut self, device: DeviceId, channel: &str) -> Result<SeriesId, DeclareError> {
        todo!()
    }
    /// Adds a reading, or leaves the batch as it was.
    pub fn push(&mut self, series: SeriesId, reading: &Reading) -> Result<(), Full> {
        todo!()
    }
    /// Readings so far.
    pub fn readings(&self) -> u32 {
        todo!()
    }
    /// Bytes that sealing now would write, at most.
    pub fn bytes(&self) -> usize {
        todo!()
    }
    /// Counts readings that were given up, to be reported in the next sealed header.
    pub fn count_drop(&mut self, cause: Drop, readings: u64) {
        todo!()
    }
    /// Writes the frame (closing `0x00` included) to `out` piece by piece, and starts the next batch.
    /// A batch without readings may be sealed too: it carries its drop counts.
    pub fn seal(&mut self, sealed_ms: i64, out: impl FnMut(&[u8])) -> Sealed {
        todo!()
    }
    /// Forgets all devices and series; only allowed on an empty batch, so seal first.
    pub fn clear_tables(&mut self) {
        todo!()
    }
}
