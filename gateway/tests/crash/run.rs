//! A spool on the crashing disk, and what is known of each frame that it was given.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ingot_gateway::spool::{Spool, SpoolConfig, Spooled, WhenFull};

use crate::common::frame;
use crate::disk::CrashDisk;

#[derive(Clone, Copy, Debug)]
pub enum Action {
    Append,
    Sync,
    Take,
    AckOldest,
    AckNewest,
    GiveBackAll,
    /// Stops in order and starts again.
    Reopen,
    /// Is killed and started again; the disk keeps its power.
    KillAndReopen,
}

/// Frames, made once: the same in each run.
pub fn frames(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|seq| frame(seq, READINGS)).collect()
}

pub const READINGS: u32 = 12;

pub fn config(when_full: WhenFull, live_share_percent: u8) -> SpoolConfig {
    SpoolConfig {
        dir: "simulated".into(),
        bytes_max: if when_full == WhenFull::Refuse { 1 << 30 } else { 900 },
        segment_bytes_max: 300,
        fsync_interval_ms: 1_000,
        when_full,
        live_share_percent,
        live_lag_ms_max: 0,
    }
}

pub struct Run<'a> {
    pub disk: CrashDisk,
    pub spool: Option<Spool<CrashDisk>>,
    config: SpoolConfig,
    frames: &'a [Vec<u8>],
    pub offered: usize,
    /// Appended since the last sync that was good.
    pub unsynced: BTreeSet<u64>,
    /// On disk, by the spool's word.
    pub durable: BTreeSet<u64>,
    /// Appended, then a sync failed.
    pub doubted: BTreeSet<u64>,
    pub acked: BTreeSet<u64>,
    /// Frames given up at the cap whose count is on disk.
    pub dropped: u64,
    /// Given up at the cap, for the next frame to count.
    pub condemned: u64,
    pub kills_cost_doubt: bool,
    taken: BTreeMap<u64, Spooled>,
}

impl<'a> Run<'a> {
    pub fn new(disk: CrashDisk, config: SpoolConfig, frames: &'a [Vec<u8>]) -> Self {
        let spool = start(&disk, &config);
        Self {
            disk,
            spool,
            config,
            frames,
            offered: 0,
            unsynced: BTreeSet::new(),
            durable: BTreeSet::new(),
            doubted: BTreeSet::new(),
            acked: BTreeSet::new(),
            dropped: 0,
            condemned: 0,
            kills_cost_doubt: false,
            taken: BTreeMap::new(),
        }
    }

    pub fn step(&mut self, action: Action) {
        let Some(spool) = &self.spool else { return };
        match action {
            Action::Append => {
                let Some(frame) = self.frames.get(self.offered) else { return };
                self.condemned += spool.condemn_oldest(frame.len() as u64).frames;
                if spool.append(frame, READINGS, false).is_ok() {
                    self.unsynced.insert(self.offered as u64);
                    self.dropped += std::mem::take(&mut self.condemned);
                }
                self.offered += 1;
            }
            Action::Sync => {
                let synced = spool.sync();
                self.settle(synced.is_ok());
            }
            Action::Take => {
                if let Ok(Some(frame)) = spool.take(Instant::now(), 5) {
                    self.must_be_offered(&frame);
                    self.taken.insert(frame.identity.seq, frame);
                }
            }
            Action::AckOldest | Action::AckNewest => {
                let taken = match action {
                    Action::AckOldest => self.taken.pop_first(),
                    _ => self.taken.pop_last(),
                };
                if let Some((seq, frame)) = taken {
                    spool.ack(frame.position);
                    self.acked.insert(seq);
                }
            }
            Action::GiveBackAll => {
                spool.give_back_all();
                self.taken.clear();
            }
            Action::Reopen => {
                let closed = spool.close();
                self.settle(closed.is_ok());
                self.reopen();
            }
            Action::KillAndReopen => {
                // An fsync may have failed without anybody being told before the kill.
                if self.kills_cost_doubt {
                    self.settle(false);
                }
                self.reopen();
            }
        }
    }

    fn settle(&mut self, good: bool) {
        let to = if good { &mut self.durable } else { &mut self.doubted };
        to.append(&mut self.unsynced);
    }

    fn reopen(&mut self) {
        self.spool = None;
        self.taken.clear();
        self.condemned = 0;
        self.spool = start(&self.disk, &self.config);
    }

    /// The power goes; what a new start on what is left delivers, in order.
    pub fn after_power_cut(&mut self, seed: u64) -> Vec<u64> {
        self.spool = None;
        self.disk = self.disk.after_power_cut(seed);
        self.spool = open(&self.disk, &self.config);
        assert!(self.spool.is_some(), "a person is needed");
        self.drain()
    }

    /// Takes and acknowledges everything.
    pub fn drain(&mut self) -> Vec<u64> {
        let spool = self.spool.as_ref().unwrap();
        spool.give_back_all();
        let mut delivered = Vec::new();
        let mut failures = 0;
        loop {
            match spool.take(Instant::now(), 5) {
                Ok(Some(frame)) => {
                    self.must_be_offered(&frame);
                    spool.ack(frame.position);
                    delivered.push(frame.identity.seq);
                }
                Ok(None) => break,
                Err(error) => {
                    failures += 1;
                    assert!(failures < 10, "stuck: {error}");
                }
            }
        }
        delivered
    }

    /// Nothing invented, nothing changed.
    fn must_be_offered(&self, frame: &Spooled) {
        let seq = frame.identity.seq as usize;
        assert!(
            seq < self.offered && frame.bytes == self.frames[seq],
            "frame {seq} is not as it was appended"
        );
    }

    /// Frames that were appended, and were neither acknowledged nor delivered.
    pub fn missing(&self, of: &BTreeSet<u64>, delivered: &[u64]) -> Vec<u64> {
        of.iter().filter(|seq| !self.acked.contains(seq) && !delivered.contains(seq)).copied().collect()
    }
}

fn open(disk: &CrashDisk, config: &SpoolConfig) -> Option<Spool<CrashDisk>> {
    Spool::open_in(disk.clone(), config.clone()).ok().map(|(spool, _)| spool)
}

/// A fault may stop a start; nothing may stop one without.
fn start(disk: &CrashDisk, config: &SpoolConfig) -> Option<Spool<CrashDisk>> {
    (0..7).find_map(|_| open(disk, config))
}

/// Whether these are at most `lanes` rising sequences, put together.
pub fn is_in_lanes(delivered: &[u64], lanes: usize) -> bool {
    let mut last: Vec<u64> = Vec::new();
    for seq in delivered {
        match last.iter_mut().filter(|last| **last < *seq).max() {
            Some(last) => *last = *seq,
            None => last.push(*seq),
        }
    }
    last.len() <= lanes
}
