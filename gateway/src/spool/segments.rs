//! All segments of the spool, oldest first, and the sums over them.
//!
//! The sums are kept with each change, so that neither append nor take ever walks the list: the cost of a
//! frame does not depend on the backlog. Memory: about 200 bytes a segment.

use std::collections::VecDeque;

use super::segment::{Amount, Position, Segment};

#[derive(Default)]
pub(super) struct Segments {
    list: VecDeque<Segment>,
    sums: Sums,
    condemned: Vec<u64>,
}

/// Sums over the segments; of those that are condemned nothing is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Bytes of all files.
    pub bytes: u64,
    /// What is not acknowledged.
    pub owed: Amount,
    /// Of this, what a failed fsync put in doubt.
    pub doubt: Amount,
}

impl Segments {
    /// Adds the newest one.
    pub fn push(&mut self, segment: Segment) {
        self.sums.add(&segment);
        self.list.push_back(segment);
    }

    pub fn sums(&self) -> Sums {
        self.sums
    }

    pub fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.list.iter()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn get(&self, number: u64) -> Option<&Segment> {
        self.list.get(self.find(number)?)
    }

    /// The first one from `number` on that is still wanted.
    pub fn first_from(&self, number: u64) -> Option<&Segment> {
        let from = self.list.partition_point(|segment| segment.number < number);
        self.list.range(from..).find(|segment| !segment.condemned)
    }

    /// The end of everything appended; `None` without a segment.
    pub fn end(&self) -> Option<Position> {
        self.list.back().map(|last| Position { segment: last.number, offset: last.held.bytes })
    }

    /// Changes one segment, and with it the sums.
    pub fn change(&mut self, number: u64, change: impl FnOnce(&mut Segment)) {
        if let Some(segment) = self.find(number).and_then(|index| self.list.get_mut(index)) {
            self.sums.subtract(segment);
            change(segment);
            self.sums.add(segment);
        }
    }

    /// A frame at `position` is acknowledged.
    pub fn acked(&mut self, position: Position, frame: Amount) {
        self.change(position.segment, |segment| {
            segment.acked.add(frame);
            if position.offset >= segment.synced.bytes {
                segment.acked_unsynced.add(frame);
            }
            if let Some((from, doubt)) = &mut segment.doubt
                && position.offset >= *from
            {
                *doubt = doubt.less(frame);
            }
        });
    }

    /// Everything before `upto` is on disk, unless an fsync failed before.
    pub fn synced(&mut self, number: u64, upto: Amount) {
        self.change(number, |segment| {
            if segment.doubt.is_none() && upto.bytes > segment.synced.bytes {
                segment.synced = upto;
                segment.acked_unsynced = Amount::default();
            }
        });
    }

    /// An fsync failed that should have covered everything behind `synced`: later ones prove nothing.
    pub fn doubt(&mut self, number: u64, synced: Amount) {
        self.change(number, |segment| {
            segment.poisoned = true;
            let doubt = segment.held.less(synced).less(segment.acked_unsynced);
            segment.doubt = Some((synced.bytes, doubt));
        });
    }

    /// Gives one up; its file goes when the count of its readings is on disk.
    pub fn condemn(&mut self, number: u64) {
        self.change(number, |segment| segment.condemned = true);
        self.condemned.push(number);
    }

    pub fn condemned(&self) -> &[u64] {
        &self.condemned
    }

    /// Takes one out, with its last counts.
    pub fn remove(&mut self, number: u64) -> Option<Segment> {
        let removed = self.list.remove(self.find(number)?)?;
        self.sums.subtract(&removed);
        self.condemned.retain(|condemned| *condemned != number);
        Some(removed)
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.list.binary_search_by_key(&number, |segment| segment.number).ok()
    }
}

impl Sums {
    fn add(&mut self, segment: &Segment) {
        if !segment.condemned {
            self.bytes += segment.held.bytes;
            self.owed.add(segment.owed());
            self.doubt.add(segment.doubt.map_or_else(Amount::default, |(_, doubt)| doubt));
        }
    }

    fn subtract(&mut self, segment: &Segment) {
        if !segment.condemned {
            self.bytes -= segment.held.bytes;
            self.owed = self.owed.less(segment.owed());
            self.doubt = self.doubt.less(segment.doubt.map_or_else(Amount::default, |(_, doubt)| doubt));
        }
    }
}
