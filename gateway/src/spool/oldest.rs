//! The age of the backlog: when the oldest frame that is not acknowledged was sealed.

use std::io;

use ingot_agent::Frame;

use super::directory::Directory;
use super::segment::{self, Position};
use super::walk::{Cut, Walk};
use super::{Inner, Spool};

impl<D: Directory> Spool<D> {
    /// When the oldest unacknowledged frame was sealed, in milliseconds since 1970-01-01 UTC; `None` if
    /// there is none, or if it is damaged. Reads that frame from disk; the uplink does not wait for it.
    ///
    /// # Errors
    /// Its segment cannot be read; one that was just removed reads as not found.
    pub fn oldest_sealed_ms(&self) -> io::Result<Option<i64>> {
        let Some((at, end)) = self.lock().oldest() else {
            return Ok(None);
        };
        let mut walk = Walk::new(self.disk.open(&segment::name(at.segment))?, at.offset);
        let Some(Cut::Frame { mut stuffed, .. }) = walk.next(end)? else {
            return Ok(None);
        };
        let body = stuffed.len().saturating_sub(1);
        Ok(Frame::open(&mut stuffed[..body]).ok().map(|frame| frame.sealed_ms()))
    }
}

impl<D: Directory> Inner<D> {
    /// Where the oldest unacknowledged frame starts, and the end of its segment.
    fn oldest(&self) -> Option<(Position, u64)> {
        let in_flight = self.pending.keys().find_map(|at| {
            let segment = self.segments.get(at.segment).filter(|segment| !segment.condemned)?;
            Some((*at, segment.held.bytes))
        });
        let untaken = self.owed.ranges().find_map(|range| {
            let mut at = range.at;
            while at < range.end {
                let segment = self.segments.first_from(at.segment)?;
                at = at.max(Position::start_of(segment.number));
                if at.offset < segment.held.bytes {
                    return (at < range.end).then_some((at, segment.held.bytes));
                }
                at = Position::start_of(segment.number + 1);
            }
            None
        });
        in_flight.into_iter().chain(untaken).min()
    }
}
