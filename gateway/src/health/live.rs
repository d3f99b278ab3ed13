//! What goes on while a run lasts: the parts publish their counts, whoever asks gets one [`Snapshot`].
//!
//! The counts are the ones that the summary is made of at the end; nothing is counted twice.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ingot_agent::Drop;
use tokio::sync::watch;

use super::snapshot::{
    ClockSnapshot, ContractSnapshot, FlashSnapshot, PrioritySnapshot, Readings, Snapshot, SpoolSnapshot,
    UplinkSnapshot,
};
use super::{Beat, Sealing, Sending};
use crate::clock;
use crate::spool::{Classes, Recovered};

/// A part that did not answer for this long is stuck.
pub const SILENT_MAX: Duration = Duration::from_secs(10);

/// From one point of the page's curve to the next.
pub const POINT_EVERY: Duration = Duration::from_secs(5);

/// Points of the curve: ten minutes.
pub const POINTS_MAX: usize = 120;

/// The parts' counts as they last published them.
pub struct Live {
    gateway: String,
    boot: u64,
    started: Instant,
    spool: Arc<Classes>,
    undated: Arc<Classes>,
    recovered: Recovered,
    /// The batcher publishes here.
    pub sealing: watch::Sender<Sealing>,
    /// The uplink publishes here, each connection going on where the former one ended.
    pub sending: watch::Sender<Sending>,
    /// Pushed contracts.
    pub contract: watch::Sender<ContractSnapshot>,
    /// The batcher's thread answers.
    pub batcher: Beat,
    /// The uplink's task answers.
    pub uplink: Beat,
    points: Mutex<VecDeque<Point>>,
}

/// One point of the page's curve: totals at a time of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Time since the start, in milliseconds.
    pub uptime_ms: u64,
    /// Readings that sources offered.
    pub produced: u64,
    /// Readings that the far end confirmed.
    pub acked: u64,
}

impl Live {
    /// Nothing has happened yet. `undated` is the spool of what waits for the clock.
    pub fn new(
        (gateway, boot): (&str, u64),
        (spool, undated): (Arc<Classes>, Arc<Classes>),
        recovered: Recovered,
    ) -> Self {
        Self {
            gateway: gateway.to_owned(),
            boot,
            started: Instant::now(),
            spool,
            undated,
            recovered,
            sealing: watch::Sender::default(),
            sending: watch::Sender::default(),
            contract: watch::Sender::default(),
            batcher: Beat::default(),
            uplink: Beat::default(),
            points: Mutex::default(),
        }
    }

    /// Names of the parts that do not answer.
    pub fn silent_parts(&self) -> Vec<&'static str> {
        let parts = [("batcher", &self.batcher), ("uplink", &self.uplink)];
        parts.into_iter().filter(|(_, beat)| beat.age() > SILENT_MAX).map(|(name, _)| name).collect()
    }

    /// What goes on now. Reads the oldest frame's header from disk.
    pub fn snapshot(&self) -> Snapshot {
        let (sealing, sending) = (*self.sealing.borrow(), self.sending.borrow().clone());
        let (spool, undated) = (self.spool.state(), self.undated.state());
        let now_ms = clock::now_ms();
        let oldest = self.spool.oldest_sealed_ms().ok().flatten();
        let causes = Drop::ALL.iter().map(|cause| (cause.name().to_owned(), sealing.dropped.get(*cause)));
        let priority = self.spool.priority_state().map(|priority| PrioritySnapshot {
            frames: priority.frames,
            readings: priority.readings,
            bytes: priority.bytes,
            dropped_readings: sealing.priority_dropped,
        });
        let mut snapshot = Snapshot {
            version: env!("CARGO_PKG_VERSION").into(),
            gateway: self.gateway.clone(),
            boot: format!("{:016x}", self.boot),
            at_ms: now_ms,
            uptime_ms: millis(self.started.elapsed()),
            readings: Readings {
                produced: sealing.produced,
                dropped: causes.collect(),
                sealed: sealing.readings,
                acked: sending.acked_readings,
                not_saved: sealing.not_saved,
            },
            sealed_frames: sealing.frames,
            sealed_bytes: sealing.bytes,
            clock: ClockSnapshot {
                set: sealing.clock_set,
                steps: sealing.clock_steps,
                last_step_ms: sealing.clock_step_ms,
                held_readings: undated.readings,
                held_bytes: undated.bytes,
                held_bytes_max: self.undated.bytes_max(),
                dated_readings: sealing.dated_readings,
                undated_readings: sealing.undated_readings,
            },
            spool: SpoolSnapshot {
                frames: spool.frames,
                readings: spool.readings,
                bytes: spool.bytes,
                bytes_max: self.spool.bytes_max(),
                oldest_age_ms: oldest.map(|sealed_ms| u64::try_from(now_ms - sealed_ms).unwrap_or(0)),
                recovered_frames: self.recovered.frames,
                damaged_frames: self.recovered.damaged_frames.max(spool.damaged_frames),
                poisoned_segments: spool.poisoned_segments,
                in_doubt_readings: spool.in_doubt_readings,
                lost_readings: spool.lost_readings,
                unreadable_places: spool.unreadable_places,
                priority,
            },
            flash: FlashSnapshot {
                bytes_written: spool.bytes_written + undated.bytes_written,
                fsyncs: spool.fsyncs + undated.fsyncs,
                readings_appended: spool.readings_appended + undated.readings_appended,
            },
            uplink: UplinkSnapshot {
                connected: sending.link.connected,
                last_failure: sending.link.failure.as_deref().map(str::to_owned),
                in_flight: sending.link.in_flight as u64,
                acked_frames: sending.acked_frames,
                last_ack_age_ms: sending.link.last_ack.map(|at| millis(at.elapsed())),
                outages: sending.outages,
                refusals: sending.refusals,
            },
            contract: self.contract.borrow().clone(),
            resident_bytes: resident_bytes(),
            ..Snapshot::default()
        };
        snapshot.judge(&self.silent_parts());
        snapshot
    }

    /// Adds a point to the page's curve; the oldest one goes.
    pub fn note_point(&self) {
        let point = Point {
            uptime_ms: millis(self.started.elapsed()),
            produced: self.sealing.borrow().produced,
            acked: self.sending.borrow().acked_readings,
        };
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        if points.len() == POINTS_MAX {
            points.pop_front();
        }
        points.push_back(point);
    }

    /// The curve, oldest point first.
    pub fn points(&self) -> Vec<Point> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `VmRSS` of `/proc/self/status` (proc(5)), which is given in KiB.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_its_memory() {
        assert!(resident_bytes() > 100_000);
    }
}
