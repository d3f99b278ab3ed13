//! A run at one moment, and what is wrong with it, in words.
//!
//! The health server, the metrics, the page and `ingot-gateway status` all show a [`Snapshot`], so they
//! cannot disagree. It names no file's content and no setting: nothing in it is secret.

use std::collections::BTreeMap;

use ingot_agent::Drop;
use serde::{Deserialize, Serialize};

/// Share of `spool.bytes_max` from which on the spool counts as nearly full, in percent.
pub const NEARLY_FULL_PERCENT: u64 = 90;

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
    /// The clock, and what waits for it.
    pub clock: ClockSnapshot,
    /// What waits on disk to be sent.
    pub spool: SpoolSnapshot,
    /// What the disk had to take.
    pub flash: FlashSnapshot,
    /// The way to the cloud.
    pub uplink: UplinkSnapshot,
    /// Contracts that were pushed.
    #[serde(default)]
    pub contract: ContractSnapshot,
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

/// The clock, and what waits for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockSnapshot {
    /// Whether it is set.
    pub set: bool,
    /// Times that it was stepped while it was set.
    pub steps: u64,
    /// The size of the last step, in milliseconds; below 0: backwards.
    pub last_step_ms: i64,
    /// Readings on disk that wait until it is set.
    pub held_readings: u64,
    /// Bytes of their segment files.
    pub held_bytes: u64,
    /// Their cap.
    pub held_bytes_max: u64,
    /// Readings that waited and went on with their date.
    pub dated_readings: u64,
    /// Readings that waited and went on without a date.
    pub undated_readings: u64,
}

/// What waits on disk to be sent.
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
    /// Of `readings`, those that a failed fsync put in doubt: a power cut may cost them.
    pub in_doubt_readings: u64,
    /// Readings that were stored, and were damaged when they were to be sent.
    pub lost_readings: u64,
    /// Places that cannot be read; they wait for the next start.
    pub unreadable_places: u64,
    /// Of all this, the frames of priority channels; none when they have no spool.
    pub priority: Option<PrioritySnapshot>,
}

/// What waits on disk to be sent before the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrioritySnapshot {
    /// Frames not yet confirmed.
    pub frames: u64,
    /// Readings in them.
    pub readings: u64,
    /// Bytes of the segment files.
    pub bytes: u64,
    /// Readings that this run gave up because the spool or its disk was full of nothing else.
    pub dropped_readings: u64,
}

/// What the disk had to take in this run, for the frames to send and for those that wait for the clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlashSnapshot {
    /// Bytes handed to the disk: frames, cursor, counts.
    pub bytes_written: u64,
    /// Fsyncs asked of it.
    pub fsyncs: u64,
    /// Readings appended. One that waited for the clock is written twice and counts twice.
    pub readings_appended: u64,
}

impl FlashSnapshot {
    /// Bytes written a reading; `None` before the first one.
    pub fn bytes_per_reading(&self) -> Option<f64> {
        (self.readings_appended > 0).then(|| self.bytes_written as f64 / self.readings_appended as f64)
    }
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

/// Contracts that were pushed to this run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractSnapshot {
    /// Whether a pushed one is in force, not the configured one.
    pub pushed: bool,
    /// Whether it is on trial.
    pub on_trial: bool,
    /// Those that were taken, on trial first.
    pub accepted: u64,
    /// Those that were not.
    pub refused: u64,
    /// Those that a trial took out of force.
    pub rolled_back: u64,
    /// What was wrong with the last one that was refused or rolled back.
    pub problem: Option<String>,
    /// Whether the broker refuses the subscription to their topic.
    pub topic_refused: bool,
}

