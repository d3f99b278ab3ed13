//! What is still to be sent, and in which order: ranges of the spool, in two lanes.
//!
//! Normally there is one range, from the first frame never taken to the end, and frames go in the order
//! of appending. When the end is not reached for longer than a limit (an outage, a slow link), the range
//! is cut where the spool ends at that moment (and at a start that finds much): what comes from now on is the *live* range, what is before
//! it the *backlog*. The live lane gets a share of the bytes sent, measured by deficit, and what one lane
//! cannot use the other takes. In each lane frames go in the order of appending.
//!
//! Nothing is copied or written twice: this is an order over one store. With each range the next cut wants
//! the limit once more, so that a link too slow for its live share is not cut every time; at most
//! [`RANGES_MAX`] ranges, then the live lane waits for a range of the backlog to end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::segment::{FRAME_BYTES_MAX, Position};

/// Most ranges that cutting leads to; with a limit of 30 s that is 17 hours of a link that is too slow.
pub(super) const RANGES_MAX: usize = 64;

/// Most ranges that a start cuts once more.
const RANGES_AT_START_MAX: usize = 8;

/// The share that a lane did not use is kept for one frame of the longest kind, so that a live frame goes
/// at once and a burst does not stop the backlog.
const BALANCE_MAX: i64 = 100 * FRAME_BYTES_MAX as i64;

/// Frames from `at` to `end`, which is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub at: Position,
    pub end: Position,
}

/// Which end of the spool a frame is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The oldest range of several.
    Backlog,
    /// The newest range.
    Live,
}

pub(super) struct Owed {
    /// Ordered, disjoint; the last one has no end.
    ranges: VecDeque<Range>,
    live_share_percent: i64,
    lag_max: Duration,
    /// Bytes that the live lane may have ahead of its share, times 100.
    balance: i64,
    /// Where the spool ended at some moment; the live lane has not come there yet.
    mark: Option<(Position, Instant)>,
}

impl Owed {
    /// `ranges` ordered and disjoint; what is behind the last of them is owed too.
    pub fn new(ranges: Vec<Range>, live_share_percent: u8, lag_max: Duration) -> Self {
        let mut ranges = VecDeque::from(ranges);
        match ranges.back_mut() {
            Some(last) => last.end = Position::END,
            None => ranges.push_back(Range { at: Position::default(), end: Position::END }),
        }
        let live_share_percent = i64::from(live_share_percent.min(100));
        Self { ranges, live_share_percent, lag_max, balance: 0, mark: None }
    }

    pub fn ranges(&self) -> impl Iterator<Item = Range> {
        self.ranges.iter().copied()
    }

    /// The lanes, the one to be served first in front; the same twice if there is but one.
    pub fn order(&self) -> [Lane; 2] {
        match self.ranges.len() {
            0 | 1 => [Lane::Live; 2],
            _ if self.live_share_percent > 0 && self.balance >= 0 => [Lane::Live, Lane::Backlog],
            _ => [Lane::Backlog, Lane::Live],
        }
    }

    /// The lane's range; `None` for the backlog when there is none.
    pub fn range(&self, lane: Lane) -> Option<Range> {
        match lane {
            Lane::Live => self.ranges.back().copied(),
            Lane::Backlog => self.ranges.front().copied().filter(|_| self.ranges.len() > 1),
        }
    }

    /// Everything before `to` in the lane's range is taken or stepped over; a range at its end is gone.
    pub fn advance(&mut self, lane: Lane, to: Position) {
        let several = self.ranges.len() > 1;
        let range = match lane {
            Lane::Live => self.ranges.back_mut(),
            Lane::Backlog => self.ranges.front_mut(),
        };
        let Some(range) = range else { return };
        range.at = to.max(range.at);
        if range.at >= range.end && several {
            self.ranges.pop_front();
        }
        let live_at = self.ranges.back().map_or(Position::END, |live| live.at);
        if self.mark.is_some_and(|(mark, _)| live_at >= mark) {
            self.mark = None;
        }
    }

