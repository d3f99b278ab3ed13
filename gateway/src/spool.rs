//! The spool: sealed frames on disk until the uplink has the cloud's word for them.
//!
//! Layout of the directory: segments `<number>.ingot` of frames as they are, written in order; `cursor`,
//! advice on what is acknowledged; `counts`, advice on what is in closed segments; `version`, the
//! format; `boot`, the count of runs; `lock`. Other files are left alone. A frame is written to the newest
//! segment; which one is sent next is said by module `owed`: in order, and while a backlog drains a share of
//! the link carries the newest. A segment's file goes when all its frames are acknowledged.
//!
//! Promises:
//! - A frame survives `kill -9` once [`Spool::append`] returns, and a power cut once the next
//!   [`Spool::sync`] returns (group fsync, `fsync_interval_ms`; 0 syncs in `append`).
//! - After a failed write or fsync the segment is not written again: its last whole frame ends it, and
//!   the next append opens a new one. What a failed fsync left unsure stays counted as in doubt.
//! - At `bytes_max` nothing is lost silently: either append refuses until acknowledgements make room, or
//!   the oldest segment of which nothing is in flight is condemned. The caller puts its readings' count into
//!   the next frame's header, and the segment goes only once that frame is on disk. A crash between the
//!   two leaves readings that were counted as dropped and are delivered all the same, never the reverse.
//! - A restart sends again what was acknowledged since the cursor was written: nothing after
//!   [`Spool::close`], at most 1 MiB or a minute after `kill -9`; under their old identities.
//! - No content of the directory stops the start: see module `recover`. Only a newer format is refused.
//! - One process at a time: a second one gets a clear error.
//!
//! With priority channels there are two of them; [`Classes`] is what the gateway uses.
//!
//! Limits: memory does not grow with the backlog, except about 200 bytes a segment.

mod append;
pub mod classes;
mod counts;
mod cursor;
pub mod directory;
mod disk;
mod oldest;
mod owed;
mod recover;
mod segment;
mod segments;
mod state;
mod sync;
mod take;
mod turn;
mod version;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub use append::{AppendError, Condemned};
pub use classes::{Classes, Place};
pub use recover::Recovered;
pub use segment::{FRAME_BYTES_MAX, Position};
pub use state::SpoolState;
pub use take::Spooled;
pub use turn::{Class, ORDINARY_SHARE_PERCENT};
pub(crate) use version::FORMAT;

use directory::{Directory, Files};
use disk::Disk;
use owed::{Owed, Range};
use segment::Amount;
use segments::Segments;
use take::Pending;
use walk::Walk;

/// What a former run left is sent in order with what comes, if it is less than some seconds of a slow link.
const IN_ORDER_AT_START_BYTES: u64 = 4 << 20;

