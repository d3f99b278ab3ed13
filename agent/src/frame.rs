//! A frame's outside: unstuff it, check it, read its header; and put it together again.
//!
//! Any bytes may come; what is not a frame is an error that says how.

use crate::Drop;
use crate::batch::DeclareError;
use crate::checksum::{self, CHECKSUM_BYTES};
use crate::codec::name::Name;
use crate::header::{Header, HeaderBytes};
use crate::stuffing::{Stuffer, unstuff};
use crate::{Quality, Reading};

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

    /// The moment of sealing on a clock that nobody sets: milliseconds since the sealing device's boot;
    /// 0 if it has none, or if what it had is not known any more.
    pub fn uptime_ms(&self) -> u64 {
        self.header.uptime_ms
    }

    /// The same frame with another time of sealing: for one that was sealed before the clock was set
    /// and can be dated now. An `uptime_ms` of 0 says that it cannot: its readings flagged
    /// [`Quality::FROM_BOOT`] come out as [`Quality::CLOCK_UNSET`].
    pub fn sealed_at(mut self, sealed_ms: i64, uptime_ms: u64) -> Self {
        self.header.sealed_ms = sealed_ms;
        self.header.uptime_ms = uptime_ms;
        self
    }

    /// Writes the frame (closing `0x00` included) to `out` piece by piece; gives its bytes. The body is
    /// copied as it is.
    ///
    /// # Errors
    /// Never for a frame that was opened: its gateway's name was checked then.
    pub fn write(&self, out: impl FnMut(&[u8])) -> Result<usize, DeclareError> {
        let gateway = Name::new(self.gateway).ok_or(DeclareError::Name)?;
        Ok(write(&self.header.write(&gateway), self.body, out))
    }

    /// The reading with its time on the wall clock, if its time counts from the sealer's boot and the
    /// header tells when that was.
    pub(crate) fn dated(&self, reading: Reading) -> Reading {
        if !reading.quality.contains(Quality::FROM_BOOT) {
            return reading;
        }
        let others = reading.quality.without(Quality::FROM_BOOT);
        if self.header.uptime_ms == 0 {
            return Reading { quality: others.with(Quality::CLOCK_UNSET), ..reading };
        }
        let boot_ms = self.header.sealed_ms.wrapping_sub(self.header.uptime_ms as i64);
        let at_ms = boot_ms.wrapping_add(reading.at_ms);
        Reading { at_ms, quality: others.with(Quality::RESTAMPED), ..reading }
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

/// Version, header, body and checksum, stuffed and closed; the bytes written.
pub(crate) fn write(header: &HeaderBytes, body: &[u8], out: impl FnMut(&[u8])) -> usize {
    let mut stuffer = Stuffer::new(out);
    let mut checksum = checksum::start();
    for part in [&[VERSION], header.as_slice(), body] {
        checksum.update(part);
        stuffer.write(part);
    }
    stuffer.write(&checksum.finalize().to_le_bytes());
    stuffer.close()
}