    /// A frame of the lane was taken: the account of shares.
    pub fn carried(&mut self, lane: Lane, bytes: usize) {
        if self.ranges.len() > 1 {
            let bytes = bytes as i64;
            let change = match lane {
                Lane::Live => -bytes * (100 - self.live_share_percent),
                Lane::Backlog => bytes * self.live_share_percent,
            };
            self.balance = (self.balance + change).clamp(-BALANCE_MAX, BALANCE_MAX);
        }
    }

    /// The spool ends at `end` now: from here on the live lane's lag is measured.
    pub fn appended(&mut self, end: Position, now: Instant) {
        if self.ranges.back().is_some_and(|live| live.at < end) {
            self.mark.get_or_insert((end, now));
        }
    }

    /// At a start: what a former run left is backlog, and this run's frames are live at once. Not after
    /// many starts in a row, so that the cuts of later outages find room.
    pub fn cut_at_start(&mut self, end: Position) {
        if self.ranges.len() < RANGES_AT_START_MAX {
            self.cut(end);
        }
    }

    fn cut(&mut self, end: Position) {
        let Some(live) = self.ranges.back_mut() else { return };
        if live.at < end && self.live_share_percent > 0 {
            live.end = end;
            self.ranges.push_back(Range { at: end, end: Position::END });
            self.mark = None;
        }
    }

    /// Before a frame is taken: if the live lane is behind for too long, all up to `end` is backlog.
    pub fn cut_if_late(&mut self, end: Position, now: Instant) {
        self.appended(end, now);
        let ranges = self.ranges.len();
        let Some((_, since)) = self.mark else { return };
        let late = now.saturating_duration_since(since) >= self.lag_max * ranges as u32;
        if late && ranges < RANGES_MAX {
            self.cut(end);
        }
    }

    /// Whether the frame at this place is still to be taken.
    pub fn holds(&self, at: Position) -> bool {
        self.ranges.iter().any(|range| range.at <= at && at < range.end)
    }

    /// Whether any byte of a segment of this length is still to be taken.
    pub fn touches(&self, segment: u64, bytes: u64) -> bool {
        let (start, end) = (Position::start_of(segment), Position { segment, offset: bytes });
        let after = self.ranges.partition_point(|range| range.end <= start);
        self.ranges.get(after).is_some_and(|range| range.at < end)
    }
}

