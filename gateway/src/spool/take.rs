//! The spool's reading side: the uplink takes frames, and acknowledges or returns each.

use std::io;
use std::time::Instant;

use bytes::Bytes;
use ingot_agent::Frame;

use super::segment::{self, Cut, Position, Walk};
use super::{Inner, Spool};
use crate::key::{Identity, is_name};

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

impl Spool {
    /// The next frame to send: a returned one whose time has come, else the oldest never taken. Blocks.
    ///
    /// Takes none beyond `pending_max` frames that are neither acknowledged nor dropped: frames that
    /// the far end keeps refusing cannot push the rest of the backlog into memory.
    ///
    /// # Errors
    /// A segment cannot be read; the same frame is next again.
    pub fn take(&self, now: Instant, pending_max: usize) -> io::Result<Option<Spooled>> {
        let mut inner = self.lock();
        let due = inner.pending.iter().find(|(_, pending)| pending.retry_at.is_some_and(|at| at <= now));
        if let Some((position, pending)) = due {
            let position = *position;
            let stuffed = segment::read_at(&self.config.dir, position, pending.bytes)?;
            if let Some(spooled) = spooled(position, stuffed) {
                if let Some(pending) = inner.pending.get_mut(&position) {
                    pending.retry_at = None;
                }
                return Ok(Some(spooled));
            }
            inner.step_over(position);
            inner.finish(position);
        }
        if inner.pending.len() >= pending_max {
            return Ok(None);
        }
        self.take_fresh(&mut inner)
    }

    fn take_fresh(&self, inner: &mut Inner) -> io::Result<Option<Spooled>> {
        loop {
            let head = inner.head.segment;
            let Some(segment) =
                inner.segments.iter().find(|segment| segment.number >= head && !segment.condemned)
            else {
                return Ok(None);
            };
            let (number, end) = (segment.number, segment.bytes);
            if number != head {
                inner.head = Position { segment: number, offset: 0 };
                inner.walk = None;
            }
            let offset = inner.head.offset;
            let walk = match &mut inner.walk {
                Some(walk) => walk,
                None => inner.walk.insert(Walk::open(&segment::path(&self.config.dir, number), offset)?),
            };
            let cut = walk.next(end)?;
            inner.head.offset = walk.offset();
            match cut {
                Some(Cut::Frame { offset, stuffed }) => {
                    let position = Position { segment: number, offset };
                    let bytes = stuffed.len();
                    if let Some(spooled) = spooled(position, stuffed) {
                        let readings = spooled.readings;
                        inner.pending.insert(position, Pending { bytes, readings, retry_at: None });
                        return Ok(Some(spooled));
                    }
                    inner.step_over(position);
                }
                Some(Cut::TooLong { offset }) => inner.step_over(Position { segment: number, offset }),
                None if inner.is_active(number) => return Ok(None),
                Some(Cut::Torn { .. }) | None => {
                    inner.head = Position { segment: number + 1, offset: 0 };
                    inner.walk = None;
                    if inner.remove_done(&self.config.dir, number) {
                        self.room.notify_one();
                    }
                }
            }
        }
    }

    /// The far end has the frame: it is never sent again, and its segment goes with its last frame.
    pub fn ack(&self, position: Position) {
        let mut inner = self.lock();
        inner.finish(position);
        if inner.remove_done(&self.config.dir, position.segment) {
            self.room.notify_one();
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
}

impl Inner {
    fn finish(&mut self, position: Position) {
        let Some(pending) = self.pending.remove(&position) else {
            return;
        };
        if let Some(segment) = self.segment_mut(position.segment) {
            segment.acked_frames += 1;
            segment.acked_readings += u64::from(pending.readings);
        }
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
