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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::spool::{SpoolConfig, WhenFull};
    use ingot_agent::Batch;
    use std::time::Instant;

    fn frame(sealed_ms: i64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut batch = Batch::<1, 1, 4_096>::new("gw", 1).unwrap();
        batch.seal(sealed_ms, 0, |piece| bytes.extend_from_slice(piece));
        bytes
    }

    #[test]
    fn the_oldest_frame_is_one_in_flight_or_one_never_taken_in_any_segment() {
        let dir = tempfile::tempdir().unwrap();
        let config = SpoolConfig {
            dir: dir.path().into(),
            bytes_max: 1 << 20,
            // Two frames a segment.
            segment_bytes_max: frame(1).len() as u64 + 1,
            fsync_interval_ms: 60_000,
            when_full: WhenFull::Refuse,
            live_share_percent: 20,
            live_lag_ms_max: 30_000,
        };
        let (spool, _) = Spool::open(config).unwrap();
        assert_eq!(spool.oldest_sealed_ms().unwrap(), None);
        for sealed_ms in 1..=6 {
            spool.append(&frame(sealed_ms), 0, false).unwrap();
        }
        let taken: Vec<_> = (0..4).map(|_| spool.take(Instant::now(), 10).unwrap().unwrap()).collect();
        assert_eq!(spool.oldest_sealed_ms().unwrap(), Some(1), "in flight");
        // Confirmed out of order: the third stays the oldest, then what was never taken is.
        for (confirmed, oldest) in [(0, 2), (1, 3), (3, 3), (2, 5)] {
            spool.ack(taken[confirmed].position);
            assert_eq!(spool.oldest_sealed_ms().unwrap(), Some(oldest));
        }
        while let Some(frame) = spool.take(Instant::now(), 10).unwrap() {
            spool.ack(frame.position);
        }
        assert_eq!(spool.oldest_sealed_ms().unwrap(), None);
    }
}
