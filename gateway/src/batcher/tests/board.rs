//! A board in a simulated world: its clocks, its disk, the gateway's batcher on it, and what is true.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use ingot_agent::{Decoder, Frame, Quality, Reading};
use tempfile::TempDir;
use tokio::sync::watch;

use super::super::{Batcher, Undated};
use crate::clock::judge::{FLOOR_MS, FOLLOW_MS_MIN};
use crate::clock::{Clock, ClockConfig, Look, next_boot};
use crate::config::BatchConfig;
use crate::phase::Phase;
use crate::range::{DEFAULT_CONTRACT, OutOfRange, RangeTable};
use crate::source::{Chunk, Sample, Stamp};
use crate::spool::{Class, Classes, SpoolConfig, WhenFull};

pub(super) const DAY_MS: i64 = 86_400_000;
/// Every fourth reading is of this channel, which has priority.
const PRIORITY_CHANNEL: &str = "humidity";
const START_MS: i64 = FLOOR_MS + 100 * DAY_MS;

/// What can happen to a board.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// Readings come in, stamped so many milliseconds ago; one of each chunk has a time of its own.
    Readings { count: u64, ago_ms: u64 },
    /// Time passes, and the gateway looks at its clock.
    Pass { ms: i64 },
    /// The clock is set right.
    Sync,
    /// Whoever sets the clock gets it wrong, by so much more; nothing on a board whose clock is unset.
    Step { ms: i64 },
    /// Some of the frames that wait are passed on.
    PassOn,
    /// `kill -9` after sealing; `passing_on`: in the middle of passing frames on.
    Restart { passing_on: bool },
    /// An end in order, and a new start.
    Stop,
    /// The power goes and comes: a new boot of the machine, whose clock starts in 1970.
    PowerCycle,
}

pub(super) struct World {
    true_ms: i64,
    booted_true_ms: i64,
    /// Wall clock minus true time.
    pub(super) error_ms: i64,
    /// The boot of the machine.
    machine: u32,
}

/// What is true of a reading that was handed in.
pub(super) struct Truth {
    true_ms: i64,
    machine: u32,
    /// The source's own time.
    own_ms: Option<i64>,
}

pub(super) struct Board {
    pub(super) dir: TempDir,
    pub(super) world: Arc<Mutex<World>>,
    pub(super) truth: BTreeMap<u64, Truth>,
    /// True time of each machine's boot.
    machines: HashMap<u32, i64>,
    /// The last reading of each machine at a look that found its clock set.
    dated_to: HashMap<u32, u64>,
    phase: watch::Receiver<Phase>,
    _keep: watch::Sender<Phase>,
    batcher: Option<Batcher>,
    /// The cap on what waits for the clock, and the policy at it.
    pub(super) held: (u64, WhenFull),
}

pub(super) fn spool_config(dir: &Path) -> SpoolConfig {
    SpoolConfig {
        dir: dir.into(),
        bytes_max: 1 << 26,
        segment_bytes_max: 4_096,
        fsync_interval_ms: 60_000,
        when_full: WhenFull::Refuse,
        live_share_percent: 20,
        live_lag_ms_max: 60_000,
    }
}

