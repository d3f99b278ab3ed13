//! The group fsync, and what a failing disk means.
//!
//! A failed fsync may have lost any page written since the last good one, and a later fsync says nothing
//! of them. So the segment is not written again, and its frames behind the last good fsync stay counted
//! as in doubt until they are acknowledged. They are sent all the same: mostly they are still there.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::directory::{Directory, DirectoryFile};
use super::disk::Disk;
use super::owed::{self, Range};
use super::segment::{self, Amount, Position, Segment};
use super::{Active, Inner, Spool, counts, cursor};

impl<D: Directory> Spool<D> {
    /// Puts everything appended so far on disk, and the cursor if it is worth it. Blocks; appends go on
    /// meanwhile.
    ///
    /// # Errors
    /// An fsync failed, now or since the last call: what was appended since the last good one is in doubt
    /// until it is acknowledged. It is still sent; writing goes on in a new segment.
    pub fn sync(&self) -> io::Result<()> {
        let (doubted, unsynced) = {
            let mut inner = self.lock();
            if inner.cadence.due(Instant::now()) {
                self.save_cursor(&mut inner);
            }
            (std::mem::take(&mut inner.doubted), inner.unsynced())
        };
        if let Some((file, segment)) = unsynced {
            let synced = self.disk.sync(&file);
            let mut inner = self.lock();
            match synced {
                Ok(()) => inner.segments.synced(segment.number, segment.held),
                Err(error) => {
                    if inner.is_active(segment.number) {
                        inner.active = None;
                    }
                    inner.poisoned_segments += 1;
                    inner.segments.doubt(segment.number, segment.synced);
                    return Err(error);
                }
            }
        }
        if doubted {
            return Err(io::Error::other("an fsync failed while frames were appended"));
        }
        Ok(())
    }

    /// The segment to write to: the open one, or a new one when that is full or was given up.
    pub(super) fn active_file(&self, inner: &mut Inner<D>) -> io::Result<Arc<D::File>> {
        if let (Some(active), Some(end)) = (&inner.active, inner.segments.end())
            && end.offset < self.config.segment_bytes_max
        {
            return Ok(Arc::clone(&active.file));
        }
        self.close_active(inner)?;
        loop {
            let number = inner.next_number;
            inner.next_number += 1;
            match self.disk.create(&segment::name(number)) {
                Ok(file) => {
                    let file = Arc::new(file);
                    inner.segments.push(Segment::empty(number));
                    inner.active = Some(Active { number, file: Arc::clone(&file) });
                    return Ok(file);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the segment that is written to. Only the newest one may be unsynced.
    pub(super) fn close_active(&self, inner: &mut Inner<D>) -> io::Result<()> {
        if let Some((file, segment)) = inner.unsynced() {
            if let Err(error) = self.disk.sync(&file) {
                inner.give_up_writing(segment.synced);
                return Err(error);
            }
            inner.segments.synced(segment.number, segment.held);
        }
        if let Some(full) = inner.active.take() {
            self.note_counts(inner, full.number);
        }
        Ok(())
    }

    /// A write failed: the segment ends at its last whole frame. What cannot be cut off now is cut off at
    /// the next start.
    pub(super) fn end_after_failed_write(&self, inner: &mut Inner<D>) {
        let Some(Active { number, file }) = inner.active.take() else {
            return;
        };
        inner.poisoned_segments += 1;
        let (held, synced) =
            inner.segments.get(number).map(|segment| (segment.held, segment.synced)).unwrap_or_default();
        inner.segments.change(number, |segment| segment.poisoned = true);
        if held.bytes == 0 {
            inner.remove(&self.disk, number);
            return;
        }
        cut_off(&*file, held.bytes);
        if synced == held {
            return;
        }
        match self.disk.sync(&file) {
            Ok(()) => inner.segments.synced(number, held),
            Err(_) => {
                inner.segments.doubt(number, synced);
                inner.doubted = true;
            }
        }
    }

    /// Writes the cursor. In it is also what is in flight, and what is condemned: its count is not on disk
    /// before its file is gone.
    pub(super) fn save_cursor(&self, inner: &mut Inner<D>) {
        let in_flight = inner.pending.iter().map(|(at, pending)| pending.range(*at));
        let condemned = inner.segments.condemned().iter();
        let condemned = condemned
            .map(|number| Range { at: Position::start_of(*number), end: Position::start_of(number + 1) });
        let aside = inner.aside.iter().copied();
        let ranges = inner.owed.ranges().chain(in_flight).chain(condemned).chain(aside).collect();
        inner.cadence = cursor::Cadence::new(Instant::now());
        if let Err(error) = cursor::write(&self.disk, &owed::joined(ranges)) {
            tracing::warn!(%error, "the spool's cursor was not written; a restart may re-send frames");
        }
    }

    /// Notes a closed segment, if all of it is on disk.
    pub(super) fn note_counts(&self, inner: &mut Inner<D>, number: u64) {
        let Inner { segments, counts_lines, .. } = inner;
        if let Some(closed) =
            segments.get(number).filter(|closed| !closed.poisoned && closed.synced == closed.held)
            && let Err(error) = counts::note(&self.disk, segments, closed, counts_lines)
        {
            tracing::warn!(segment = number, %error, "a segment's counts were not noted; the next start reads it");
        }
    }
}

impl<D: Directory> Inner<D> {
    /// The active segment's file and counts, if something in it is not on disk.
    fn unsynced(&self) -> Option<(Arc<D::File>, Segment)> {
        let active = self.active.as_ref()?;
        let segment = self.segments.get(active.number)?;
        (segment.synced.bytes < segment.held.bytes).then(|| (Arc::clone(&active.file), segment.clone()))
    }

    /// An fsync of the active segment failed under the lock; `synced` is what an earlier one covered.
    pub(super) fn give_up_writing(&mut self, synced: Amount) {
        if let Some(Active { number, .. }) = self.active.take() {
            self.poisoned_segments += 1;
            self.segments.doubt(number, synced);
            self.doubted = true;
        }
    }

    /// Removes a segment of which nothing is to be sent and nothing in flight; `true` if it is gone.
    pub(super) fn remove_done(&mut self, disk: &Disk<D>, number: u64) -> bool {
        let Some(bytes) = self.segments.get(number).map(|segment| segment.held.bytes) else {
            return false;
        };
        let (start, next) = (Position::start_of(number), Position::start_of(number + 1));
        let aside = |range: &Range| range.at < next && range.end > start;
        let done = !self.is_active(number)
            && !self.owed.touches(number, bytes)
            && self.pending.range(start..next).next().is_none()
            && !self.aside.iter().any(aside);
        if done && let Some(removed) = self.remove(disk, number) {
            // Taken, and neither sent nor returned: damaged since it was counted.
            self.lost.add(removed.owed());
        }
        done
    }

    pub(super) fn remove(&mut self, disk: &Disk<D>, number: u64) -> Option<Segment> {
        for walk in &mut self.walks {
            walk.take_if(|(walked, _)| *walked == number);
        }
        if let Err(error) = disk.remove(&segment::name(number)) {
            tracing::warn!(segment = number, %error, "a finished spool segment could not be removed");
        }
        self.segments.remove(number)
    }
}

/// Cuts a failed write off, so that nobody finds it; if that fails too, the next start does it.
pub(super) fn cut_off(file: &impl DirectoryFile, bytes: u64) {
    if let Err(error) = file.truncate(bytes) {
        tracing::warn!(%error, "the remains of a failed write stay in the spool until the next start");
    }
}
