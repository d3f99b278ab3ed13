//! What a spool directory holds after any end: a clean one, `kill -9`, or a power cut.
//!
//! The files are the truth. A torn tail is cut off, a damaged frame is counted and left for the uplink
//! to step over. Cursor and counts are advice: without a cursor everything is sent again under the same
//! identities, without counts everything is read once.
//!
//! With them a start reads only segments that were not closed in order (the newest, and those given up
//! after a failed write) and those that are partly acknowledged: at most two and one per range of the
//! cursor, whatever the backlog. Damage in the others is found, and counted, when they are sent. A
//! segment that cannot be read is left as it is, for the next start. What is read is also synced: the run
//! that wrote it may have been killed before it did. (If that run also saw an fsync fail just before, what
//! was in doubt then is no longer known to be.)

use std::io;

use ingot_agent::Frame;

use super::counts::{self, Noted};
use super::cursor;
use super::directory::{Directory, DirectoryFile};
use super::disk::Disk;
use super::owed::Range;
use super::segment::{self, Amount, Position, Segment};
use super::segments::Segments;
use super::take::READ_FAILURES_MAX;
use super::walk::{Cut, Walk};

/// What was found at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Good frames not known to be acknowledged.
    pub frames: u64,
    /// Readings in them.
    pub readings: u64,
    /// Damaged frames in the segments that were read; they are stepped over.
    pub damaged_frames: u64,
    /// Bytes cut off because a write was not finished.
    pub torn_bytes: u64,
    /// Segments of which something is to be sent.
    pub segments: u64,
    /// Segments that had to be read, of all that there were.
    pub segments_read: u64,
}

impl Recovered {
    pub(super) fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.readings += other.readings;
        self.damaged_frames += other.damaged_frames;
        self.torn_bytes += other.torn_bytes;
        self.segments += other.segments;
        self.segments_read += other.segments_read;
    }
}

pub(super) struct State {
    pub segments: Segments,
    /// What is not acknowledged; ordered, and with what comes after the last of them.
    pub owed: Vec<Range>,
    /// Of this, what cannot be read.
    pub aside: Vec<Range>,
    pub next_number: u64,
    pub counts_lines: usize,
    pub found: Recovered,
}

/// Reads the directory, cuts torn tails, removes what the cursor says is done.
pub(super) fn recover<D: Directory>(disk: &Disk<D>) -> io::Result<State> {
    let mut numbers: Vec<u64> = disk.names()?.iter().filter_map(|name| segment::number(name)).collect();
    numbers.sort_unstable();
    let noted = counts::read(disk);
    let mut owed = cursor::read(disk).filter(|ranges| ranges.iter().all(|range| starts_frames(disk, range)));
    let known = owed.iter().flatten().map(|range| range.at.segment);
    let newest = numbers.iter().chain(noted.keys()).copied().chain(known).max();

    let all = Range { at: Position::default(), end: Position::END };
    let owed = owed.take().unwrap_or_else(|| vec![all]);
    let mut recovery = Recovery { disk, noted, owed: &owed, aside: Vec::new(), found: Recovered::default() };
    let mut segments = Segments::default();
    for number in &numbers {
        if let Some(segment) = recovery.segment_or_aside(*number) {
            segments.push(segment);
        }
    }
    let Recovery { mut found, aside, noted, .. } = recovery;
    let sums = segments.sums();
    (found.frames, found.readings) = (sums.owed.frames, sums.owed.readings);
    found.segments = segments.len() as u64;
    let mut counts_lines = noted.len();
    if (found.segments_read > 0 || counts_lines > segments.len())
        && let Err(error) = counts::rewrite(disk, &segments, &mut counts_lines)
    {
        tracing::warn!(%error, "the spool's counts were not written; the next start reads its segments");
    }
    let next_number = newest.map_or(0, |newest| newest + 1);
    Ok(State { segments, owed, aside, next_number, counts_lines, found })
}

struct Recovery<'a, D> {
    disk: &'a Disk<D>,
    noted: Noted,
    owed: &'a [Range],
    aside: Vec<Range>,
    found: Recovered,
}

