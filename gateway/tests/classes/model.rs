//! A batcher and an uplink over the two spools, that know what they did.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use ingot_agent::{Batch, Drop, Frame, Quality, Reading};
use ingot_gateway::spool::{AppendError, Class, Classes, Condemned, Place, SpoolConfig, WhenFull};
use tempfile::TempDir;

pub const BYTES_MAX: u64 = 32_768;

pub fn config(dir: &Path, when_full: WhenFull) -> SpoolConfig {
    SpoolConfig {
        dir: dir.into(),
        bytes_max: BYTES_MAX,
        segment_bytes_max: 4_096,
        fsync_interval_ms: 1_000,
        when_full,
        live_share_percent: 20,
        live_lag_ms_max: 30_000,
    }
}

/// A directory in memory where that is possible: the runs sync to disk thousands of times.
pub fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A frame's boot and seq.
type Identity = (u64, u64);

/// What a frame's header says.
#[derive(Clone, Copy)]
pub struct Header {
    pub readings: u64,
    /// Readings that made room for it.
    pub dropped: u64,
}

pub struct Model {
    dir: TempDir,
    when_full: WhenFull,
    classes: Option<Classes>,
    /// The open batch of each class, a run of its own.
    batches: [Box<Batch<4, 4, 65_536>>; 2],
    /// The frame that the spool does not take yet: the batcher waits with it.
    waiting: Option<(Class, Vec<u8>)>,
    in_flight: Vec<(Place, Identity)>,
    /// In flight, or returned and not acknowledged since: the far end may have them.
    unacked: HashSet<Place>,
    /// Frames that the spool took.
    pub stored: BTreeMap<Identity, Header>,
    /// How often each frame was acknowledged.
    pub acked: BTreeMap<Identity, u32>,
    /// Readings of priority frames that were given up.
    pub priority_dropped: u64,
}

impl Model {
    pub fn new(when_full: WhenFull) -> Self {
        let mut model = Self {
            dir: directory(),
            when_full,
            classes: None,
            batches: [1, 2].map(|boot| Box::new(Batch::new("gw", boot).unwrap())),
            waiting: None,
            in_flight: Vec::new(),
            unacked: HashSet::new(),
            stored: BTreeMap::new(),
            acked: BTreeMap::new(),
            priority_dropped: 0,
        };
        model.open();
        model
    }

    fn open(&mut self) {
        self.classes = Some(Classes::open(config(self.dir.path(), self.when_full), true).unwrap().0);
    }

    pub fn classes(&self) -> &Classes {
        self.classes.as_ref().unwrap()
    }

    pub fn ordinary_bytes(&self) -> u64 {
        self.classes().state().bytes - self.classes().priority_state().unwrap().bytes
    }

    /// Seals and appends as the batcher does; first what waits. `false`: a frame waits.
    pub fn append(&mut self, class: Class, readings: u32) -> bool {
        if !self.store_waiting(false) {
            return false;
        }
        let batch = &mut self.batches[class as usize];
        let device = batch.device("d", 1).unwrap();
        let series = batch.series(device, "c").unwrap();
        for seq in 0..readings {
            let value = f64::from(fastrand::u32(..));
            let reading = Reading { seq: seq.into(), at_ms: 0, value, quality: Quality::GOOD };
            batch.push(series, &reading).unwrap();
        }
        let bytes = batch.bytes() as u64;
        let condemned = self.classes().condemn_oldest(bytes);
        self.judge(&condemned);
        let batch = &mut self.batches[class as usize];
        batch.count_drop(Drop::SpoolFull, condemned.readings);
        for cause in Drop::ALL {
            batch.count_drop(cause, condemned.reported.get(cause));
        }
        let mut frame = Vec::new();
        batch.seal(0, 0, |piece| frame.extend_from_slice(piece));
        self.waiting = Some((class, frame));
        self.store_waiting(false)
    }

