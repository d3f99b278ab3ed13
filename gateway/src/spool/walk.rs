//! Cuts a segment's bytes into frames, from any frame's start on, while the segment still grows.
//!
//! Memory: at most one frame and one read ahead, whatever the segment holds.

use std::io;

use super::directory::DirectoryFile;
use super::segment::FRAME_BYTES_MAX;

const READ_BYTES: usize = 65_536;

/// What stands next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A run of bytes up to and with its `0x00`; not yet checked.
    Frame { offset: u64, stuffed: Vec<u8> },
    /// A run longer than any frame, skipped up to its `0x00`.
    TooLong { offset: u64 },
    /// `0x00` after `0x00`: a power cut can leave a file's length without its content.
    Blank { offset: u64 },
    /// Bytes without a closing `0x00` before the segment's end.
    Torn { offset: u64 },
}

pub(super) struct Walk<F> {
    file: F,
    /// Where the next cut starts.
    at: u64,
    /// Bytes read from `at` on.
    ahead: Vec<u8>,
    /// How much of `ahead` is known to hold no `0x00`.
    searched: usize,
    /// Bytes of a too long run that were already let go.
    skipped: u64,
}

impl<F: DirectoryFile> Walk<F> {
    pub fn new(file: F, at: u64) -> Self {
        Self { file, at, ahead: Vec::new(), searched: 0, skipped: 0 }
    }

    /// Where the next cut starts.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// The next cut before `end`, or `None` at `end`. After an error the same cut is next again.
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
            if self.read(end)? == 0 {
                let rest = self.skipped + self.ahead.len() as u64;
                return Ok((rest > 0).then_some(Cut::Torn { offset: self.at }));
            }
        }
    }

    fn read(&mut self, end: u64) -> io::Result<usize> {
        let read_from = self.at + self.skipped + self.ahead.len() as u64;
        let wanted = end.saturating_sub(read_from).min(READ_BYTES as u64) as usize;
        let before = self.ahead.len();
        self.ahead.resize(before + wanted, 0);
        let read = self.file.read_at(&mut self.ahead[before..], read_from);
        self.ahead.truncate(before + read.as_ref().map_or(0, |read| *read));
        read
    }

    fn cut(&mut self, bytes: usize) -> Cut {
        let offset = self.at;
        self.searched = 0;
        if bytes == 1 && self.skipped == 0 {
            let blank = self.ahead.iter().take_while(|byte| **byte == 0).count();
            self.ahead.drain(..blank);
            self.at += blank as u64;
            return Cut::Blank { offset };
        }
        let stuffed: Vec<u8> = self.ahead.drain(..bytes).collect();
        self.at += self.skipped + bytes as u64;
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
        let mut walk = Walk::new(std::fs::File::open(file.path()).unwrap(), 0);
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
        let cuts = walk(b"ab\0cd");
        assert_eq!(cuts, [Cut::Frame { offset: 0, stuffed: b"ab\0".to_vec() }, Cut::Torn { offset: 3 }]);
    }

    #[test]
    fn a_hole_of_zeros_is_one_blank_and_the_frame_behind_it_is_found() {
        let mut bytes = b"ab\0".to_vec();
        bytes.extend([0; 5_000]);
        bytes.extend(b"cd\0");
        let want = [
            Cut::Frame { offset: 0, stuffed: b"ab\0".to_vec() },
            Cut::Blank { offset: 3 },
            Cut::Frame { offset: 5_003, stuffed: b"cd\0".to_vec() },
        ];
        assert_eq!(walk(&bytes), want);
    }

    #[test]
    fn a_run_longer_than_any_frame_costs_itself_alone() {
        let mut bytes = vec![1; 3 * FRAME_BYTES_MAX];
        bytes.extend(b"\0ok\0");
        let end = 3 * FRAME_BYTES_MAX as u64 + 1;
        let want = [Cut::TooLong { offset: 0 }, Cut::Frame { offset: end, stuffed: b"ok\0".to_vec() }];
        assert_eq!(walk(&bytes), want);
    }
}
