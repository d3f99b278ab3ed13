//! One segment: an append-only file `<number>.ingot` of frames as they are, each ending in `0x00`.
//!
//! A segment is therefore readable by everything that reads frames. This file knows names, bytes and
//! cuts; which frames are still wanted is the spool's business.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Longest stored frame, closing `0x00` included; AWS IoT Core takes payloads up to 128 KiB.
pub const FRAME_BYTES_MAX: usize = 131_072;

const READ_BYTES: usize = 65_536;

/// Where a frame starts; ordered as frames were appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment's number.
    pub segment: u64,
    /// Bytes before the frame in its segment.
    pub offset: u64,
}

/// What the spool knows of one segment file without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub number: u64,
    /// Bytes of whole frames; anything after them is the remains of a failed write.
    pub bytes: u64,
    pub frames: u64,
    pub readings: u64,
    pub acked_frames: u64,
    pub acked_readings: u64,
    /// Its readings are counted as dropped; the file goes once that count is on disk.
    pub condemned: bool,
}

impl Segment {
    pub fn empty(number: u64) -> Self {
        Self {
            number,
            bytes: 0,
            frames: 0,
            readings: 0,
            acked_frames: 0,
            acked_readings: 0,
            condemned: false,
        }
    }
}

pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.ingot"))
}

/// The number in a segment's file name; `None` for any other file.
pub(crate) fn number(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(".ingot")?;
    (digits.len() == 10).then(|| digits.parse().ok())?
}

/// Reads one frame whose place and length are known.
pub(crate) fn read_at(dir: &Path, position: Position, bytes: usize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; bytes];
    File::open(path(dir, position.segment))?.read_exact_at(&mut frame, position.offset)?;
    Ok(frame)
}

/// What stands next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A run of bytes up to and with its `0x00`; not yet checked.
    Frame { offset: u64, stuffed: Vec<u8> },
    /// A run longer than any frame, skipped up to its `0x00`.
    TooLong { offset: u64 },
    /// Bytes without a closing `0x00` before the segment's end.
    Torn { offset: u64 },
}

/// Walks a segment's frames from a given offset; the file may grow behind it.
pub(crate) struct Walk {
    file: File,
    /// Where the next cut starts.
    at: u64,
    /// Bytes read from `at` on.
    ahead: Vec<u8>,
    /// How much of `ahead` is known to hold no `0x00`.
    searched: usize,
    /// Bytes of a too long run that were already let go.
    skipped: u64,
}

impl Walk {
    pub fn open(path: &Path, at: u64) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, at, ahead: Vec::new(), searched: 0, skipped: 0 })
    }

    /// Where the next cut starts.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// The next cut before `end`, or `None` at `end`.
    pub fn next(&mut self, end: u64) -> io::Result<Option<Cut>> {
        loop {
            if let Some(found) = self.ahead[self.searched..].iter().position(|byte| *byte == 0) {
                return Ok(Some(self.cut(self.searched + found + 1)));
            }
            self.searched = self.ahead.len();
            if self.searched > FRAME_BYTES_MAX {
                self.skipped += self.searched as u64;
                self.ahead.clear();
                self.searched = 0;
            }
            let read_from = self.at + self.skipped + self.ahead.len() as u64;
            let wanted = end.saturating_sub(read_from).min(READ_BYTES as u64) as usize;
            let before = self.ahead.len();
            self.ahead.resize(before + wanted, 0);
            let read = self.file.read_at(&mut self.ahead[before..], read_from)?;
            self.ahead.truncate(before + read);
            if read == 0 {
                let rest = self.skipped + self.ahead.len() as u64;
                return Ok((rest > 0).then_some(Cut::Torn { offset: self.at }));
            }
        }
    }

    fn cut(&mut self, bytes: usize) -> Cut {
        let offset = self.at;
        let stuffed: Vec<u8> = self.ahead.drain(..bytes).collect();
        self.at += self.skipped + bytes as u64;
        self.searched = 0;
        let too_long = self.skipped > 0 || bytes > FRAME_BYTES_MAX;
        self.skipped = 0;
        if too_long { Cut::TooLong { offset } } else { Cut::Frame { offset, stuffed } }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn walk(bytes: &[u8]) -> Vec<Cut> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut walk = Walk::open(file.path(), 0).unwrap();
        let mut cuts = Vec::new();
        while let Some(cut) = walk.next(bytes.len() as u64).unwrap() {
            let torn = matches!(cut, Cut::Torn { .. });
            cuts.push(cut);
            if torn {
                break;
            }
        }
        cuts
    }

    #[test]
    fn frames_are_cut_at_their_zero_and_a_torn_tail_is_seen() {
        let cuts = walk(b"ab\0\0cd");
        assert_eq!(
            cuts,
            [
                Cut::Frame { offset: 0, stuffed: b"ab\0".to_vec() },
                Cut::Frame { offset: 3, stuffed: b"\0".to_vec() },
                Cut::Torn { offset: 4 },
            ]
        );
    }

    #[test]
    fn a_run_longer_than_any_frame_costs_itself_alone() {
        let mut bytes = vec![1; 3 * FRAME_BYTES_MAX];
        bytes.extend(b"\0ok\0");
        let end = 3 * FRAME_BYTES_MAX as u64 + 1;
        let want = [Cut::TooLong { offset: 0 }, Cut::Frame { offset: end, stuffed: b"ok\0".to_vec() }];
        assert_eq!(walk(&bytes), want);
    }

    #[test]
    fn only_segment_names_have_numbers() {
        assert_eq!(number("0000000012.ingot"), Some(12));
        for other in ["cursor", "lock", "12.ingot", "0000000012.ingot.tmp", "+000000012.ingot"] {
            assert_eq!(number(other).filter(|_| other != "+000000012.ingot"), None, "{other}");
        }
    }
}
