//! The spool: sealed frames on disk until the uplink has the cloud's word for them.
//!
//! Layout of the directory: segments `<number>.ingot` of frames as they are, written in order; `cursor`,
//! advice on what is acknowledged; `boot`, the count of runs; `lock`. A frame is written to the newest
//! segment and read from the oldest; a segment's file goes when all its frames are acknowledged.
//!
//! Promises:
//! - A frame survives `kill -9` once [`Spool::append`] returns, and a power cut once the next
//!   [`Spool::sync`] returns (group fsync, `fsync_interval_ms`; 0 syncs in `append`).
//! - After a failed write or fsync the segment is not written again: its last whole frame ends it, and
//!   the next append opens a new one.
//! - At `bytes_max` nothing is lost silently: either append refuses until acknowledgements make room, or
//!   the oldest segment of which nothing was sent is condemned. The caller puts its readings' count into
//!   the next frame's header, and the segment goes only once that frame is on disk. A crash between the
//!   two leaves readings that were counted as dropped and are delivered all the same, never the reverse.
//! - A restart sends again what was acknowledged behind an unacknowledged frame: fewer frames than the
//!   uplink's window, under their old identities.
//! - One process at a time: a second one gets a clear error.
//!
//! Limits: memory does not grow with the backlog, except about 100 bytes a segment.

mod append;
mod oldest;
mod recover;
mod segment;
mod take;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub use append::{AppendError, Condemned};
pub use recover::Recovered;
pub use segment::{FRAME_BYTES_MAX, Position};
pub use take::Spooled;

use segment::{Segment, Walk};
use take::Pending;

/// What to do with a new frame when the spool is at its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Give up the oldest segment of which nothing was sent, and count its readings.
    DropOldest,
    /// Make the sources wait.
    Refuse,
}

/// The spool's place and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The directory; made if it is missing.
    pub dir: PathBuf,
    /// Cap on all segments together, in bytes; at least four segments.
    pub bytes_max: u64,
    /// A segment that has reached this size is closed, in bytes.
    pub segment_bytes_max: u64,
    /// Longest time from append to fsync, in milliseconds; 0 syncs each frame before append returns.
    pub fsync_interval_ms: u64,
    /// The policy at `bytes_max`.
    pub when_full: WhenFull,
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process holds it.
    #[error("the spool {} is in use by another gateway; stop it, or give this one a spool of its own (--spool DIR)", dir.display())]
    Locked {
        /// The spool's directory.
        dir: PathBuf,
    },
    /// The directory cannot be made, read or repaired.
    #[error("the spool {} cannot be used: {source}", dir.display())]
    Io {
        /// The spool's directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is in the spool now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolState {
    /// Good frames not yet acknowledged.
    pub frames: u64,
    /// Readings in them.
    pub readings: u64,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Damaged frames stepped over while sending.
    pub damaged_frames: u64,
    /// Segments given up for writing after a failed write or fsync.
    pub poisoned_segments: u64,
}

/// An open spool, shared by the batcher (append), the uplink (take, ack) and the syncer (sync).
pub struct Spool {
    config: SpoolConfig,
    inner: Mutex<Inner>,
    /// A frame was appended or returned.
    frames: Notify,
    /// Acknowledgements made room.
    room: Notify,
    /// Held as long as the spool is open.
    _lock: File,
}

struct Inner {
    segments: VecDeque<Segment>,
    /// The segment that is written to: always the last of `segments`.
    active: Option<Active>,
    next_number: u64,
    /// The first frame never taken.
    head: Position,
    walk: Option<Walk>,
    /// Taken and not acknowledged.
    pending: BTreeMap<Position, Pending>,
    cursor_written: Option<Position>,
    damaged_frames: u64,
    poisoned_segments: u64,
}

struct Active {
    number: u64,
    file: Arc<File>,
    dirty: bool,
}

