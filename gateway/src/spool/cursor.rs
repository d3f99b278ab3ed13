//! The cursor: advice on what need not be sent again.
//!
//! It holds the ranges that were not acknowledged, a line each, `<segment> <offset> <segment> <offset>`
//! from start to end; the last line is a start alone, `<segment> <offset>`: all that comes after it is
//! owed. (A cursor of the first version is such a line and nothing else.) So a restart in the middle of
//! a drain sends again only what was acknowledged since the cursor was written, and keeps the order.
//!
//! It is replaced by rename and never synced. A power cut leaves an old one, or one that is cut or
//! blank; only a whole one ends in a start alone, so any other is no cursor: everything is sent again,
//! under the same identities.
//!
//! Each writing wears the flash and saves only re-sends. So it is written when [`ACKED_BYTES_MAX`] were
//! acknowledged since the last time, or after [`AGE_MAX`] if anything was, and when the spool is closed.

use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use super::directory::Directory;
use super::disk::Disk;
use super::owed::Range;
use super::segment::{NUMBER_MAX, Position};

/// Most that a restart sends again, in bytes.
pub(super) const ACKED_BYTES_MAX: u64 = 1 << 20;
/// Longest time that an acknowledgement is not noted.
pub(super) const AGE_MAX: Duration = Duration::from_secs(60);
/// A longer cursor is not one of ours.
const LINES_MAX: usize = 4_096;

const FILE: &str = "cursor";

/// When it is worth its flash.
pub(super) struct Cadence {
    acked_bytes: u64,
    written: Instant,
}

impl Cadence {
    pub fn new(now: Instant) -> Self {
        Self { acked_bytes: 0, written: now }
    }

    pub fn acked(&mut self, bytes: u64) {
        self.acked_bytes += bytes;
    }

    /// Anything to note at all.
    pub fn any(&self) -> bool {
        self.acked_bytes > 0
    }

    /// Time to write.
    pub fn due(&self, now: Instant) -> bool {
        let old = now.saturating_duration_since(self.written) >= AGE_MAX;
        self.acked_bytes >= ACKED_BYTES_MAX || (self.any() && old)
    }
}

/// `ranges` ordered; the last one has no end.
pub(super) fn write<D: Directory>(disk: &Disk<D>, ranges: &[Range]) -> io::Result<()> {
    let mut text = String::new();
    for Range { at, end } in ranges {
        let written = if *end == Position::END {
            writeln!(text, "{} {}", at.segment, at.offset)
        } else {
            writeln!(text, "{} {} {} {}", at.segment, at.offset, end.segment, end.offset)
        };
        written.map_err(io::Error::other)?;
    }
    disk.replace(FILE, text.as_bytes(), false)
}

pub(super) fn read<D: Directory>(disk: &Disk<D>) -> Option<Vec<Range>> {
    parse(std::str::from_utf8(&disk.read(FILE)?).ok()?)
}

/// The ranges, ordered and disjoint; `None` for any text that is not a whole cursor.
fn parse(text: &str) -> Option<Vec<Range>> {
    let mut ranges = Vec::new();
    let mut before = Position::default();
    let mut lines = text.strip_suffix('\n')?.split('\n').take(LINES_MAX).peekable();
    while let Some(line) = lines.next() {
        let mut words = line.split(' ').map(|word| word.parse::<u64>().ok());
        let mut position = || {
            let (segment, offset) = (words.next()??, words.next()??);
            (segment <= NUMBER_MAX).then_some(Position { segment, offset })
        };
        let at = position()?;
        let end = if lines.peek().is_some() { position()? } else { Position::END };
        if words.next().is_some() || at < before || end <= at {
            return None;
        }
        before = end;
        ranges.push(Range { at, end });
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_cursor_is_read_whole_or_not_at_all() {
        let text = "3 100 3 250\n4 0 7 9\n7 1000\n";
        let at = |segment, offset| Position { segment, offset };
        let want = [
            Range { at: at(3, 100), end: at(3, 250) },
            Range { at: at(4, 0), end: at(7, 9) },
            Range { at: at(7, 1_000), end: Position::END },
        ];
        assert_eq!(parse(text).unwrap(), want);
        for cut in 0..text.len() {
            assert_eq!(parse(&text[..cut]), None, "{:?}", &text[..cut]);
            let blank = text[..cut].to_owned() + &"\0".repeat(text.len() - cut);
            assert_eq!(parse(&blank), None, "{blank:?}");
        }
        assert_eq!(parse("0 700\n").unwrap(), [Range { at: at(0, 700), end: Position::END }]);
        for senseless in
            ["5 0 4 0\n6 0\n", "5 0 6 0\n5 9\n", "1 2 3\n", "18446744073709551615 0\n", "1 0\n2 0\n"]
        {
            assert_eq!(parse(senseless), None, "{senseless:?}");
        }
    }

    #[test]
    fn it_is_written_for_many_bytes_or_after_a_minute() {
        let start = Instant::now();
        let mut cadence = Cadence::new(start);
        assert!(!cadence.due(start + 2 * AGE_MAX), "nothing was acknowledged");
        cadence.acked(1);
        assert!(!cadence.due(start + AGE_MAX / 2) && cadence.due(start + AGE_MAX));
        cadence.acked(ACKED_BYTES_MAX);
        assert!(cadence.due(start));
    }
}