impl<D: Directory> Recovery<'_, D> {
    /// One segment's inventory, or `None` and a place set aside if it cannot be read.
    fn segment_or_aside(&mut self, number: u64) -> Option<Segment> {
        let mut tries = 1;
        loop {
            match self.segment(number) {
                Ok(segment) => return segment,
                Err(_) if tries < READ_FAILURES_MAX => tries += 1,
                Err(error) => {
                    tracing::error!(segment = number, %error, "a spool segment cannot be read; it stays for the next start");
                    let (start, next) = (Position::start_of(number), Position::start_of(number + 1));
                    let clipped = self
                        .owed
                        .iter()
                        .map(|range| Range { at: range.at.max(start), end: range.end.min(next) });
                    self.aside.extend(clipped.filter(|range| range.at < range.end));
                    return None;
                }
            }
        }
    }

    /// One segment's inventory; removes the file when nothing in it is still to be sent.
    fn segment(&mut self, number: u64) -> io::Result<Option<Segment>> {
        let name = segment::name(number);
        let file = self.disk.open(&name)?;
        let file_bytes = file.bytes()?;
        let (start, next) = (Position::start_of(number), Position::start_of(number + 1));
        let owed = self.owed;
        let first = owed.partition_point(|range| range.end <= start);
        let owed_here: Vec<Range> =
            owed[first..].iter().take_while(|range| range.at < next).copied().collect();
        let last = Position { segment: number, offset: file_bytes };
        if file_bytes == 0 || !owed_here.iter().any(|range| range.at < last) {
            self.remove(&name);
            return Ok(None);
        }
        let whole = matches!(owed_here[..], [range] if range.at <= start && range.end >= last);
        if let Some(held) = self.noted.get(&number).filter(|held| whole && held.bytes == file_bytes) {
            return Ok(Some(Segment { held: *held, synced: *held, ..Segment::empty(number) }));
        }
        let closed = self.noted.get(&number).is_some_and(|held| held.bytes == file_bytes);
        let (mut segment, damaged) = self.read(number, file, file_bytes, &owed_here)?;
        self.found.segments_read += 1;
        self.found.damaged_frames += damaged;
        if segment.held.bytes < file_bytes {
            self.found.torn_bytes += file_bytes - segment.held.bytes;
            let cut = self.disk.edit(&name).and_then(|file| file.truncate(segment.held.bytes));
            if let Err(error) = cut {
                tracing::warn!(segment = number, %error, "the remains of an unfinished write were not cut off");
            }
        }
        // A segment with nothing but damage stays: a person may want to look at it before it is stepped
        // over; it goes like any other once the uplink has passed it.
        if segment.owed().frames == 0 && damaged == 0 {
            self.remove(&name);
            return Ok(None);
        }
        if !closed {
            self.sync(&name, &mut segment);
        }
        Ok(Some(segment))
    }

    /// Walks the whole segment: counts what is good, and what of it is owed.
    fn read(
        &self,
        number: u64,
        file: D::File,
        file_bytes: u64,
        owed: &[Range],
    ) -> io::Result<(Segment, u64)> {
        let mut walk = Walk::new(file, 0);
        let mut segment = Segment::empty(number);
        let (mut damaged, mut blank, mut good_to) = (0, 0, 0);
        while let Some(cut) = walk.next(file_bytes)? {
            let is_owed = |offset| {
                let at = Position { segment: number, offset };
                owed.iter().any(|range| range.at <= at && at < range.end)
            };
            if !matches!(cut, Cut::Blank { .. } | Cut::Torn { .. }) {
                damaged += std::mem::take(&mut blank);
            }
            match cut {
                Cut::Frame { offset, mut stuffed } => {
                    let bytes = stuffed.len() as u64;
                    match readings(&mut stuffed) {
                        Some(readings) => {
                            let frame = Amount { bytes, frames: 1, readings };
                            segment.held.add(frame);
                            if !is_owed(offset) {
                                segment.acked.add(frame);
                            }
                        }
                        None => damaged += u64::from(is_owed(offset)),
                    }
                    good_to = walk.offset();
                }
                Cut::TooLong { offset } => {
                    damaged += u64::from(is_owed(offset));
                    good_to = walk.offset();
                }
                // Before a frame it is damage; at the end it is a length without content.
                Cut::Blank { offset } => blank = u64::from(is_owed(offset)),
                Cut::Torn { .. } => break,
            }
        }
        segment.held.bytes = good_to;
        Ok((segment, damaged))
    }

    fn sync(&self, name: &str, segment: &mut Segment) {
        let synced = self.disk.edit(name).and_then(|file| self.disk.sync(&file));
        match synced {
            Ok(()) => segment.synced = segment.held,
            Err(error) => {
                tracing::error!(%error, name, "fsync of a former run's segment failed; its frames are in doubt");
                segment.poisoned = true;
                segment.doubt = Some((0, segment.owed()));
            }
        }
    }

    fn remove(&self, name: &str) {
        if let Err(error) = self.disk.remove(name) {
            tracing::warn!(%error, name, "a finished spool segment could not be removed");
        }
    }
}

fn readings(stuffed: &mut [u8]) -> Option<u64> {
    let body = stuffed.len().checked_sub(1)?;
    Frame::open(&mut stuffed[..body]).ok().map(|frame| u64::from(frame.readings()))
}

/// Whether both ends of a range can be where a frame starts; one behind its file's end can.
fn starts_frames<D: Directory>(disk: &Disk<D>, range: &Range) -> bool {
    let starts_frame = |at: Position| {
        let Some(before) = at.offset.checked_sub(1).filter(|_| at != Position::END) else {
            return true;
        };
        let mut byte = [0];
        match disk.open(&segment::name(at.segment)).and_then(|file| file.read_at(&mut byte, before)) {
            Ok(_) => byte == [0],
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    };
    starts_frame(range.at) && starts_frame(range.end)
}
