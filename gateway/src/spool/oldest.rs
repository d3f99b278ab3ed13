//! The age of the backlog: when the oldest frame that is not acknowledged was sealed.

use std::io;

use ingot_agent::Frame;

use super::Spool;
use super::segment::{self, Cut, Position, Walk};

impl Spool {
    /// When the oldest unacknowledged frame was sealed, in milliseconds since 1970-01-01 UTC; `None` if
    /// there is none, or if it is damaged. Reads that frame from disk; the uplink does not wait for it.
    ///
    /// # Errors
    /// Its segment cannot be read; one that was just removed reads as not found.
    pub fn oldest_sealed_ms(&self) -> io::Result<Option<i64>> {
        let (at, end) = {
            let inner = self.lock();
            let cursor = inner.cursor();
            let start = |number| if number == cursor.segment { cursor.offset } else { 0 };
            let waits = inner.segments.iter().find(|segment| {
                segment.number >= cursor.segment
                    && !segment.condemned
                    && start(segment.number) < segment.bytes
            });
            let Some(segment) = waits else {
                return Ok(None);
            };
            (Position { segment: segment.number, offset: start(segment.number) }, segment.bytes)
        };
        let mut walk = Walk::open(&segment::path(&self.config.dir, at.segment), at.offset)?;
        let Some(Cut::Frame { mut stuffed, .. }) = walk.next(end)? else {
            return Ok(None);
        };
        let body = stuffed.len().saturating_sub(1);
        Ok(Frame::open(&mut stuffed[..body]).ok().map(|frame| frame.sealed_ms()))
    }
}
