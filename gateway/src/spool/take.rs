//! The spool's reading side: the uplink takes frames, and acknowledges or returns each.

use std::io;
use std::time::Instant;

use bytes::Bytes;
use ingot_agent::Frame;

use super::directory::Directory;
use super::owed::{Lane, Range};
use super::segment::{self, Amount, Position};
use super::walk::{Cut, Walk};
use super::{Inner, Spool};
use crate::key::{Identity, is_name};

/// Reads of one place that may fail before it is left for the next start.
pub(super) const READ_FAILURES_MAX: u32 = 3;

/// A frame in the uplink's hands.
#[derive(Clone, Debug)]
pub struct Spooled {
    /// Its place, to acknowledge or return it.
    pub position: Position,
    /// The frame as stored, closing `0x00` included.
    pub bytes: Bytes,
    /// What topic and key follow from.
    pub identity: Identity,
    /// Readings in it.
    pub readings: u32,
}

/// A frame that was taken and is not acknowledged.
pub(super) struct Pending {
    bytes: usize,
    readings: u32,
    /// `None` while it is being sent; else when it may be tried again.
    retry_at: Option<Instant>,
}

impl Pending {
    pub fn range(&self, at: Position) -> Range {
        Range { at, end: Position { offset: at.offset + self.bytes as u64, ..at } }
    }
}

impl<D: Directory> Spool<D> {
    /// The next frame to send: a returned one whose time has come, else the next never taken, of the live
    /// or of the backlog lane (module `owed`). Blocks.
    ///
    /// Takes none beyond `pending_max` frames that are neither acknowledged nor dropped: frames that
    /// the far end keeps refusing cannot push the rest of the backlog into memory.
    ///
    /// # Errors
    /// A segment cannot be read; the same frame is next again. A place that cannot be read three times is
    /// left as it is until the next start, and what is behind it in its segment with it.
    pub fn take(&self, now: Instant, pending_max: usize) -> io::Result<Option<Spooled>> {
        let mut inner = self.lock();
        let due = inner.pending.iter().find(|(_, pending)| pending.retry_at.is_some_and(|at| at <= now));
        if let Some((position, pending)) = due {
            let (position, range) = (*position, pending.range(*position));
            match inner.result(range, self.read_again(range)) {
                Ok(Some(frame)) => {
                    if let Some(pending) = inner.pending.get_mut(&position) {
                        pending.retry_at = None;
                    }
                    return Ok(Some(frame));
                }
                Ok(None) => inner.step_over(position),
                Err(Some(error)) => return Err(error),
                Err(None) => {}
            }
            inner.pending.remove(&position);
            self.remove_done(&mut inner, position.segment);
        }
        if inner.pending.len() >= pending_max {
            return Ok(None);
        }
        if let Some(end) = inner.segments.end() {
            inner.owed.cut_if_late(end, now);
        }
        let [first, second] = inner.owed.order();
        match self.take_from(&mut inner, first)? {
            None if second != first => self.take_from(&mut inner, second),
            taken => Ok(taken),
        }
    }

    fn take_from(&self, inner: &mut Inner<D>, lane: Lane) -> io::Result<Option<Spooled>> {
        while let Some(range) = inner.owed.range(lane) {
            let wanted = inner.segments.first_from(range.at.segment);
            let wanted = wanted.filter(|segment| Position::start_of(segment.number) < range.end);
            let Some((number, bytes)) = wanted.map(|segment| (segment.number, segment.held.bytes)) else {
                if lane == Lane::Live {
                    return Ok(None);
                }
                inner.owed.advance(lane, range.end);
                continue;
            };
            let at = range.at.max(Position::start_of(number));
            let ends_here = range.end.segment == number;
            let limit = if ends_here { bytes.min(range.end.offset) } else { bytes };
            let rest = if ends_here { range.end } else { Position::start_of(number + 1) };

            let cut = self.next_cut(inner, lane, at, limit);
            let (cut, walked) = match inner.result(Range { at, end: rest }, cut) {
                Ok(walked) => walked,
                Err(Some(error)) => return Err(error),
                Err(None) => {
                    inner.owed.advance(lane, rest);
                    continue;
                }
            };
            match cut {
                Some(Cut::Frame { offset, stuffed }) => {
                    inner.owed.advance(lane, Position { segment: number, offset: walked });
                    let (position, bytes) = (Position { segment: number, offset }, stuffed.len());
                    if let Some(spooled) = spooled(position, stuffed) {
                        inner.owed.carried(lane, bytes);
                        let pending = Pending { bytes, readings: spooled.readings, retry_at: None };
                        inner.pending.insert(position, pending);
                        return Ok(Some(spooled));
                    }
                    inner.step_over(position);
                }
                Some(Cut::TooLong { offset } | Cut::Blank { offset }) => {
                    inner.owed.advance(lane, Position { segment: number, offset: walked });
                    inner.step_over(Position { segment: number, offset });
                }
                None if !ends_here && inner.is_active(number) => return Ok(None),
                Some(Cut::Torn { .. }) | None => inner.owed.advance(lane, rest),
            }
            self.remove_done(inner, number);
        }
        Ok(None)
    }

