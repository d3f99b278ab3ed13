//! A frame's outside: unstuff it, check it, read its header.
//!
//! Any bytes may come; what is not a frame is an error that says how.

use crate::Drop;
use crate::checksum::{self, CHECKSUM_BYTES};
use crate::header::Header;
use crate::stuffing::unstuff;

/// The frame version written, and the newest one read.
pub const VERSION: u8 = 1;

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
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    gateway: &'a str,
    header: Header,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Unstuffs and checks one frame: the bytes before its closing `0x00`.
    pub fn open(stuffed: &'a mut [u8]) -> Result<Self, FrameError> {
        let len = unstuff(stuffed).ok_or(FrameError::Stuffing)?;
        let bytes: &'a [u8] = stuffed;
        let bytes = &bytes[..len];
        let short = FrameError::Short { bytes: len };
        let (checked, found) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(short)?;
        let mut checksum = checksum::start();
        checksum.update(checked);
        let (found, computed) = (u32::from_le_bytes(*found), checksum.finalize());
        if found != computed {
            return Err(FrameError::Checksum { found, computed });
        }
        let (version, rest) = checked.split_first().ok_or(short)?;
        if *version != VERSION {
            return Err(FrameError::Version { version: *version });
        }
        let (gateway, header, body) = Header::read(rest).ok_or(short)?;
        Ok(Self { gateway, header, body })
    }

    /// The gateway that sealed it.
    pub fn gateway(&self) -> &'a str {
        self.gateway
    }

    /// The gateway's run.
    pub fn boot(&self) -> u64 {
        self.header.boot
    }

    /// The batch's position in that run.
    pub fn seq(&self) -> u64 {
        self.header.seq
    }

    /// When it was sealed: milliseconds since 1970-01-01 UTC.
    pub fn sealed_ms(&self) -> i64 {
        self.header.sealed_ms
    }

    /// Readings in it.
    pub fn readings(&self) -> u32 {
        self.header.readings
    }

    /// Readings given up since the gateway's previous frame, for this cause.
    pub fn dropped(&self, cause: Drop) -> u64 {
        self.header.drops[cause as usize]
    }

    pub(crate) fn body(&self) -> &'a [u8] {
        self.body
    }
}
