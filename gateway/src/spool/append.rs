//! The spool's writing side: append, and what happens at the cap.

use std::io;
use std::time::Instant;

use ingot_agent::{Drop, Frame};

use super::directory::{Directory, DirectoryFile};
use super::disk::Disk;
use super::owed::Owed;
use super::segment::{self, Amount, FRAME_BYTES_MAX, Position};
use super::sync::cut_off;
use super::walk::{Cut, Walk};
use super::{Inner, Spool, WhenFull};
use crate::drops::Drops;

/// Why a frame was not appended; it may be tried again unchanged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The cap is reached and the policy is to refuse.
    #[error("the spool is full: {bytes} of {bytes_max} bytes; it waits for acknowledgements")]
    Full {
        /// Bytes held.
        bytes: u64,
        /// The cap.
        bytes_max: u64,
    },
    /// Longer than [`FRAME_BYTES_MAX`], or not ended by its only `0x00`.
    #[error("{bytes} bytes are not one frame of at most {FRAME_BYTES_MAX} bytes ended by 0x00")]
    NotAFrame {
        /// Its length.
        bytes: usize,
    },
    /// The disk refused; the segment is closed, the next try opens a new one.
    #[error("writing to the spool failed: {source}")]
    Write {
        /// What the system said.
        source: io::Error,
    },
}

/// What was given up to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condemned {
    /// Frames given up.
    pub frames: u64,
    /// Readings in them, to be counted as `Drop::SpoolFull` in the next frame.
    pub readings: u64,
    /// Of these readings, those of priority channels.
    pub priority_readings: u64,
    /// Drops that their headers would have reported, to be counted again in the next frame.
    pub reported: Drops,
}

impl Condemned {
    pub(super) fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.readings += other.readings;
        self.priority_readings += other.priority_readings;
        self.reported.add_all(other.reported);
    }
}

/// What a spool under the same cap holds (module `classes`); nothing for a spool alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    /// Bytes of its segments.
    pub bytes: u64,
    /// Its condemned segments wait for the next frame: that must be on disk when `append` returns.
    pub has_condemned: bool,
}

impl<D: Directory> Spool<D> {
    /// Makes room for a frame of `bytes` under the policy `drop_oldest`; nothing under `refuse`.
    ///
    /// The segments still exist: the next append removes them once its own frame is on disk, so seal
    /// that frame with these counts in its header.
    pub fn condemn_oldest(&self, bytes: u64) -> Condemned {
        self.condemn_beside(bytes, Beside::default(), false)
    }

    /// The same under a shared cap; with `newest_too` the segment that is written to may go as well.
    pub(super) fn condemn_beside(&self, bytes: u64, beside: Beside, newest_too: bool) -> Condemned {
        let mut condemned = Condemned::default();
        if self.config.when_full == WhenFull::Refuse {
            return condemned;
        }
        let mut inner = self.lock();
        while inner.segments.sums().bytes + beside.bytes + bytes > self.config.bytes_max {
            let Some((number, owed)) = inner.droppable(newest_too) else {
                break;
            };
            if inner.is_active(number)
                && let Err(error) = self.close_active(&mut inner)
            {
                tracing::warn!(%error, "fsync of a spool segment that has to go failed");
            }
            self.note_condemned(&mut condemned, &inner, number, owed);
            inner.segments.condemn(number);
        }
        condemned
    }

    /// Gives up the oldest segment at once, because the disk itself is full. `None`: nothing can go.
    ///
    /// The count reaches the cloud in the next frame that can be written.
    pub fn free_oldest(&self) -> Option<Condemned> {
        self.free(false)
    }

    /// The same for the segment that is written to: something else on the disk is worth more.
    pub(super) fn free_newest(&self) -> Option<Condemned> {
        self.free(true)
    }

    fn free(&self, newest_too: bool) -> Option<Condemned> {
        if self.config.when_full == WhenFull::Refuse {
            return None;
        }
        let mut inner = self.lock();
        let (number, owed) = inner.droppable(newest_too)?;
        inner.active.take_if(|active| active.number == number);
        let mut freed = Condemned::default();
        self.note_condemned(&mut freed, &inner, number, owed);
        inner.remove(&self.disk, number);
        Some(freed)
    }

    /// The segment is read once more: its headers hold counts that no later frame has.
    fn note_condemned(&self, condemned: &mut Condemned, inner: &Inner<D>, number: u64, owed: Amount) {
        condemned.frames += owed.frames;
        condemned.readings += owed.readings;
        let file = self.disk.open(&segment::name(number));
        let read = file.and_then(|file| {
            reported(
                file,
                number,
                inner.segments.get(number).map_or(0, |segment| segment.held.bytes),
                &inner.owed,
            )
        });
        match read {
            Ok(reported) => condemned.reported.add_all(reported),
            Err(error) => tracing::error!(
                segment = number, %error,
                "a spool segment that has to go cannot be read: drops that only its headers count are not reported"
            ),
        }
    }

