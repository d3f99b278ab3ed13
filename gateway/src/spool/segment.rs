//! One segment: an append-only file `<number>.ingot` of frames as they are, each ending in `0x00`.
//!
//! A segment is therefore readable by everything that reads frames. This file knows its name and its
//! counts; [`walk`](super::walk) cuts its bytes into frames.

use std::fs;
use std::io;
use std::path::Path;

/// Longest stored frame, closing `0x00` included; AWS IoT Core takes payloads up to 128 KiB.
pub const FRAME_BYTES_MAX: usize = 131_072;

/// A larger number in a name or in the cursor is not one of ours: at a segment a second it takes 30 million years.
pub(super) const NUMBER_MAX: u64 = 1_000_000_000_000_000;

/// Where a frame starts; ordered as frames were appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment's number.
    pub segment: u64,
    /// Bytes before the frame in its segment.
    pub offset: u64,
}

impl Position {
    /// Behind everything that will ever be appended.
    pub(super) const END: Self = Self { segment: u64::MAX, offset: u64::MAX };

    /// A segment's first byte.
    pub(super) const fn start_of(segment: u64) -> Self {
        Self { segment, offset: 0 }
    }
}

/// How much of something, in three units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub bytes: u64,
    pub frames: u64,
    pub readings: u64,
}

impl Amount {
    pub fn of_frame(bytes: u64, readings: u32) -> Self {
        Self { bytes, frames: 1, readings: u64::from(readings) }
    }

    pub fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.frames += other.frames;
        self.readings += other.readings;
    }

    /// Never below zero: these are reports, and a damaged file must not stop the gateway.
    pub fn less(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            frames: self.frames.saturating_sub(other.frames),
            readings: self.readings.saturating_sub(other.readings),
        }
    }
}

/// What the spool knows of one segment file without opening it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    pub number: u64,
    /// Whole frames; bytes after them are the remains of a failed write.
    pub held: Amount,
    /// Its part that is acknowledged.
    pub acked: Amount,
    /// Its first part, known to be on disk.
    pub synced: Amount,
    /// Acknowledged behind `synced`.
    pub acked_unsynced: Amount,
    /// Frames whose fsync failed: from where on, and how much of it is not acknowledged.
    pub doubt: Option<(u64, Amount)>,
    /// Its readings are counted as dropped; the file goes once that count is on disk.
    pub condemned: bool,
    /// It ended with a failed write or fsync, or could not be read: its counts are not to be noted.
    pub poisoned: bool,
}

impl Segment {
    pub fn empty(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    /// Frames not acknowledged.
    pub fn owed(&self) -> Amount {
        self.held.less(self.acked)
    }
}

pub(super) fn name(number: u64) -> String {
    format!("{number:010}.ingot")
}

/// The number in a segment's file name; `None` for any other file.
pub(super) fn number(file_name: &str) -> Option<u64> {
    let number = file_name.strip_suffix(".ingot")?.parse().ok()?;
    (number <= NUMBER_MAX && name(number) == file_name).then_some(number)
}

/// Whether a directory holds segments, or cannot be looked into.
pub(super) fn any_in(dir: &Path) -> bool {
    let is_segment =
        |entry: fs::DirEntry| entry.file_name().to_str().is_some_and(|name| number(name).is_some());
    match fs::read_dir(dir) {
        Ok(mut entries) => entries.any(|entry| entry.is_ok_and(is_segment)),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_segment_names_have_numbers() {
        for ours in [0, 12, 9_999_999_999, 10_000_000_000] {
            assert_eq!(number(&name(ours)), Some(ours));
        }
        let foreign = ["cursor", "lock", "12.ingot", "0000000012.ingot.tmp", "+000000012.ingot", ".ingot"];
        for other in foreign.into_iter().chain(["18446744073709551615.ingot", "00000000012.ingot"]) {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
