//! The spool's writing side: append, group fsync, and what happens at the cap or on a failing disk.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use super::segment::{self, FRAME_BYTES_MAX, Segment};
use super::{Active, Inner, Spool, WhenFull};

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
}

impl Spool {
    /// Makes room for a frame of `bytes` under the policy `drop_oldest`; nothing under `refuse`.
    ///
    /// The segments still exist: the next append removes them once its own frame is on disk, so seal
    /// that frame with these counts in its header.
    pub fn condemn_oldest(&self, bytes: u64) -> Condemned {
        let mut condemned = Condemned::default();
        if self.config.when_full == WhenFull::Refuse {
            return condemned;
        }
        let mut inner = self.lock();
        while inner.bytes() + bytes > self.config.bytes_max {
            let head = inner.head.segment;
            let Some(oldest) = inner.droppable(head) else {
                break;
            };
            oldest.condemned = true;
            condemned.frames += oldest.frames;
            condemned.readings += oldest.readings;
        }
        condemned
    }

    /// Gives up the oldest segment at once, because the disk itself is full. `None`: nothing can go.
    ///
    /// The count reaches the cloud in the next frame that can be written.
    pub fn free_oldest(&self) -> Option<Condemned> {
        if self.config.when_full == WhenFull::Refuse {
            return None;
        }
        let mut inner = self.lock();
        let head = inner.head.segment;
        let oldest = inner.droppable(head)?;
        let condemned = Condemned { frames: oldest.frames, readings: oldest.readings };
        let number = oldest.number;
        inner.remove(&self.config.dir, number);
        Some(condemned)
    }

    /// Appends a sealed frame (closing `0x00` included) of `readings` readings. Blocks on the disk.
    ///
    /// `over_cap` writes above `bytes_max`: at shutdown what is in memory has no better place.
    ///
    /// # Errors
    /// The cap is reached, or the disk refused; the spool is as it was and the frame can be retried.
    pub fn append(&self, frame: &[u8], readings: u32, over_cap: bool) -> Result<(), AppendError> {
        let bytes = frame.len() as u64;
        let end = frame.iter().position(|byte| *byte == 0);
        if frame.len() > FRAME_BYTES_MAX || end.is_none_or(|end| end + 1 != frame.len()) {
            return Err(AppendError::NotAFrame { bytes: frame.len() });
        }
        let mut inner = self.lock();
        let (held, bytes_max) = (inner.bytes(), self.config.bytes_max);
        if !over_cap && held + bytes > bytes_max {
            return Err(AppendError::Full { bytes: held, bytes_max });
        }
        let condemned: Vec<u64> =
            inner.segments.iter().filter(|segment| segment.condemned).map(|segment| segment.number).collect();
        let sync_now = self.config.fsync_interval_ms == 0 || !condemned.is_empty();

        let file = self.active_file(&mut inner).map_err(|source| AppendError::Write { source })?;
        let mut write = (&*file).write_all(frame);
        if write.is_ok() && sync_now {
            write = file.sync_data();
        }
        if let Err(source) = write {
            self.poison(&mut inner);
            return Err(AppendError::Write { source });
        }
        if let Some(active) = &mut inner.active {
            active.dirty = !sync_now;
        }
        if let Some(segment) = inner.segments.back_mut() {
            segment.bytes += bytes;
            segment.frames += 1;
            segment.readings += u64::from(readings);
        }
        for number in condemned {
            inner.remove(&self.config.dir, number);
        }
        drop(inner);
        self.frames.notify_one();
        Ok(())
    }

    /// Puts everything appended so far on disk and notes the cursor. Blocks; appends go on meanwhile.
    ///
    /// # Errors
    /// The fsync failed: what was appended since the last one is in doubt until it is acknowledged. It
    /// is still sent; writing goes on in a new segment.
    pub fn sync(&self) -> io::Result<()> {
        let dirty = {
            let mut inner = self.lock();
            inner.save_cursor(&self.config.dir);
            inner.active.as_mut().and_then(|active| {
                std::mem::take(&mut active.dirty).then(|| (active.number, Arc::clone(&active.file)))
            })
        };
        let Some((number, file)) = dirty else {
            return Ok(());
        };
        file.sync_data().inspect_err(|_| {
            let mut inner = self.lock();
            if inner.is_active(number) {
                inner.active = None;
            }
            inner.poisoned_segments += 1;
        })
    }

    /// The segment to write to: the open one, or a new one when that is full or was given up.
    fn active_file(&self, inner: &mut Inner) -> io::Result<Arc<File>> {
        if let (Some(active), Some(segment)) = (&inner.active, inner.segments.back())
            && segment.bytes < self.config.segment_bytes_max
        {
            return Ok(Arc::clone(&active.file));
        }
        // Only the newest segment may be unsynced.
        if let Some(full) = inner.active.take()
            && full.dirty
            && let Err(source) = full.file.sync_data()
        {
            inner.poisoned_segments += 1;
            return Err(source);
        }
        let number = inner.next_number;
        let file = File::create_new(segment::path(&self.config.dir, number))?;
        inner.next_number += 1;
        File::open(&self.config.dir)?.sync_all()?;
        let file = Arc::new(file);
        inner.segments.push_back(Segment::empty(number));
        inner.active = Some(Active { number, file: Arc::clone(&file), dirty: false });
        Ok(file)
    }

    /// Ends the segment at its last whole frame. If the rest cannot be cut off now, recovery does it.
    fn poison(&self, inner: &mut Inner) {
        inner.poisoned_segments += 1;
        let Some(Active { number, file, .. }) = inner.active.take() else {
            return;
        };
        let good = inner.segment_mut(number).map_or(0, |segment| segment.bytes);
        if good == 0 {
            inner.remove(&self.config.dir, number);
        } else if let Err(error) = file.set_len(good) {
            tracing::warn!(segment = number, %error, "the remains of a failed write stay until the next start");
        }
    }
}

impl Inner {
    /// The oldest closed segment of which nothing was ever taken.
    fn droppable(&mut self, head: u64) -> Option<&mut Segment> {
        let active = self.active.as_ref().map(|active| active.number);
        self.segments
            .iter_mut()
            .find(|segment| segment.number > head && Some(segment.number) != active && !segment.condemned)
    }
}
