//! What goes on while a run lasts: the parts publish their counts, whoever asks gets one [`Snapshot`].
//!
//! The counts are the ones that the summary is made of at the end; nothing is counted twice. The health
//! server, the metrics, the page and `ingot-gateway status` all show a snapshot, so they cannot disagree.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ingot_agent::Drop;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Beat, Sealing, Sending};
use crate::clock;
use crate::spool::{Recovered, Spool};

/// A part that did not answer for this long is stuck.
pub const SILENT_MAX: Duration = Duration::from_secs(10);

/// Share of `spool.bytes_max` from which on the spool counts as nearly full, in percent.
pub const NEARLY_FULL_PERCENT: u64 = 90;

/// From one point of the page's curve to the next.
pub const POINT_EVERY: Duration = Duration::from_secs(5);

/// Points of the curve: ten minutes.
pub const POINTS_MAX: usize = 120;

/// The parts' counts as they last published them.
pub struct Live {
    gateway: String,
    boot: u64,
    started: Instant,
    spool: Arc<Spool>,
    spool_bytes_max: u64,
    recovered: Recovered,
    /// The batcher publishes here.
    pub sealing: watch::Sender<Sealing>,
    /// The uplink publishes here, each connection going on where the former one ended.
    pub sending: watch::Sender<Sending>,
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

/// A run at one moment; also the JSON of `/health`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The program's version.
    pub version: String,
    /// The gateway's name.
    pub gateway: String,
    /// This run, 16 hex digits.
    pub boot: String,
    /// When this was taken: milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// Since the start, in milliseconds.
    pub uptime_ms: u64,
    /// What puts readings in danger, in words; with any of these `/health` answers 503.
    pub problems: Vec<String>,
    /// What a person may want to know and the gateway can live with, in words.
    pub notes: Vec<String>,
    /// Readings on their way.
    pub readings: Readings,
    /// Frames sealed in this run, and their bytes.
    pub sealed_frames: u64,
    /// Bytes of them.
    pub sealed_bytes: u64,
    /// What waits on disk.
    pub spool: SpoolSnapshot,
    /// The way to the cloud.
    pub uplink: UplinkSnapshot,
    /// Memory that the process holds, in bytes; 0 where the system does not tell.
    pub resident_bytes: u64,
}

/// Readings on their way through the gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Readings {
    /// Offered by sources, the malformed ones too.
    pub produced: u64,
    /// Given up, by cause.
    pub dropped: BTreeMap<String, u64>,
    /// In sealed frames.
    pub sealed: u64,
    /// In confirmed frames, those of former runs too.
    pub acked: u64,
    /// Lost: the disk refused them to the end.
    pub not_saved: u64,
}

/// What waits on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpoolSnapshot {
    /// Frames not yet confirmed.
    pub frames: u64,
    /// Readings in them.
    pub readings: u64,
    /// Bytes of the segment files.
    pub bytes: u64,
    /// Their cap.
    pub bytes_max: u64,
    /// Age of the oldest frame since it was sealed, in milliseconds; none when the spool is empty.
    pub oldest_age_ms: Option<u64>,
    /// Frames that former runs left.
    pub recovered_frames: u64,
    /// Damaged frames, stepped over.
    pub damaged_frames: u64,
    /// Segments given up after a failed write or fsync.
    pub poisoned_segments: u64,
}

/// The way to the cloud.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UplinkSnapshot {
    /// Whether there is a connection now.
    pub connected: bool,
    /// Why the last one ended or was not made; kept after the next success.
    pub last_failure: Option<String>,
    /// Frames sent and not confirmed.
    pub in_flight: u64,
    /// Frames confirmed (PUBACK), those of former runs too.
    pub acked_frames: u64,
    /// Time since the last confirmation, in milliseconds; none before the first one.
    pub last_ack_age_ms: Option<u64>,
    /// Times that the connection could not be made or was lost.
    pub outages: u64,
    /// Times that the far end refused a frame.
    pub refusals: u64,
}