    /// The next cut of a segment, and where the one after it starts.
    fn next_cut(
        &self,
        inner: &mut Inner<D>,
        lane: Lane,
        at: Position,
        limit: u64,
    ) -> io::Result<(Option<Cut>, u64)> {
        let slot = &mut inner.walks[lane as usize];
        let kept = slot.take_if(|(number, walk)| *number != at.segment || walk.offset() != at.offset);
        drop(kept);
        let (_, walk) = match slot {
            Some(walk) => walk,
            None => {
                let file = self.disk.open(&segment::name(at.segment))?;
                slot.insert((at.segment, Walk::new(file, at.offset)))
            }
        };
        let cut = walk.next(limit)?;
        Ok((cut, walk.offset()))
    }

    /// A frame whose place and length are known; `None` if it is no longer one.
    fn read_again(&self, Range { at, end }: Range) -> io::Result<Option<Spooled>> {
        let file = self.disk.open(&segment::name(at.segment))?;
        let mut walk = Walk::new(file, at.offset);
        Ok(match walk.next(end.offset)? {
            Some(Cut::Frame { stuffed, .. }) if walk.offset() == end.offset => spooled(at, stuffed),
            _ => None,
        })
    }

    /// The far end has the frame: it is never sent again, and its segment goes with its last frame.
    pub fn ack(&self, position: Position) {
        let mut inner = self.lock();
        if let Some(pending) = inner.pending.remove(&position) {
            let frame = Amount::of_frame(pending.bytes as u64, pending.readings);
            inner.segments.acked(position, frame);
            inner.cadence.acked(frame.bytes);
            self.remove_done(&mut inner, position.segment);
        }
    }

    /// The frame was not acknowledged; it is the uplink's again from `retry_at` on.
    pub fn give_back(&self, position: Position, retry_at: Instant) {
        if let Some(pending) = self.lock().pending.get_mut(&position) {
            pending.retry_at = Some(retry_at);
        }
        self.frames.notify_one();
    }

    /// Everything that was being sent is to be sent again, at once.
    pub fn give_back_all(&self) {
        for pending in self.lock().pending.values_mut() {
            pending.retry_at.get_or_insert_with(Instant::now);
        }
        self.frames.notify_one();
    }

    /// When the first returned frame may be tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.lock().pending.values().filter_map(|pending| pending.retry_at).min()
    }

    fn remove_done(&self, inner: &mut Inner<D>, number: u64) {
        if inner.remove_done(&self.disk, number) {
            self.room.notify_one();
        }
    }
}

impl<D: Directory> Inner<D> {
    /// What was read; `Err(None)` if the place failed too often and `range` is set aside.
    fn result<T>(&mut self, range: Range, read: io::Result<T>) -> Result<T, Option<io::Error>> {
        let error = match read {
            Ok(read) => {
                self.read_failures.remove(&range.at);
                return Ok(read);
            }
            Err(error) => error,
        };
        let times = self.read_failures.entry(range.at).or_default();
        *times += 1;
        if *times < READ_FAILURES_MAX {
            return Err(Some(error));
        }
        self.read_failures.remove(&range.at);
        let Position { segment, offset } = range.at;
        tracing::error!(segment, offset, %error, "a part of the spool cannot be read; it stays for the next start");
        self.aside.push(range);
        Err(None)
    }

    fn step_over(&mut self, position: Position) {
        self.damaged_frames += 1;
        tracing::error!(
            segment = position.segment,
            offset = position.offset,
            "a spooled frame is damaged and is stepped over"
        );
    }
}

/// Checks the frame on a copy, because opening unstuffs in place and the stored bytes are what is sent.
fn spooled(position: Position, stuffed: Vec<u8>) -> Option<Spooled> {
    let mut copy = stuffed.clone();
    let body = copy.len().checked_sub(1)?;
    let frame = Frame::open(&mut copy[..body]).ok().filter(|frame| is_name(frame.gateway()))?;
    let identity = Identity {
        gateway: frame.gateway().to_owned(),
        boot: frame.boot(),
        seq: frame.seq(),
        sealed_ms: frame.sealed_ms(),
    };
    let readings = frame.readings();
    Some(Spooled { position, bytes: Bytes::from(stuffed), identity, readings })
}
