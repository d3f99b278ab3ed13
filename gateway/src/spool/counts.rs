//! The counts of closed segments, so that a start need not read a backlog to know how large it is.
//!
//! File `counts`, a line per segment that was closed and synced: `<number> <bytes> <frames> <readings>
//! <number>`, the number again so that a torn line is known.
//! It is advice: a segment without a line, or of another length, is read. It grows by a line a segment
//! and is written anew at each start, and when most of its lines are of segments that are gone.

use std::collections::HashMap;
use std::io;

use super::directory::Directory;
use super::disk::Disk;
use super::segment::{Amount, NUMBER_MAX, Segment};
use super::segments::Segments;

const FILE: &str = "counts";
/// Lines of segments that are gone, before the file is written anew.
const GONE_MAX: usize = 1_024;

/// What was noted, by segment number.
pub(super) type Noted = HashMap<u64, Amount>;

pub(super) fn read<D: Directory>(disk: &Disk<D>) -> Noted {
    let content = disk.read(FILE).unwrap_or_default();
    content.split(|byte| *byte == b'\n').filter_map(parse).collect()
}

/// Writes all of it anew; `lines` is its length then.
pub(super) fn rewrite<D: Directory>(
    disk: &Disk<D>,
    segments: &Segments,
    lines: &mut usize,
) -> io::Result<()> {
    let sure = |segment: &&Segment| !segment.poisoned && segment.synced == segment.held;
    let closed: Vec<_> = segments.iter().filter(sure).map(line).collect();
    *lines = closed.len();
    disk.replace(FILE, closed.concat().as_bytes(), true)
}

/// Notes one more closed segment.
pub(super) fn note<D: Directory>(
    disk: &Disk<D>,
    segments: &Segments,
    closed: &Segment,
    lines: &mut usize,
) -> io::Result<()> {
    if *lines > segments.len() + GONE_MAX {
        return rewrite(disk, segments, lines);
    }
    let file = match disk.edit(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return rewrite(disk, segments, lines),
        file => file?,
    };
    *lines += 1;
    disk.append(&file, line(closed).as_bytes())?;
    disk.sync(&file)
}

fn line(segment: &Segment) -> String {
    let Amount { bytes, frames, readings } = segment.held;
    // The end before it: the line of an append that failed is not continued.
    format!("\n{0} {bytes} {frames} {readings} {0}\n", segment.number)
}

fn parse(line: &[u8]) -> Option<(u64, Amount)> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ').map(|word| word.parse::<u64>().ok());
    let number = words.next()??;
    let amount = Amount { bytes: words.next()??, frames: words.next()??, readings: words.next()?? };
    let whole = words.next()?? == number && words.next().is_none();
    (whole && number <= NUMBER_MAX).then_some((number, amount))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_torn_line_is_no_line() {
        let held = Amount { bytes: 8_000, frames: 5, readings: 112 };
        let text = line(&Segment { held, ..Segment::empty(112) });
        assert_eq!(parse(text.trim_matches('\n').as_bytes()), Some((112, held)));
        for cut in 0..text.len() - 1 {
            assert_eq!(parse(text[..cut].trim_matches('\n').as_bytes()), None, "{:?}", &text[..cut]);
        }
    }
}