/// What to do with a new frame when the spool is at its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Give up the oldest segment of which nothing is in flight, and count its readings.
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
    /// Part of the bytes sent that the newest frames get while a backlog drains, in percent; 0 keeps the
    /// order of appending.
    pub live_share_percent: u8,
    /// Frames that wait longer than this when sending goes on become backlog, in milliseconds.
    pub live_lag_ms_max: u64,
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
    /// A newer program wrote it.
    #[error(
        "the spool {} has format {format}, this program knows up to {}; its frames are safe: start the newer \
         ingot-gateway again and let it drain, or give this one a spool of its own (--spool DIR)",
        dir.display(), version::FORMAT
    )]
    Newer {
        /// The spool's directory.
        dir: PathBuf,
        /// What its `version` says.
        format: u64,
    },
    /// The directory cannot be made, read or written.
    #[error("the spool {} cannot be used: {source}; it must be a directory on a writable disk, and this user must be able to write there", dir.display())]
    Io {
        /// The spool's directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An open spool, shared by the batcher (append), the uplink (take, ack) and the syncer (sync).
pub struct Spool<D: Directory = Files> {
    config: SpoolConfig,
    disk: Disk<D>,
    inner: Mutex<Inner<D>>,
    /// A frame was appended or returned.
    frames: Notify,
    /// Acknowledgements made room.
    room: Notify,
}

struct Inner<D: Directory> {
    segments: Segments,
    /// The segment that is written to: always the last of `segments`.
    active: Option<Active<D::File>>,
    next_number: u64,
    /// Frames never taken, in the order of sending.
    owed: Owed,
    /// A lane's reader, with its segment's number.
    walks: [Option<(u64, Walk<D::File>)>; 2],
    /// Taken and not acknowledged.
    pending: BTreeMap<Position, Pending>,
    /// Places that could not be read, left for the next start.
    aside: Vec<Range>,
    /// How often a place failed.
    read_failures: BTreeMap<Position, u32>,
    cadence: cursor::Cadence,
    /// Lines in the file of counts.
    counts_lines: usize,
    /// An fsync failed that no call of `sync` has told of yet.
    doubted: bool,
    damaged_frames: u64,
    poisoned_segments: u64,
    lost: Amount,
    readings_appended: u64,
}

struct Active<F> {
    number: u64,
    file: Arc<F>,
}

impl Spool {
    /// Takes the lock and recovers what a former run left. Blocks: reads what module `recover` says.
    ///
    /// # Errors
    /// Another process holds the spool, a newer program wrote it, or its directory cannot be used.
    pub fn open(config: SpoolConfig) -> Result<(Self, Recovered), SpoolError> {
        let files = Files::open(&config.dir)?;
        Self::open_in(files, config)
    }
}

impl<D: Directory> Spool<D> {
    /// The same in any directory; the config's `dir` is only its name.
    ///
    /// # Errors
    /// A newer program wrote it, or its files cannot be listed.
    pub fn open_in(directory: D, config: SpoolConfig) -> Result<(Self, Recovered), SpoolError> {
        let disk = Disk::new(directory);
        version::check(&disk).map_err(|newer| newer.error(&config.dir))?;
        let io_error = |source| SpoolError::Io { dir: config.dir.clone(), source };
        let state = recover::recover(&disk).map_err(io_error)?;
        let lag_max = Duration::from_millis(config.live_lag_ms_max);
        let mut owed = Owed::new(state.owed, config.live_share_percent, lag_max);
        let now = Instant::now();
        if let Some(end) = state.segments.end() {
            owed.appended(end, now);
            if state.segments.sums().owed.bytes > IN_ORDER_AT_START_BYTES {
                owed.cut_at_start(end);
            }
        }
        let doubted = state.segments.sums().doubt.frames > 0 || !state.aside.is_empty();
        let inner = Inner {
            segments: state.segments,
            active: None,
            next_number: state.next_number,
            owed,
            walks: [None, None],
            pending: BTreeMap::new(),
            aside: state.aside,
            read_failures: BTreeMap::new(),
            cadence: cursor::Cadence::new(now),
            counts_lines: state.counts_lines,
            doubted,
            damaged_frames: 0,
            poisoned_segments: 0,
            lost: Amount::default(),
            readings_appended: 0,
        };
        let (frames, room) = (Notify::new(), Notify::new());
        Ok((Self { config, disk, inner: Mutex::new(inner), frames, room }, state.found))
    }

    /// The cap on its segments, in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.config.bytes_max
    }

    /// Waits until a frame is appended or returned; at most one waiter. May wake without cause.
    pub async fn frames_changed(&self) {
        self.frames.notified().await;
    }

    /// Waits until acknowledgements free a segment; at most one waiter. May wake without cause.
    pub async fn room_made(&self) {
        self.room.notified().await;
    }

    /// Syncs, writes the cursor, and removes the newest segment too if all of it is acknowledged.
    ///
    /// # Errors
    /// The last fsync failed; what was appended since the one before may not survive a power cut.
    pub fn close(&self) -> io::Result<()> {
        let synced = self.sync();
        let mut inner = self.lock();
        let newest = inner.active.take().map(|active| active.number);
        if let Some(end) = inner.segments.end() {
            let gone = inner.remove_done(&self.disk, end.segment);
            if !gone && newest == Some(end.segment) {
                self.note_counts(&mut inner, end.segment);
            }
        }
        self.save_cursor(&mut inner);
        synced
    }

    /// A panic while the lock was held cannot leave the counts worse than a crash would.
    fn lock(&self) -> MutexGuard<'_, Inner<D>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Directory> Inner<D> {
    fn is_active(&self, number: u64) -> bool {
        self.active.as_ref().is_some_and(|active| active.number == number)
    }
}
