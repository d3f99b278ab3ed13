//! What a run did, in numbers that add up: produced = sealed + dropped at the edge + not saved.
//!
//! While it goes on: [`live`] holds the numbers, [`snapshot`] is one look at them, [`server`] answers with them as [`metrics`] for
//! Prometheus, as JSON, and as a [`page`] for people.

mod beat;
mod http;
pub mod live;
pub mod metrics;
pub mod page;
pub mod server;
pub mod snapshot;

use std::fmt;
use std::sync::Arc;

use ingot_agent::Drop;
use serde::Serialize;
use tokio::time::Instant;

use crate::contract_update::trial::TrialCount;
use crate::drops::Drops;
use crate::spool::{Recovered, SpoolState};

pub use beat::Beat;
pub use live::Live;
pub use snapshot::{ContractSnapshot, Snapshot};

/// The batcher's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealing {
    /// Readings that sources offered, the malformed ones too.
    pub produced: u64,
    /// Readings given up, by cause; `spool_full` are readings that were sealed before.
    pub dropped: Drops,
    /// Of these, readings of priority channels that were sealed before.
    pub priority_dropped: u64,
    /// Frames handed to the spool.
    pub frames: u64,
    /// Readings in them.
    pub readings: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Readings that the disk refused until the end of the drain: lost.
    pub not_saved: u64,
    /// Of the sealed readings, those sealed while the clock was not set: they wait until it is.
    pub held_readings: u64,
    /// Readings that waited, of former runs too, and went on with their date.
    pub dated_readings: u64,
    /// Readings that waited and went on without a date: nothing tells when their boot was.
    pub undated_readings: u64,
    /// Whether the clock is set.
    pub clock_set: bool,
    /// Times that the clock was stepped while it was set.
    pub clock_steps: u64,
    /// The size of the last step, in milliseconds; below 0: backwards.
    pub clock_step_ms: i64,
    /// The contract on trial, if there is one.
    pub trial: TrialCount,
}

/// The uplink's counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sending {
    /// Frames that the far end confirmed.
    pub acked_frames: u64,
    /// Readings in them.
    pub acked_readings: u64,
    /// Times that the far end refused a frame; it is tried again.
    pub refusals: u64,
    /// Times that the connection could not be made or was lost.
    pub outages: u64,
    /// How the connection stands.
    pub link: Link,
}

/// How the uplink's connection stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether there is one.
    pub connected: bool,
    /// Frames sent and not confirmed.
    pub in_flight: usize,
    /// When the far end last confirmed a frame.
    pub last_ack: Option<Instant>,
    /// Why the last connection ended or was not made.
    pub failure: Option<Arc<str>>,
}

/// What is said at the end of a run; also its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The gateway's name.
    pub gateway: String,
    /// This run, 16 hex digits.
    pub boot: String,
    /// Readings that sources offered, the malformed ones too.
    pub produced: u64,
    /// Readings given up, by cause.
    pub dropped: Drops,
    /// Frames sealed by this run.
    pub sealed_frames: u64,
    /// Readings in them.
    pub sealed_readings: u64,
    /// Bytes of them.
    pub sealed_bytes: u64,
    /// Frames left by former runs and found in the spool at start.
    pub recovered_frames: u64,
    /// Frames confirmed in this run, recovered ones too.
    pub acked_frames: u64,
    /// Readings in them.
    pub acked_readings: u64,
    /// Frames that stay in the spool for the next run.
    pub in_spool_frames: u64,
    /// Readings in them.
    pub in_spool_readings: u64,
    /// Bytes of the spool's files.
    pub in_spool_bytes: u64,
    /// Damaged frames found at start or while sending.
    pub damaged_frames: u64,
    /// Bytes of unfinished writes cut off at start.
    pub torn_bytes: u64,
    /// Spool segments given up after a failed write or fsync.
    pub poisoned_segments: u64,
    /// Refusals by the far end.
    pub refusals: u64,
    /// Connections lost or not made.
    pub outages: u64,
    /// Readings lost because the disk refused them to the end.
    pub not_saved: u64,
    /// Whether the clock was set at the end.
    pub clock_set: bool,
    /// Times that the clock was stepped.
    pub clock_steps: u64,
    /// The size of the last step, in milliseconds; below 0: backwards.
    pub clock_step_ms: i64,
    /// Readings that still wait on disk for the clock.
    pub waiting_readings: u64,
    /// Readings that waited and went on with their date.
    pub dated_readings: u64,
    /// Readings that waited and went on without a date.
    pub undated_readings: u64,
    /// Whether the sources came to their end (and were not stopped by a signal).
    pub sources_ended: bool,
}

