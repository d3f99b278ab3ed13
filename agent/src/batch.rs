//! A batch: the readings of a gateway that share one identity and leave together as one frame.
//!
//! Streaming: a pushed reading is coded at once into the fixed buffer, and only the coder's state per
//! series stays. Sealed once, with the identity `gateway / boot / seq`, and never re-cut.

use crate::checksum::CHECKSUM_BYTES;
use crate::codec::name::Name;
use crate::codec::range_coder::Encoder;
use crate::codec::reading;
use crate::codec::table::Table;
use crate::frame;
use crate::header::{HEADER_BYTES_MAX, Header};
use crate::stuffing::{plain_bytes_max, stuffed_bytes_max};
use crate::{Drop, Reading};

/// Smallest `BYTES`: the longest header and the first reading of a series with the longest names fit.
pub const FRAME_BYTES_MIN: usize = 2_048;

/// Most `SERIES` and `DEVICES`: numbers in a frame are 16 bits, and the highest means none.
pub const TABLE_LEN_MAX: usize = u16::MAX as usize;

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
    /// The device is not in the table, perhaps since [`Batch::clear_tables`]: declare it anew.
    #[error("the device is not in the batch's table")]
    Unknown,
}

/// Why a reading cannot enter the batch; the batch is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// No room for the worst reading: seal, then push again; an empty batch takes any reading.
    #[error("the batch is full")]
    Full,
    /// The series is not in the table, perhaps since [`Batch::clear_tables`]: declare it anew.
    #[error("the series is not in the batch's table")]
    Unknown,
}

/// Tables cannot be cleared under readings that refer to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch holds {readings} readings: seal it before clearing its tables")]
pub struct NotEmpty {
    /// Readings in it.
    pub readings: u32,
}

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
///
/// Use one long-lived batch per stream of readings. It is about 1.1 KiB per series, 0.2 KiB per
/// device, and `BYTES`.
pub struct Batch<const SERIES: usize, const DEVICES: usize, const BYTES: usize> {
    gateway: Name,
    header: Header,
    table: Table<SERIES, DEVICES>,
    encoder: Encoder<BYTES>,
}

impl<const SERIES: usize, const DEVICES: usize, const BYTES: usize> Batch<SERIES, DEVICES, BYTES> {
    /// Bytes of header, body and checksum together that fit once stuffed.
    const PLAIN_BYTES_MAX: usize = plain_bytes_max(BYTES);

    /// An empty batch of the gateway's run `boot`; its first seal is `seq` 0.
    pub fn new(gateway: &str, boot: u64) -> Result<Self, DeclareError> {
        const {
            assert!(BYTES >= FRAME_BYTES_MIN, "a frame has at least FRAME_BYTES_MIN bytes");
            assert!(SERIES <= TABLE_LEN_MAX && DEVICES <= TABLE_LEN_MAX, "the table is too long");
        }
        let gateway = Name::new(gateway).ok_or(DeclareError::Name)?;
        let header = Header { boot, ..Header::default() };
        Ok(Self { gateway, header, table: Table::NEW, encoder: Encoder::new() })
    }

    /// Numbers the next seal: for a frame that is written anew under the identity that it had.
    pub fn next_seq(&mut self, seq: u64) {
        self.header.seq = seq;
    }

    /// The device's place in the table, made if it is new. `boot` names the device's own run.
    pub fn device(&mut self, name: &str, boot: u64) -> Result<DeviceId, DeclareError> {
        let name = Name::new(name).ok_or(DeclareError::Name)?;
        let known = self.table.find_device(&name, boot);
        let id = known.or_else(|| self.table.add_device(name, boot));
        id.map(DeviceId).ok_or(DeclareError::TableFull { max: DEVICES })
    }

    /// The series' place in the table, made if it is new. Stays valid over seals, until
    /// [`Self::clear_tables`]; an id from before that is refused as [`DeclareError::Unknown`].
    pub fn series(&mut self, device: DeviceId, channel: &str) -> Result<SeriesId, DeclareError> {
        if device.0 >= self.table.devices_len {
            return Err(DeclareError::Unknown);
        }
        let channel = Name::new(channel).ok_or(DeclareError::Name)?;
        let known = self.table.find_series(device.0, &channel);
        let id = known.or_else(|| self.table.add_series(device.0, channel));
        id.map(SeriesId).ok_or(DeclareError::TableFull { max: SERIES })
    }

    /// Adds a reading, or leaves the batch as it was.
    pub fn push(&mut self, series: SeriesId, reading: &Reading) -> Result<(), PushError> {
        if series.0 >= self.table.series_len {
            return Err(PushError::Unknown);
        }
        let worst = self.plain_bytes() + reading::cost_bytes_max(&self.table, series.0);
        if worst > Self::PLAIN_BYTES_MAX || self.header.readings == u32::MAX {
            return Err(PushError::Full);
        }
        // Encoding cannot fail: only a decoder meets a damaged body.
        let coded = reading::encode(&mut self.table, &mut self.encoder, series.0, reading);
        debug_assert!(coded.is_ok());
        self.header.readings += 1;
        Ok(())
    }

    /// Readings so far.
    pub fn readings(&self) -> u32 {
        self.header.readings
    }

    /// Bytes that sealing now would write, at most.
    pub fn bytes(&self) -> usize {
        stuffed_bytes_max(self.plain_bytes())
    }

    fn plain_bytes(&self) -> usize {
        1 + HEADER_BYTES_MAX + self.encoder.len() + CHECKSUM_BYTES
    }

    /// Counts readings that were given up, to be reported in the next sealed header.
    pub fn count_drop(&mut self, cause: Drop, readings: u64) {
        let sum = &mut self.header.drops[cause as usize];
        *sum = sum.saturating_add(readings);
    }

    /// Writes the frame (closing `0x00` included) to `out` piece by piece, and starts the next batch.
    /// A batch without readings may be sealed too: it carries its drop counts.
    ///
    /// `sealed_ms` is the wall clock, `uptime_ms` the same moment on a clock that nobody sets: the time
    /// since this device's boot; 0 if it has none. Readings flagged [`crate::Quality::FROM_BOOT`] are
    /// dated by the two.
    pub fn seal(&mut self, sealed_ms: i64, uptime_ms: u64, out: impl FnMut(&[u8])) -> Sealed {
        self.header.sealed_ms = sealed_ms;
        self.header.uptime_ms = uptime_ms;
        let header = self.header.write(&self.gateway);
        let bytes = frame::write(&header, self.encoder.finish(), out);
        let Header { boot, seq, readings, .. } = self.header;
        self.header = Header { boot, seq: seq.wrapping_add(1), ..Header::default() };
        self.table.forget_frame();
        self.encoder.clear();
        Sealed { seq, readings, bytes }
    }

    /// Forgets all devices and series; only allowed on an empty batch, so seal first.
    pub fn clear_tables(&mut self) -> Result<(), NotEmpty> {
        match self.header.readings {
            0 => self.table.clear(),
            readings => return Err(NotEmpty { readings }),
        }
        Ok(())
    }
}