impl Board {
    /// In memory where that is possible: the runs below sync to disk thousands of times.
    fn new(held: (u64, WhenFull)) -> Self {
        let memory = Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
        let world = World { true_ms: START_MS, booted_true_ms: START_MS - 5_000, error_ms: 0, machine: 0 };
        let (keep, phase) = watch::channel(Phase::Running);
        let mut board = Self {
            dir,
            world: Arc::new(Mutex::new(world)),
            truth: BTreeMap::new(),
            machines: HashMap::new(),
            dated_to: HashMap::new(),
            phase,
            _keep: keep,
            batcher: None,
            held,
        };
        board.boot_in_1970();
        board.start();
        board
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn boot_in_1970(&mut self) {
        let (machine, booted_ms) = {
            let mut world = self.world();
            world.true_ms += 1;
            world.machine += 1;
            world.booted_true_ms = world.true_ms - 5_000;
            world.error_ms = 5_000 - world.true_ms;
            (world.machine, world.booted_true_ms)
        };
        self.machines.insert(machine, booted_ms);
    }

    fn start(&mut self) {
        let state_dir = self.dir.path().to_owned();
        let config = spool_config(&state_dir);
        let (spool, _) = Classes::open(config.clone(), true).unwrap();
        let (held_bytes_max, when_full) = self.held;
        let clock_config = ClockConfig { set_marker: None, held_bytes_max };
        let undated_config = SpoolConfig { when_full, ..config.clone() };
        let machine = format!("machine-{}", self.world().machine);
        let (undated, _) = Undated::open(&undated_config, &clock_config, machine).unwrap();
        let world = Arc::clone(&self.world);
        let read = move || {
            let world = world.lock().unwrap();
            let uptime_ms = (world.true_ms - world.booted_true_ms).unsigned_abs();
            Look { wall_ms: world.true_ms + world.error_ms, uptime_ms, marker: None }
        };
        let clock = (Clock::new(read, &state_dir), state_dir.clone());
        let range = RangeTable::from_contract(DEFAULT_CONTRACT, OutOfRange::Keep).unwrap();
        let batch = BatchConfig { frame_bytes_max: 2_200, age_ms_max: 3_600_000 };
        let boot = next_boot(&state_dir).unwrap();
        let batcher = Batcher::new(("gw", boot), batch, range, (Arc::new(spool), undated), clock).unwrap();
        self.batcher = Some(batcher.with_priority(&[PRIORITY_CHANNEL.into()]));
    }

    pub(super) fn batcher(&mut self) -> (&mut Batcher, &mut watch::Receiver<Phase>) {
        (self.batcher.as_mut().unwrap(), &mut self.phase)
    }

    pub(super) async fn happen(&mut self, event: Event) {
        match event {
            Event::Readings { count, ago_ms } => {
                let chunk = Chunk { samples: self.samples(count, ago_ms), ..Chunk::default() };
                let (batcher, phase) = self.batcher();
                batcher.take(chunk, phase).await;
            }
            Event::Pass { ms } => self.world().true_ms += ms,
            Event::Sync => self.world().error_ms = 0,
            Event::Step { ms } => {
                let mut world = self.world();
                world.error_ms += if world.true_ms + world.error_ms < FLOOR_MS { 0 } else { ms };
            }
            Event::PassOn => {
                let (batcher, phase) = self.batcher();
                if batcher.undated.has_dates() {
                    batcher.pass_on_dated(phase).await;
                }
            }
            Event::Restart { passing_on } => {
                self.seal().await;
                let batcher = self.batcher().0;
                if passing_on && batcher.undated.has_dates() {
                    for frame in batcher.undated.take_dated().unwrap() {
                        batcher.spool.append(Class::Ordinary, &frame.bytes, frame.readings, false).unwrap();
                    }
                }
                self.batcher = None;
                self.start();
            }
            Event::Stop => {
                let (batcher, phase) = self.batcher();
                batcher.end(phase).await;
                self.batcher = None;
                self.start();
            }
            Event::PowerCycle => {
                self.seal().await;
                self.batcher = None;
                self.boot_in_1970();
                self.start();
            }
        }
        let (batcher, phase) = self.batcher();
        batcher.look(phase).await;
        if batcher.clock.judge().booted_ms().is_some() {
            let machine = self.world().machine;
            self.dated_to.insert(machine, self.truth.len() as u64);
        }
    }

    async fn seal(&mut self) {
        let (batcher, phase) = self.batcher();
        batcher.look(phase).await;
        batcher.seal_all(phase).await;
    }

    fn samples(&mut self, count: u64, ago_ms: u64) -> Vec<Sample> {
        let (true_ms, booted_ms, machine) = {
            let world = self.world();
            (world.true_ms - ago_ms as i64, world.booted_true_ms, world.machine)
        };
        let mut sample = |index: u64| {
            let seq = self.truth.len() as u64;
            let own_ms = (index == 1).then_some(1_000_000 + seq as i64);
            self.truth.insert(seq, Truth { true_ms, machine, own_ms });
            let uptime_ms = (true_ms - booted_ms).max(1).unsigned_abs();
            Sample {
                device: "d".into(),
                boot_seq: Some((1, seq)),
                channel: if seq % 4 == 3 { PRIORITY_CHANNEL } else { "temperature" }.into(),
                at: own_ms.map_or(Stamp::Uptime(uptime_ms as i64), Stamp::Wall),
                value: 20.0 + (seq.wrapping_mul(2_654_435_761) >> 8) as f64 % 500.0 / 100.0,
                quality: Quality::GOOD,
            }
        };
        (0..count).map(&mut sample).collect()
    }

    /// Ends the run, and checks every reading that is in the spool; how many are there and how many wait.
    pub(super) async fn check(&mut self) -> (usize, u64) {
        let (batcher, phase) = self.batcher();
        batcher.end(phase).await;
        let undated = Arc::clone(batcher.undated.spool());
        let waiting = undated.state().readings;
        self.batcher = None;
        let (spool, _) = Classes::open(spool_config(self.dir.path()), false).unwrap();
        let mut frames: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
        while let Some((_, taken)) = spool.take(std::time::Instant::now(), usize::MAX).unwrap() {
            assert!(taken.identity.sealed_ms >= FLOOR_MS, "nothing goes out as of 1970");
            let identity = (taken.identity.boot, taken.identity.seq);
            let before = frames.insert(identity, taken.bytes.to_vec());
            assert!(before.is_none_or(|before| before == *taken.bytes), "{identity:?} became two frames");
        }
        let mut found = BTreeSet::new();
        for frame in frames.values() {
            self.check_frame(frame, &mut found);
        }
        let passed_on = found.len();
        while let Some((_, taken)) = undated.take(std::time::Instant::now(), usize::MAX).unwrap() {
            // After a kill in the middle a frame may be in both places: it becomes the same bytes again.
            found.extend(readings(&taken.bytes).1.iter().map(|reading| reading.seq));
        }
        assert_eq!(found.len(), self.truth.len(), "none is lost");
        (passed_on, waiting)
    }

    fn check_frame(&self, bytes: &[u8], found: &mut BTreeSet<u64>) {
        let ((sealed_ms, uptime_ms), readings) = readings(bytes);
        for reading in readings {
            assert!(found.insert(reading.seq), "{} is there twice", reading.seq);
            let truth = &self.truth[&reading.seq];
            if let Some(own_ms) = truth.own_ms {
                assert_eq!((reading.at_ms, reading.quality), (own_ms, Quality::GOOD));
                continue;
            }
            if reading.quality.contains(Quality::CLOCK_UNSET) {
                let dated_to = self.dated_to.get(&truth.machine).copied().unwrap_or(0);
                assert!(reading.seq >= dated_to, "{} could have been dated", reading.seq);
                continue;
            }
            // The frame's own error: what its clock was off by.
            let sealed_true_ms = self.machines[&truth.machine] + uptime_ms as i64;
            let error_ms = sealed_ms - sealed_true_ms;
            let off_ms = reading.at_ms - truth.true_ms;
            assert!((off_ms - error_ms).abs() <= FOLLOW_MS_MIN, "off by {off_ms}, its frame by {error_ms}");
        }
    }
}

/// When a frame was sealed, on both clocks, and its readings.
pub(super) fn readings(bytes: &[u8]) -> ((i64, u64), Vec<Reading>) {
    let mut bytes = bytes.to_vec();
    bytes.pop();
    let frame = Frame::open(&mut bytes).unwrap();
    let mut decoder = Box::new(Decoder::<4, 4>::new());
    decoder.start(&frame);
    let next = || decoder.next(&frame).unwrap().map(|(_, reading)| reading);
    ((frame.sealed_ms(), frame.uptime_ms()), std::iter::from_fn(next).collect())
}

/// Runs on a board of which nothing is limited.
pub(super) fn on_a_board(run: impl AsyncFnOnce(Board) + Send) {
    on_a_board_that_holds((1 << 26, WhenFull::Refuse), run);
}

/// Runs with room on the stack for a batch.
pub(super) fn on_a_board_that_holds(held: (u64, WhenFull), run: impl AsyncFnOnce(Board) + Send) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(16 << 20);
        let run = thread.spawn_scoped(scope, move || runtime().block_on(run(Board::new(held))));
        run.unwrap().join().unwrap();
    });
}

/// The errors of all readings that the gateway stamped, by flags.
pub(super) fn errors(board: &Board) -> BTreeSet<(i64, u8)> {
    let (spool, _) = Classes::open(spool_config(board.dir.path()), false).unwrap();
    let mut errors = BTreeSet::new();
    while let Some((_, taken)) = spool.take(std::time::Instant::now(), usize::MAX).unwrap() {
        for reading in readings(&taken.bytes).1 {
            let truth = &board.truth[&reading.seq];
            if truth.own_ms.is_none() {
                errors.insert((reading.at_ms - truth.true_ms, reading.quality.0));
            }
        }
    }
    errors
}