    /// Priority frames go only when nothing ordinary is left but segments of which the far end may have something.
    fn judge(&mut self, condemned: &Condemned) {
        self.priority_dropped += condemned.priority_readings;
        if condemned.priority_readings > 0 {
            let ordinary = self.unacked.iter().filter(|place| place.class == Class::Ordinary);
            let pinned: HashSet<_> = ordinary.map(|place| place.position.segment).collect();
            let (bytes, segments) = (self.ordinary_bytes(), pinned.len() as u64);
            // A segment is longer than its limit by a part of the frame that filled it.
            assert!(
                bytes <= segments * 6_000,
                "{bytes} ordinary bytes, and {segments} segments not acknowledged"
            );
        }
    }

    fn store_waiting(&mut self, over_cap: bool) -> bool {
        let Some((class, bytes)) = &self.waiting else { return true };
        let (identity, header) = read(bytes);
        match self.classes().append(*class, bytes, header.readings as u32, over_cap) {
            Ok(()) => {
                assert!(over_cap || self.classes().state().bytes <= BYTES_MAX);
                self.stored.insert(identity, header);
                self.waiting = None;
                true
            }
            Err(AppendError::Full { .. }) => false,
            Err(other) => panic!("{other}"),
        }
    }

    /// Takes a frame as the uplink does; of which class it is.
    pub fn take(&mut self) -> Option<Class> {
        let (place, frame) = self.classes().take(Instant::now(), 8).unwrap()?;
        let identity = (frame.identity.boot, frame.identity.seq);
        assert!(self.in_flight.iter().all(|(other, _)| *other != place), "{place:?} is in flight already");
        self.in_flight.push((place, identity));
        self.unacked.insert(place);
        Some(place.class)
    }

    pub fn ack(&mut self, index: usize) {
        if !self.in_flight.is_empty() {
            let (place, identity) = self.in_flight.remove(index % self.in_flight.len());
            self.classes().ack(place);
            self.unacked.remove(&place);
            *self.acked.entry(identity).or_default() += 1;
        }
    }

    /// Refused, and to be tried again at once.
    pub fn refuse(&mut self, index: usize) {
        if !self.in_flight.is_empty() {
            let (place, _) = self.in_flight.remove(index % self.in_flight.len());
            self.classes().give_back(place, Instant::now());
        }
    }

    /// The connection is lost.
    pub fn give_back_all(&mut self) {
        self.classes().give_back_all();
        self.in_flight.clear();
    }

    /// A new run, after an end in order or after `kill -9`, which costs what is in memory.
    pub fn restart(&mut self, in_order: bool) {
        if in_order {
            self.store_waiting(true);
            self.classes().close().unwrap();
        }
        self.waiting = None;
        self.in_flight.clear();
        self.unacked.clear();
        self.classes = None;
        self.open();
    }

    /// Stores what waits and sends everything.
    pub fn drain(&mut self) {
        self.give_back_all();
        self.store_waiting(true);
        while self.take().is_some() {
            self.ack(0);
        }
        let wait = self.classes().retry_at().map(|at| at.saturating_duration_since(Instant::now()));
        assert!(wait.is_none_or(|wait| wait < Duration::from_secs(1)));
        assert_eq!(self.classes().state().frames, 0);
        self.classes().close().unwrap();
        assert_eq!(self.classes().state().bytes, 0);
    }

    /// Readings stored, readings of frames that arrived, and drops that those report.
    pub fn balance(&self) -> (u64, u64, u64) {
        let arrived = || self.acked.keys().map(|identity| self.stored[identity]);
        (
            self.stored.values().map(|header| header.readings).sum(),
            arrived().map(|header| header.readings).sum(),
            arrived().map(|header| header.dropped).sum(),
        )
    }
}

fn read(bytes: &[u8]) -> (Identity, Header) {
    let mut bytes = bytes[..bytes.len() - 1].to_vec();
    let frame = Frame::open(&mut bytes).unwrap();
    let header = Header { readings: frame.readings().into(), dropped: frame.dropped(Drop::SpoolFull) };
    ((frame.boot(), frame.seq()), header)
}
