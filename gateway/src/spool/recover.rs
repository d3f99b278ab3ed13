//! What a spool directory holds after any end: a clean one, `kill -9`, or a power cut.
//!
//! The files are the truth. A torn tail is cut off, a damaged frame is counted and left for the uplink
//! to step over. The cursor only says what need not be sent again; a missing or senseless cursor costs
//! re-sends of the same identities, nothing else. Every segment is read once, so that what is reported
//! as kept can be decoded: starting with a large backlog takes the time of reading it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::segment::{self, Cut, Position, Segment, Walk};
use ingot_agent::Frame;

const CURSOR_FILE: &str = "cursor";

/// What was found at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Good frames not known to be acknowledged.
    pub frames: u64,
    /// Readings in them.
    pub readings: u64,
    /// Frames whose checksum or stuffing is damaged; they are stepped over.
    pub damaged_frames: u64,
    /// Bytes cut off because a write was not finished.
    pub torn_bytes: u64,
}

pub(crate) struct State {
    pub segments: Vec<Segment>,
    pub head: Position,
    pub next_number: u64,
    pub found: Recovered,
}

/// Reads the directory, cuts torn tails, removes what the cursor says is done.
pub(crate) fn recover(dir: &Path) -> io::Result<State> {
    let mut numbers: Vec<u64> = fs::read_dir(dir)?
        .filter_map(|entry| entry.ok()?.file_name().to_str().and_then(segment::number))
        .collect();
    numbers.sort_unstable();
    let cursor = read_cursor(dir);

    let mut found = Recovered::default();
    let mut segments = Vec::new();
    for number in &numbers {
        let done = cursor.filter(|cursor| *number <= cursor.segment);
        let acked_to = match done {
            Some(cursor) if *number == cursor.segment => cursor.offset,
            Some(_) => u64::MAX,
            None => 0,
        };
        if let Some(segment) = recover_segment(dir, *number, acked_to, &mut found)? {
            segments.push(segment);
        }
    }

    let newest = numbers.last().copied().max(cursor.map(|cursor| cursor.segment));
    let next_number = newest.map_or(0, |newest| newest + 1);
    let head = match (segments.first(), cursor) {
        (Some(first), Some(cursor)) if first.number == cursor.segment && first.acked_frames > 0 => cursor,
        (Some(first), _) => Position { segment: first.number, offset: 0 },
        (None, _) => Position { segment: next_number, offset: 0 },
    };
    Ok(State { segments, head, next_number, found })
}

/// One segment's inventory; removes the file when nothing in it is still to be sent.
fn recover_segment(
    dir: &Path,
    number: u64,
    acked_to: u64,
    found: &mut Recovered,
) -> io::Result<Option<Segment>> {
    let path = segment::path(dir, number);
    let file_bytes = fs::metadata(&path)?.len();
    let acked_to = if acked_to >= file_bytes || starts_a_frame(&path, acked_to)? { acked_to } else { 0 };

    let mut segment = Segment::empty(number);
    let mut damaged = 0;
    if acked_to < file_bytes {
        let mut walk = Walk::open(&path, 0)?;
        while let Some(cut) = walk.next(file_bytes)? {
            match cut {
                Cut::Frame { offset, mut stuffed } => match readings(&mut stuffed) {
                    Some(readings) => {
                        let acked = offset < acked_to;
                        segment.frames += 1;
                        segment.readings += readings;
                        segment.acked_frames += u64::from(acked);
                        segment.acked_readings += if acked { readings } else { 0 };
                    }
                    None => damaged += 1,
                },
                Cut::TooLong { .. } => damaged += 1,
                Cut::Torn { offset } => {
                    let file = File::options().write(true).open(&path)?;
                    file.set_len(offset)?;
                    file.sync_all()?;
                    found.torn_bytes += file_bytes - offset;
                    break;
                }
            }
        }
        segment.bytes = walk.offset();
    }

    found.damaged_frames += damaged;
    found.frames += segment.frames - segment.acked_frames;
    found.readings += segment.readings - segment.acked_readings;
    // A segment with nothing but damage stays too: a person may want to look at it before it is
    // stepped over; it goes like any other once the uplink has passed it.
    if segment.frames == segment.acked_frames && damaged == 0 {
        fs::remove_file(&path)?;
        return Ok(None);
    }
    Ok(Some(segment))
}

fn readings(stuffed: &mut [u8]) -> Option<u64> {
    let body = stuffed.len().checked_sub(1)?;
    Frame::open(&mut stuffed[..body]).ok().map(|frame| u64::from(frame.readings()))
}

fn starts_a_frame(path: &Path, offset: u64) -> io::Result<bool> {
    let Some(before) = offset.checked_sub(1) else {
        return Ok(true);
    };
    let mut byte = [1];
    File::open(path)?.read_exact_at(&mut byte, before)?;
    Ok(byte == [0])
}

/// The cursor's text is `<segment> <offset>`; anything else is no cursor.
fn read_cursor(dir: &Path) -> Option<Position> {
    let text = fs::read_to_string(dir.join(CURSOR_FILE)).ok()?;
    let (segment, offset) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(Position { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
}

/// Not synced: an old or empty cursor after a power cut is harmless, a sync each second wears flash.
pub(crate) fn write_cursor(dir: &Path, at: Position) -> io::Result<()> {
    let temporary = dir.join("cursor.tmp");
    fs::write(&temporary, format!("{} {}\n", at.segment, at.offset))?;
    fs::rename(temporary, dir.join(CURSOR_FILE))
}