/// Sorts ranges and joins those that meet.
pub(super) fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let meet = next.at <= before.end;
        if meet {
            before.end = before.end.max(next.end);
        }
        meet
    });
    ranges
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const LAG: Duration = Duration::from_secs(30);

    fn at(offset: u64) -> Position {
        Position { segment: 0, offset }
    }

    /// Takes the next frame, all of them `bytes` long, of a spool that ends at `end`.
    fn take(owed: &mut Owed, bytes: u64, end: u64) -> Option<(Lane, u64)> {
        for lane in owed.order() {
            let Some(range) = owed.range(lane) else { continue };
            if range.at.offset < end.min(range.end.offset) {
                owed.advance(lane, at(range.at.offset + bytes));
                owed.carried(lane, bytes as usize);
                return Some((lane, range.at.offset));
            }
        }
        None
    }

    proptest! {
        /// Whatever happens when: every frame once, each lane in order, a bounded number of ranges.
        #[test]
        fn every_frame_is_taken_once(steps in prop::collection::vec((0_u64..4, 0_u64..4, 0_u64..40), 1..400), share in 0_u8..=100) {
            let mut owed = Owed::new(Vec::new(), share, LAG);
            let (mut now, mut end) = (Instant::now(), 0);
            let (mut taken, mut last_live) = (std::collections::BTreeSet::new(), None);
            for (appended, wanted, seconds) in steps {
                now += Duration::from_secs(seconds);
                end += appended * 10;
                owed.cut_if_late(at(end), now);
                for _ in 0..wanted {
                    let Some((lane, offset)) = take(&mut owed, 10, end) else { break };
                    prop_assert!(taken.insert(offset), "twice: {offset}");
                    if lane == Lane::Live {
                        prop_assert!(last_live < Some(offset));
                        last_live = Some(offset);
                    } else {
                        // Nothing older than a frame of the backlog is left.
                        prop_assert_eq!(taken.range(..=offset).count() as u64, offset / 10 + 1);
                    }
                }
                prop_assert!(owed.ranges().count() <= RANGES_MAX);
                if share == 0 {
                    prop_assert_eq!(owed.ranges().count(), 1);
                }
            }
            while let Some((_, offset)) = take(&mut owed, 10, end) {
                prop_assert!(taken.insert(offset));
            }
            prop_assert_eq!(taken.len() as u64, end / 10);
        }
    }

    #[test]
    fn after_an_outage_new_frames_go_at_once_and_the_backlog_gets_the_rest() {
        let mut owed = Owed::new(Vec::new(), 20, LAG);
        let start = Instant::now();
        owed.appended(at(1_000), start);
        let mut end = 1_000_000;
        owed.cut_if_late(at(end), start + LAG);
        assert_eq!(take(&mut owed, 1_000, end), Some((Lane::Backlog, 0)), "nothing is live yet");
        // As much comes as the link carries: a fifth of it is live.
        let (mut live, mut backlog) = (0, 0);
        for _ in 0..500 {
            end += 1_000;
            match take(&mut owed, 1_000, end) {
                Some((Lane::Live, _)) => live += 1,
                Some((Lane::Backlog, _)) => backlog += 1,
                None => {}
            }
        }
        assert!((95..=110).contains(&live) && live + backlog == 500, "{live} live, {backlog} backlog");
        // One frame now and then: it goes before everything else.
        let mut owed = Owed::new(Vec::new(), 20, LAG);
        owed.appended(at(1_000), start);
        owed.cut_if_late(at(1_000_000), start + LAG);
        let mut end = 1_000_000;
        for _ in 0..50 {
            end += 1_000;
            assert_eq!(take(&mut owed, 1_000, end), Some((Lane::Live, end - 1_000)));
            for _ in 0..9 {
                assert_eq!(take(&mut owed, 1_000, end).map(|(lane, _)| lane), Some(Lane::Backlog));
            }
        }
    }

    #[test]
    fn at_a_start_new_frames_go_at_once_and_many_starts_do_not_use_up_the_ranges() {
        let mut owed = Owed::new(Vec::new(), 20, LAG);
        owed.cut_at_start(at(1_000));
        assert_eq!(take(&mut owed, 10, 1_010), Some((Lane::Live, 1_000)));
        for start in 2..100 {
            owed = Owed::new(owed.ranges().collect(), 20, LAG);
            owed.cut_at_start(at(start * 1_000));
        }
        assert_eq!(owed.ranges().count(), RANGES_AT_START_MAX);
    }

    #[test]
    fn a_short_lag_keeps_the_order() {
        let mut owed = Owed::new(Vec::new(), 20, LAG);
        let start = Instant::now();
        for second in 0..600 {
            let end = (second + 1) * 10;
            owed.cut_if_late(at(end), start + Duration::from_secs(second));
            if second % 20 == 0 {
                while take(&mut owed, 10, end).is_some() {}
            }
        }
        assert_eq!(owed.ranges().count(), 1);
    }

    #[test]
    fn ranges_that_meet_are_joined() {
        let range = |from, to| Range { at: at(from), end: at(to) };
        let open = Range { at: at(40), end: Position::END };
        let ranges = vec![range(20, 30), open, range(0, 10), range(10, 20), range(35, 40)];
        assert_eq!(joined(ranges), [range(0, 30), Range { at: at(35), end: Position::END }]);
    }
}