impl Spool {
    /// Takes the lock and recovers what a former run left. Blocks: reads the whole backlog once.
    ///
    /// # Errors
    /// Another process holds the spool, or its directory cannot be used.
    pub fn open(config: SpoolConfig) -> Result<(Self, Recovered), SpoolError> {
        let io_error = |source| SpoolError::Io { dir: config.dir.clone(), source };
        fs::create_dir_all(&config.dir).map_err(io_error)?;
        let lock = File::create(config.dir.join("lock")).map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SpoolError::Locked { dir: config.dir }),
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        }
        let state = recover::recover(&config.dir).map_err(io_error)?;
        let inner = Inner {
            segments: state.segments.into(),
            active: None,
            next_number: state.next_number,
            head: state.head,
            walk: None,
            pending: BTreeMap::new(),
            cursor_written: None,
            damaged_frames: 0,
            poisoned_segments: 0,
        };
        let spool = Self {
            config,
            inner: Mutex::new(inner),
            frames: Notify::new(),
            room: Notify::new(),
            _lock: lock,
        };
        Ok((spool, state.found))
    }

    /// Waits until a frame is appended or returned; at most one waiter. May wake without cause.
    pub async fn frames_changed(&self) {
        self.frames.notified().await;
    }

    /// Waits until acknowledgements free a segment; at most one waiter. May wake without cause.
    pub async fn room_made(&self) {
        self.room.notified().await;
    }

    /// What is in it now.
    pub fn state(&self) -> SpoolState {
        let inner = self.lock();
        let live = inner.segments.iter().filter(|segment| !segment.condemned);
        let mut state = SpoolState {
            bytes: inner.bytes(),
            damaged_frames: inner.damaged_frames,
            poisoned_segments: inner.poisoned_segments,
            ..SpoolState::default()
        };
        for segment in live {
            state.frames += segment.frames.saturating_sub(segment.acked_frames);
            state.readings += segment.readings.saturating_sub(segment.acked_readings);
        }
        state
    }

    /// Syncs, writes the cursor, and removes the newest segment too if all of it is acknowledged.
    ///
    /// # Errors
    /// The last fsync failed; what was appended since the one before may not survive a power cut.
    pub fn close(&self) -> io::Result<()> {
        let synced = self.sync();
        let mut inner = self.lock();
        inner.active = None;
        let last = inner.segments.back().map(|segment| segment.number);
        if let Some(last) = last
            && inner.pending.is_empty()
            && inner.head.segment == last
            && inner.segments.back().is_some_and(|segment| segment.bytes == inner.head.offset)
        {
            inner.head = Position { segment: last + 1, offset: 0 };
            inner.walk = None;
            inner.remove_done(&self.config.dir, last);
        }
        inner.save_cursor(&self.config.dir);
        synced
    }

    /// A panic while the lock was held cannot leave the counts worse than a crash would.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Bytes of all segment files, the condemned ones left out: they are as good as gone.
    fn bytes(&self) -> u64 {
        self.segments.iter().filter(|segment| !segment.condemned).map(|segment| segment.bytes).sum()
    }

    fn segment_mut(&mut self, number: u64) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|segment| segment.number == number)
    }

    fn is_active(&self, number: u64) -> bool {
        self.active.as_ref().is_some_and(|active| active.number == number)
    }

    /// Everything before it is acknowledged.
    fn cursor(&self) -> Position {
        self.pending.first_key_value().map_or(self.head, |(first, _)| (*first).min(self.head))
    }

    fn save_cursor(&mut self, dir: &Path) {
        let cursor = self.cursor();
        if self.cursor_written == Some(cursor) {
            return;
        }
        match recover::write_cursor(dir, cursor) {
            Ok(()) => self.cursor_written = Some(cursor),
            Err(error) => {
                tracing::warn!(%error, "the spool's cursor was not written; a restart may re-send frames")
            }
        }
    }

    /// Removes a segment that was read to its end and has nothing pending; `true` if it is gone.
    fn remove_done(&mut self, dir: &Path, number: u64) -> bool {
        let first = Position { segment: number, offset: 0 };
        let next = Position { segment: number + 1, offset: 0 };
        let done =
            self.head >= next && !self.is_active(number) && self.pending.range(first..next).next().is_none();
        if done {
            self.remove(dir, number);
        }
        done
    }

    fn remove(&mut self, dir: &Path, number: u64) {
        self.segments.retain(|segment| segment.number != number);
        if let Err(error) = fs::remove_file(segment::path(dir, number)) {
            tracing::warn!(segment = number, %error, "a finished spool segment could not be removed");
        }
    }
}