impl Summary {
    pub(crate) fn new(
        (gateway, boot): (String, u64),
        (sealing, sending): (Sealing, Sending),
        (recovered, spool, undated): (Recovered, SpoolState, SpoolState),
        sources_ended: bool,
    ) -> Self {
        Self {
            gateway,
            boot: format!("{boot:016x}"),
            produced: sealing.produced,
            dropped: sealing.dropped,
            sealed_frames: sealing.frames,
            sealed_readings: sealing.readings,
            sealed_bytes: sealing.bytes,
            recovered_frames: recovered.frames,
            acked_frames: sending.acked_frames,
            acked_readings: sending.acked_readings,
            in_spool_frames: spool.frames,
            in_spool_readings: spool.readings,
            in_spool_bytes: spool.bytes,
            // Those found at start are met again while sending.
            damaged_frames: recovered.damaged_frames.max(spool.damaged_frames),
            torn_bytes: recovered.torn_bytes,
            poisoned_segments: spool.poisoned_segments,
            refusals: sending.refusals,
            outages: sending.outages,
            not_saved: sealing.not_saved,
            clock_set: sealing.clock_set,
            clock_steps: sealing.clock_steps,
            clock_step_ms: sealing.clock_step_ms,
            waiting_readings: undated.readings,
            dated_readings: sealing.dated_readings,
            undated_readings: sealing.undated_readings,
            sources_ended,
        }
    }

    /// Whether the run did all that it was asked: nothing lost, and at the sources' end nothing left.
    /// A run that was stopped may leave frames in the spool: they are safe.
    pub fn is_complete(&self) -> bool {
        self.not_saved == 0
            && (!self.sources_ended || self.in_spool_frames == 0 && self.waiting_readings == 0)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "gateway {} boot {}", self.gateway, self.boot)?;
        let causes: Vec<_> =
            Drop::ALL.iter().map(|cause| format!("{} {}", cause.name(), self.dropped.get(*cause))).collect();
        writeln!(to, "produced  {} readings", self.produced)?;
        writeln!(to, "dropped   {} readings ({})", self.dropped.total(), causes.join(", "))?;
        writeln!(
            to,
            "sealed    {} readings in {} frames, {} bytes",
            self.sealed_readings, self.sealed_frames, self.sealed_bytes
        )?;
        writeln!(to, "recovered {} frames of former runs", self.recovered_frames)?;
        writeln!(to, "acked     {} readings in {} frames", self.acked_readings, self.acked_frames)?;
        write!(
            to,
            "in spool  {} readings in {} frames, {} bytes",
            self.in_spool_readings, self.in_spool_frames, self.in_spool_bytes
        )?;
        for (count, what) in [
            (self.damaged_frames, "damaged frames were stepped over"),
            (self.torn_bytes, "bytes of unfinished writes were cut off"),
            (self.poisoned_segments, "spool segments were given up after a failed write"),
            (self.refusals, "times the far end refused a frame"),
            (self.outages, "times the connection failed"),
            (self.clock_steps, "times the clock was stepped"),
            (self.waiting_readings, "readings wait on disk until the clock is set"),
            (self.dated_readings, "readings waited for the clock and went on with their date"),
            (self.undated_readings, "readings waited for the clock and went on without a date"),
            (self.not_saved, "readings were LOST: the disk refused them to the end"),
        ] {
            if count > 0 {
                write!(to, "\n{count} {what}")?;
            }
        }
        Ok(())
    }
}