    /// Appends a sealed frame (closing `0x00` included) of `readings` readings. Blocks on the disk.
    ///
    /// `over_cap` writes above `bytes_max`: at shutdown what is in memory has no better place.
    ///
    /// # Errors
    /// The cap is reached, or the disk refused; the spool is as it was and the frame can be retried.
    pub fn append(&self, frame: &[u8], readings: u32, over_cap: bool) -> Result<(), AppendError> {
        self.append_beside(frame, readings, over_cap, Beside::default())
    }

    /// The same under a shared cap.
    pub(super) fn append_beside(
        &self,
        frame: &[u8],
        readings: u32,
        over_cap: bool,
        beside: Beside,
    ) -> Result<(), AppendError> {
        let bytes = frame.len() as u64;
        let end = frame.iter().position(|byte| *byte == 0);
        if frame.len() < 2 || frame.len() > FRAME_BYTES_MAX || end.is_none_or(|end| end + 1 != frame.len()) {
            return Err(AppendError::NotAFrame { bytes: frame.len() });
        }
        let mut inner = self.lock();
        let (held, bytes_max) = (inner.segments.sums().bytes + beside.bytes, self.config.bytes_max);
        if !over_cap && held + bytes > bytes_max {
            return Err(AppendError::Full { bytes: held, bytes_max });
        }
        let has_condemned = beside.has_condemned || !inner.segments.condemned().is_empty();
        let sync_now = self.config.fsync_interval_ms == 0 || has_condemned;
        self.write(&mut inner, frame, readings, sync_now).map_err(|source| AppendError::Write { source })?;
        if let Some(end) = inner.segments.end() {
            inner.owed.appended(end, Instant::now());
        }
        inner.readings_appended += u64::from(readings);
        inner.remove_condemned(&self.disk);
        drop(inner);
        self.frames.notify_one();
        Ok(())
    }

    /// The count of what is condemned is on disk, in another spool's frame.
    pub(super) fn remove_condemned(&self) {
        self.lock().remove_condemned(&self.disk);
    }

    fn write(&self, inner: &mut Inner<D>, frame: &[u8], readings: u32, sync_now: bool) -> io::Result<()> {
        let file = self.active_file(inner)?;
        if let Err(error) = self.disk.append(&file, frame) {
            self.end_after_failed_write(inner);
            return Err(error);
        }
        let Some(Position { segment: number, .. }) = inner.segments.end() else {
            return Err(io::Error::other("the spool has no segment"));
        };
        let written = Amount::of_frame(frame.len() as u64, readings);
        let (held, synced) =
            inner.segments.get(number).map(|segment| (segment.held, segment.synced)).unwrap_or_default();
        if sync_now && let Err(error) = self.disk.sync(&file) {
            inner.give_up_writing(synced);
            // The frame is tried again elsewhere, so it must not be found here.
            cut_off(&*file, held.bytes);
            return Err(error);
        }
        inner.segments.change(number, |segment| {
            segment.held.add(written);
            if sync_now {
                segment.synced = segment.held;
                segment.acked_unsynced = Amount::default();
            }
        });
        Ok(())
    }
}

/// Drops that the headers of a segment's frames report, as far as the frames were never taken.
fn reported<F: DirectoryFile>(file: F, number: u64, end: u64, owed: &Owed) -> io::Result<Drops> {
    let mut walk = Walk::new(file, 0);
    let mut drops = Drops::default();
    while let Some(cut) = walk.next(end)? {
        let Cut::Frame { offset, mut stuffed } = cut else {
            if matches!(cut, Cut::Torn { .. }) {
                break;
            }
            continue;
        };
        stuffed.pop();
        if owed.holds(Position { segment: number, offset })
            && let Ok(frame) = Frame::open(&mut stuffed)
        {
            for cause in Drop::ALL {
                drops.add(cause, frame.dropped(cause));
            }
        }
    }
    Ok(drops)
}

impl<D: Directory> Inner<D> {
    fn remove_condemned(&mut self, disk: &Disk<D>) {
        while let Some(number) = self.segments.condemned().last().copied() {
            self.remove(disk, number);
        }
    }

    /// The oldest segment of which nothing is in flight: the far end may have that already. With what is
    /// still owed of it. The one that is written to only with `newest_too`.
    fn droppable(&self, newest_too: bool) -> Option<(u64, Amount)> {
        let mut in_flight = self.pending.keys().map(|position| position.segment).peekable();
        let mut segments = self.segments.iter().filter(|segment| !segment.condemned);
        let oldest = segments.find(|segment| {
            while in_flight.next_if(|number| *number < segment.number).is_some() {}
            (newest_too || !self.is_active(segment.number)) && in_flight.peek() != Some(&segment.number)
        })?;
        Some((oldest.number, oldest.owed()))
    }
}