impl Live {
    /// Nothing has happened yet.
    pub fn new(
        (gateway, boot): (&str, u64),
        (spool, spool_bytes_max): (Arc<Spool>, u64),
        recovered: Recovered,
    ) -> Self {
        Self {
            gateway: gateway.to_owned(),
            boot,
            started: Instant::now(),
            spool,
            spool_bytes_max,
            recovered,
            sealing: watch::Sender::default(),
            sending: watch::Sender::default(),
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
        let spool = self.spool.state();
        let now_ms = clock::now_ms();
        let oldest = self.spool.oldest_sealed_ms().ok().flatten();
        let causes = Drop::ALL.iter().map(|cause| (cause.name().to_owned(), sealing.dropped.get(*cause)));
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
            spool: SpoolSnapshot {
                frames: spool.frames,
                readings: spool.readings,
                bytes: spool.bytes,
                bytes_max: self.spool_bytes_max,
                oldest_age_ms: oldest.map(|sealed_ms| u64::try_from(now_ms - sealed_ms).unwrap_or(0)),
                recovered_frames: self.recovered.frames,
                damaged_frames: self.recovered.damaged_frames.max(spool.damaged_frames),
                poisoned_segments: spool.poisoned_segments,
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

impl Snapshot {
    /// Says in words what is wrong. A missing connection alone is none of the problems: waiting for it
    /// is what the spool is for.
    fn judge(&mut self, silent: &[&str]) {
        for part in silent {
            self.problems.push(format!("the {part} does not answer; a disk that hangs is the usual cause"));
        }
        let spool = &self.spool;
        if spool.bytes >= spool.bytes_max / 100 * NEARLY_FULL_PERCENT {
            self.problems.push(format!(
                "the spool holds {} of {} bytes; at the cap its policy drops or waits: mend the link or raise spool.bytes_max",
                spool.bytes, spool.bytes_max
            ));
        }
        if self.readings.not_saved > 0 {
            self.problems
                .push(format!("{} readings were lost: the disk refused them", self.readings.not_saved));
        }
        if !self.uplink.connected {
            let why = self.uplink.last_failure.as_deref().unwrap_or("the first try is not over");
            self.notes.push(format!("not connected, frames wait in the spool: {why}"));
        }
        for (count, what) in [
            (spool.damaged_frames, "damaged frames were stepped over"),
            (spool.poisoned_segments, "spool segments were given up after a failed write: look at the disk"),
            (self.uplink.refusals, "times the far end refused a frame"),
            (
                self.readings.dropped.get(Drop::SpoolFull.name()).copied().unwrap_or(0),
                "readings had to make room in a full spool",
            ),
        ] {
            if count > 0 {
                self.notes.push(format!("{count} {what}"));
            }
        }
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

    fn healthy() -> Snapshot {
        Snapshot {
            spool: SpoolSnapshot { bytes_max: 1_000, ..SpoolSnapshot::default() },
            uplink: UplinkSnapshot { connected: true, ..UplinkSnapshot::default() },
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_missing_connection_is_a_note_and_danger_to_readings_is_a_problem() {
        let mut snapshot = healthy();
        snapshot.judge(&[]);
        assert!(snapshot.problems.is_empty() && snapshot.notes.is_empty(), "{snapshot:?}");

        let mut offline = healthy();
        offline.uplink.connected = false;
        offline.uplink.last_failure = Some("no route".into());
        offline.judge(&[]);
        assert!(offline.problems.is_empty() && offline.notes[0].contains("no route"));

        let mut bad = healthy();
        bad.spool.bytes = 950;
        bad.readings.not_saved = 3;
        bad.judge(&["batcher"]);
        assert_eq!(bad.problems.len(), 3, "{bad:?}");
        assert!(bad.problems[0].contains("batcher") && bad.problems[1].contains("950 of 1000"));
    }

    #[test]
    fn the_process_knows_its_memory() {
        assert!(resident_bytes() > 100_000);
    }
}
