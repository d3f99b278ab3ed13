//! The spool as the rest of the gateway sees it: one log of frames, or two under one cap when some channels
//! have priority.
//!
//! Priority frames lie in a spool of their own, in [`DIR`] below the other one's directory, which is as it
//! always was. They are sent first (module `turn` says what is left to the others), and at `bytes_max`, which
//! both share, every ordinary segment of which nothing is in flight goes before the first priority one; so
//! too when the disk itself is full. A segment that has to go is counted by the next frame, of either class,
//! and is gone once that frame is on disk.
//!
//! The second spool is there when the settings name priority channels, or when a former run left frames in
//! it. Else there is one spool, and nothing here costs anything.
//!
//! Limits: one thread appends. Frames taken and not acknowledged are bounded for each class by itself, so
//! that refused frames of one do not hold up the other.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::append::{AppendError, Beside, Condemned};
use super::segment::{self, Position};
use super::take::Spooled;
use super::turn::{Class, Turn};
use super::{Recovered, Spool, SpoolConfig, SpoolError, SpoolState};

/// The directory of priority frames in the spool's.
pub const DIR: &str = "priority";

/// The cap is at least this many segments: two are written to and two more are in flight.
const SEGMENTS_MIN: u64 = 8;

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// In which of the two spools.
    pub class: Class,
    /// Where in it.
    pub position: Position,
}

/// See the module.
pub struct Classes {
    ordinary: Spool,
    priority: Option<Priority>,
}

struct Priority {
    spool: Spool,
    turn: Mutex<Turn>,
}

impl From<Spool> for Classes {
    /// One spool, for frames of both classes.
    fn from(ordinary: Spool) -> Self {
        Self { ordinary, priority: None }
    }
}

impl Classes {
    /// Takes the locks and recovers what former runs left. Without `has_priority` the second spool is opened
    /// only if frames are in it. Blocks, as [`Spool::open`].
    ///
    /// # Errors
    /// Another process holds a spool, a newer program wrote it, or a directory cannot be used.
    pub fn open(mut config: SpoolConfig, has_priority: bool) -> Result<(Self, Recovered), SpoolError> {
        let dir = config.dir.join(DIR);
        if !has_priority && !segment::any_in(&dir) {
            let (spool, recovered) = Spool::open(config)?;
            return Ok((spool.into(), recovered));
        }
        config.segment_bytes_max = config.segment_bytes_max.min(config.bytes_max / SEGMENTS_MIN);
        let (ordinary, mut recovered) = Spool::open(config.clone())?;
        let (spool, more) = Spool::open(SpoolConfig { dir, ..config })?;
        recovered.add(more);
        let priority = Some(Priority { spool, turn: Mutex::default() });
        Ok((Self { ordinary, priority }, recovered))
    }

    fn spools(&self) -> impl Iterator<Item = &Spool> {
        self.priority().into_iter().chain([&self.ordinary])
    }

    fn priority(&self) -> Option<&Spool> {
        self.priority.as_ref().map(|priority| &priority.spool)
    }

    /// The class's spool, and the other one if there are two.
    fn of(&self, class: Class) -> (&Spool, Option<&Spool>) {
        match (self.priority(), class) {
            (Some(priority), Class::Priority) => (priority, Some(&self.ordinary)),
            (priority, _) => (&self.ordinary, priority),
        }
    }