impl Snapshot {
    /// Says in words what is wrong. A missing connection alone is none of the problems, nor is a clock
    /// that is not set: waiting for both is what the disk is for.
    pub(super) fn judge(&mut self, silent: &[&str]) {
        for part in silent {
            self.problems.push(format!("the {part} does not answer; a disk that hangs is the usual cause"));
        }
        let (spool, clock) = (&self.spool, &self.clock);
        if is_nearly_full(spool.bytes, spool.bytes_max) {
            self.problems.push(format!(
                "the spool holds {} of {} bytes; at the cap its policy drops or waits: mend the link or raise spool.bytes_max",
                spool.bytes, spool.bytes_max
            ));
        }
        if is_nearly_full(clock.held_bytes, clock.held_bytes_max) {
            self.problems.push(format!(
                "frames that wait for the clock fill {} of {} bytes; at the cap the spool's policy drops or waits: \
                 set the clock or raise clock.held_bytes_max",
                clock.held_bytes, clock.held_bytes_max
            ));
        }
        for (count, what) in [
            (self.readings.not_saved, "readings were lost: the disk refused them"),
            (
                spool.lost_readings,
                "readings were lost: they were stored, and the disk gave them back damaged",
            ),
            (
                spool.in_doubt_readings,
                "readings may be lost by a power cut: an fsync failed, look at the disk",
            ),
            (
                spool.unreadable_places,
                "places of the spool cannot be read and wait for the next start: look at the disk",
            ),
        ] {
            if count > 0 {
                self.problems.push(format!("{count} {what}"));
            }
        }
        if !self.uplink.connected {
            let why = self.uplink.last_failure.as_deref().unwrap_or("the first try is not over");
            self.notes.push(format!("not connected, frames wait in the spool: {why}"));
        }
        if !clock.set {
            self.notes.push("the clock is not set: readings wait on disk until it is".into());
        }
        if clock.steps > 0 {
            self.notes.push(format!(
                "the clock was stepped {} times, the last time by {} ms",
                clock.steps, clock.last_step_ms
            ));
        }
        if self.contract.on_trial {
            self.notes.push("a pushed contract is on trial: outside its ranges readings are flagged".into());
        }
        if let Some(problem) = &self.contract.problem {
            self.notes.push(format!("the last pushed contract is not in force: {problem}"));
        }
        if self.contract.topic_refused {
            let note = "the broker refuses range.contract_topic: allow this client to subscribe (AWS: iot:Subscribe, iot:Receive)";
            self.notes.push(note.into());
        }
        for (cause, readings) in self.readings.dropped.iter().filter(|(_, readings)| **readings > 0) {
            self.notes.push(format!("{readings} readings were dropped ({cause}): {}", meaning(cause)));
        }
        for (count, what) in [
            (spool.damaged_frames, "damaged frames were stepped over"),
            (spool.poisoned_segments, "spool segments were given up after a failed write: look at the disk"),
            (self.uplink.refusals, "times the far end refused a frame"),
            (clock.undated_readings, "readings went on without a date: nothing tells when their boot was"),
            (
                spool.priority.as_ref().map_or(0, |priority| priority.dropped_readings),
                "of these were of priority channels: the cap does not hold even those",
            ),
        ] {
            if count > 0 {
                self.notes.push(format!("{count} {what}"));
            }
        }
    }
}

/// What a cause of drops means to the operator.
fn meaning(cause: &str) -> &'static str {
    match Drop::ALL.into_iter().find(|drop| drop.name() == cause) {
        Some(Drop::Range) => "the value was outside the contract's range, and the settings say to drop such",
        Some(Drop::Malformed) => "what came in could not be understood; the log says why",
        Some(Drop::SpoolFull) => "they had to make room in a full spool or on a full disk",
        Some(Drop::BadName) => "a device's or channel's name is not allowed, or there are too many devices",
        None => "see the changelog of the gateway's version",
    }
}

fn is_nearly_full(bytes: u64, bytes_max: u64) -> bool {
    bytes_max > 0 && bytes >= bytes_max / 100 * NEARLY_FULL_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Snapshot {
        Snapshot {
            clock: ClockSnapshot { set: true, held_bytes_max: 1_000, ..ClockSnapshot::default() },
            spool: SpoolSnapshot { bytes_max: 1_000, ..SpoolSnapshot::default() },
            uplink: UplinkSnapshot { connected: true, ..UplinkSnapshot::default() },
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_missing_connection_or_clock_is_a_note_and_danger_to_readings_is_a_problem() {
        let mut snapshot = healthy();
        snapshot.judge(&[]);
        assert!(snapshot.problems.is_empty() && snapshot.notes.is_empty(), "{snapshot:?}");

        let mut alone = healthy();
        alone.uplink.connected = false;
        alone.uplink.last_failure = Some("no route".into());
        alone.clock.set = false;
        alone.judge(&[]);
        assert!(alone.problems.is_empty() && alone.notes[0].contains("no route"));
        assert!(alone.notes[1].contains("the clock is not set"));

        let mut dropping = healthy();
        dropping.readings.dropped = [("malformed".into(), 39), ("range".into(), 0)].into();
        dropping.judge(&[]);
        assert!(
            dropping.notes.len() == 1
                && dropping.notes[0].starts_with("39 readings were dropped (malformed)")
        );

        let mut bad = healthy();
        bad.spool.bytes = 950;
        bad.clock.held_bytes = 900;
        bad.readings.not_saved = 3;
        bad.spool.in_doubt_readings = 7;
        bad.judge(&["batcher"]);
        assert_eq!(bad.problems.len(), 5, "{bad:?}");
        assert!(bad.problems[0].contains("batcher") && bad.problems[1].contains("950 of 1000"));
        assert!(
            bad.problems[2].contains("clock.held_bytes_max") && bad.problems[4].starts_with("7 readings may")
        );
    }

    #[test]
    fn flash_is_said_a_reading_once_there_is_one() {
        let mut flash = FlashSnapshot { bytes_written: 30, ..FlashSnapshot::default() };
        assert_eq!(flash.bytes_per_reading(), None);
        flash.readings_appended = 4;
        assert_eq!(flash.bytes_per_reading(), Some(7.5));
    }
}