    /// The cap on the segments of both, in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.ordinary.bytes_max()
    }

    /// Makes room for a frame of `bytes` under the policy `drop_oldest`, as [`Spool::condemn_oldest`].
    pub fn condemn_oldest(&self, bytes: u64) -> Condemned {
        let Some(priority) = self.priority() else {
            return self.ordinary.condemn_oldest(bytes);
        };
        let mut condemned = self.ordinary.condemn_beside(bytes, priority.beside(), false);
        condemned.add(self.ordinary.condemn_beside(bytes, priority.beside(), true));
        let last = priority.condemn_beside(bytes, self.ordinary.beside(), false);
        condemned.add(Condemned { priority_readings: last.readings, ..last });
        condemned
    }

    /// Gives up the oldest segment at once, because the disk itself is full, as [`Spool::free_oldest`].
    pub fn free_oldest(&self) -> Option<Condemned> {
        let Some(priority) = self.priority() else {
            return self.ordinary.free_oldest();
        };
        let freed = self.ordinary.free_oldest().or_else(|| self.ordinary.free_newest());
        freed.or_else(|| {
            let last = priority.free_oldest()?;
            Some(Condemned { priority_readings: last.readings, ..last })
        })
    }

    /// Appends a sealed frame to its class, as [`Spool::append`].
    ///
    /// # Errors
    /// The cap is reached, or the disk refused; the spools are as they were and the frame can be retried.
    pub fn append(
        &self,
        class: Class,
        frame: &[u8],
        readings: u32,
        over_cap: bool,
    ) -> Result<(), AppendError> {
        let (spool, other) = self.of(class);
        let Some(other) = other else {
            return spool.append(frame, readings, over_cap);
        };
        spool.append_beside(frame, readings, over_cap, other.beside())?;
        // The frame is on disk, and with it the count of what these held.
        other.remove_condemned();
        Ok(())
    }

    /// The next frame to send, as [`Spool::take`]; `pending_max` holds for each class.
    ///
    /// # Errors
    /// A segment cannot be read; the same frame is next again.
    pub fn take(&self, now: Instant, pending_max: usize) -> io::Result<Option<(Place, Spooled)>> {
        let Some(Priority { turn, .. }) = &self.priority else {
            let taken = self.ordinary.take(now, pending_max)?;
            return Ok(taken.map(|frame| (frame.place(Class::Ordinary), frame)));
        };
        let mut turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        for class in turn.order() {
            if let Some(frame) = self.of(class).0.take(now, pending_max)? {
                turn.carried(class, frame.bytes.len());
                return Ok(Some((frame.place(class), frame)));
            }
        }
        Ok(None)
    }

    /// The far end has the frame, as [`Spool::ack`].
    pub fn ack(&self, place: Place) {
        self.of(place.class).0.ack(place.position);
    }

    /// The frame was not acknowledged, as [`Spool::give_back`].
    pub fn give_back(&self, place: Place, retry_at: Instant) {
        self.of(place.class).0.give_back(place.position, retry_at);
    }

    /// Everything that was being sent is to be sent again, at once.
    pub fn give_back_all(&self) {
        self.spools().for_each(Spool::give_back_all);
    }

    /// When the first returned frame may be tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.spools().filter_map(Spool::retry_at).min()
    }

    /// Waits until a frame is appended or returned; at most one waiter. May wake without cause.
    pub async fn frames_changed(&self) {
        match self.priority() {
            None => self.ordinary.frames_changed().await,
            Some(priority) => tokio::select! {
                () = priority.frames_changed() => {}
                () = self.ordinary.frames_changed() => {}
            },
        }
    }

    /// Waits until acknowledgements free a segment; at most one waiter. May wake without cause.
    pub async fn room_made(&self) {
        match self.priority() {
            None => self.ordinary.room_made().await,
            Some(priority) => tokio::select! {
                () = priority.room_made() => {}
                () = self.ordinary.room_made() => {}
            },
        }
    }

    /// Puts everything appended so far on disk, as [`Spool::sync`]. Both are tried.
    ///
    /// # Errors
    /// An fsync of one of them failed; what it covers is in doubt.
    pub fn sync(&self) -> io::Result<()> {
        self.spools().map(Spool::sync).fold(Ok(()), Result::and)
    }

    /// Syncs both and leaves them for the next run, as [`Spool::close`].
    ///
    /// # Errors
    /// The last fsync of one of them failed.
    pub fn close(&self) -> io::Result<()> {
        self.spools().map(Spool::close).fold(Ok(()), Result::and)
    }

    /// What is in both together now.
    pub fn state(&self) -> SpoolState {
        let mut state = self.ordinary.state();
        if let Some(priority) = self.priority_state() {
            state.add(priority);
        }
        state
    }

    /// What is in the priority spool now, if there is one.
    pub fn priority_state(&self) -> Option<SpoolState> {
        self.priority().map(Spool::state)
    }

    /// When the oldest unacknowledged frame of both was sealed, as [`Spool::oldest_sealed_ms`].
    ///
    /// # Errors
    /// A segment cannot be read; one that was just removed reads as not found.
    pub fn oldest_sealed_ms(&self) -> io::Result<Option<i64>> {
        let mut oldest = None;
        for spool in self.spools() {
            oldest = oldest.into_iter().chain(spool.oldest_sealed_ms()?).min();
        }
        Ok(oldest)
    }
}

impl Spool {
    /// What a spool under the same cap has to know of this one.
    fn beside(&self) -> Beside {
        let inner = self.lock();
        Beside { bytes: inner.segments.sums().bytes, has_condemned: !inner.segments.condemned().is_empty() }
    }
}

impl Spooled {
    fn place(&self, class: Class) -> Place {
        Place { class, position: self.position }
    }
}
