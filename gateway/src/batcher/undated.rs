//! Frames that wait for the clock: sealed while it was not set, in a spool of their own that the uplink
//! never sees.
//!
//! Their readings' times count from the machine's boot. Once the clock is set, the gateway knows when
//! that was, notes it durably, and then gives each frame its date: a new header around the same body,
//! under the same identity. The same frame always becomes the same bytes, so that a crash on the way
//! costs a re-send and counts nothing twice.
//!
//! `runs` in the directory says for each run whose frames are here in which boot of the machine it was,
//! and once it is known when that boot was. A frame of an earlier boot that never saw a set clock cannot
//! be dated: it is passed on without a date, its readings flagged `CLOCK_UNSET`.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ingot_agent::Frame;

use super::batches::run_of_its_own;
use super::open::Open;
use crate::clock::{self, ClockConfig};
use crate::spool::{Classes, Place, Recovered, Spool, SpoolConfig, SpoolError};

/// The directory in the spool's.
pub const DIR: &str = "undated";

/// Runs without a set clock that are remembered; frames of an older one pass on without a date.
pub const RUNS_MAX: usize = 1_024;

/// Frames passed on between two looks at the sources.
pub const PASS_ON_FRAMES_MAX: usize = 16;

const RUNS_FILE: &str = "runs";

/// See the module.
pub struct Undated {
    spool: Arc<Classes>,
    runs_path: PathBuf,
    /// This boot of the machine.
    machine: String,
    /// Oldest first.
    runs: Vec<Run>,
    is_noted: bool,
    note_failed: bool,
    /// The time of sealing of frames whose run is not known; `None` until the clock is set.
    now_ms: Option<i64>,
}

/// A run of the gateway that began without a set clock.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    boot: u64,
    machine: String,
    date: Date,
}

/// What is known of the date of a run's uptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Date {
    /// Nothing yet.
    Waits,
    /// The machine booted at this time.
    Booted(i64),
    /// Nothing, for ever; its frames are passed on as if sealed at this time.
    Unknown(i64),
}

/// A frame on its way to the spool.
pub(super) struct Dated {
    place: Place,
    /// With its date.
    pub(super) bytes: Vec<u8>,
    pub(super) readings: u32,
    /// Whether its readings' times are known now.
    pub(super) has_date: bool,
}

impl Undated {
    /// Opens what former runs left, below the spool's directory. `machine` is this boot of the machine.
    /// Blocks.
    ///
    /// # Errors
    /// Another process holds it, or the directory cannot be used.
    pub fn open(
        spool: &SpoolConfig,
        config: &ClockConfig,
        machine: String,
    ) -> Result<(Self, Recovered), SpoolError> {
        let dir = spool.dir.join(DIR);
        let runs_path = dir.join(RUNS_FILE);
        let (spool, recovered) = Spool::open(SpoolConfig {
            dir,
            bytes_max: config.held_bytes_max,
            segment_bytes_max: spool.segment_bytes_max.min(config.held_bytes_max / 4),
            ..spool.clone()
        })?;
        let runs = read_runs(&runs_path);
        let undated = Self {
            spool: Arc::new(spool.into()),
            runs_path,
            machine,
            runs,
            is_noted: true,
            note_failed: false,
            now_ms: None,
        };
        Ok((undated, recovered))
    }

    /// Where the frames wait.
    pub fn spool(&self) -> &Arc<Classes> {
        &self.spool
    }

    /// A batch for readings without a date, as a run of its own: its frames' count has no holes.
    pub(super) fn start_run(&mut self, gateway: &str, state_dir: &Path) -> Option<Open> {
        let (open, boot) = run_of_its_own(gateway, state_dir)?;
        tracing::warn!(
            boot = format!("{boot:016x}"),
            "the clock is not set: readings wait on disk until it is"
        );
        self.runs.push(Run { boot, machine: self.machine.clone(), date: Date::Waits });
        self.runs.drain(..self.runs.len().saturating_sub(RUNS_MAX));
        self.is_noted = false;
        self.now_ms = None;
        Some(open)
    }

    /// Puts `runs` on disk if that is behind.
    pub(super) fn note_runs(&mut self) {
        if self.is_noted {
            return;
        }
        let done = clock::write_durably(&self.runs_path, write_runs(&self.runs).as_bytes());
        self.is_noted = done.is_ok();
        if let Err(error) = done
            && !std::mem::replace(&mut self.note_failed, true)
        {
            tracing::warn!(%error, "it could not be noted which boot frames without a date are of");
        }
    }

    /// The clock is set, and says when this boot of the machine was: notes it for every run of this
    /// boot, and that the others will never know.
    pub(super) fn clock_is_set(&mut self, booted_ms: i64, now_ms: i64) {
        if self.now_ms.is_none() {
            self.now_ms = Some(now_ms);
            for run in self.runs.iter_mut().filter(|run| run.date == Date::Waits) {
                let is_this_boot = run.machine == self.machine;
                run.date = if is_this_boot { Date::Booted(booted_ms) } else { Date::Unknown(now_ms) };
                self.is_noted = false;
            }
        }
        if self.spool.state().frames > 0 {
            self.note_runs();
        }
    }

    /// Whether frames wait that can be passed on now.
    pub(super) fn has_dates(&self) -> bool {
        self.now_ms.is_some() && self.is_noted && self.spool.state().frames > 0
    }

    /// The next frames to pass on, with their dates. They wait until [`Self::settle`].
    pub(super) fn take_dated(&self) -> io::Result<Vec<Dated>> {
        let mut frames = Vec::new();
        while frames.len() < PASS_ON_FRAMES_MAX {
            match self.spool.take(Instant::now(), PASS_ON_FRAMES_MAX) {
                Ok(Some((place, taken))) => frames.extend(self.date(place, &taken.bytes)),
                Ok(None) => break,
                Err(error) if frames.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(frames)
    }

    /// They are on disk in the spool, or they wait again.
    pub(super) fn settle(&mut self, frames: &[Dated], are_stored: bool) {
        for frame in frames {
            if are_stored {
                self.spool.ack(frame.place);
            } else {
                self.spool.give_back(frame.place, Instant::now());
            }
        }
        if !are_stored || self.spool.state().frames > 0 {
            return;
        }
        tracing::info!("all frames that waited for the clock are passed on");
        if self.spool.close().is_ok() && self.spool.state().bytes == 0 {
            self.runs.clear();
            // Left behind, it only names runs without frames.
            let _ = fs::remove_file(&self.runs_path);
        }
    }

    fn date(&self, place: Place, bytes: &[u8]) -> Option<Dated> {
        let mut copy = bytes.strip_suffix(&[0])?.to_vec();
        let frame = Frame::open(&mut copy).ok()?;
        let run = self.runs.iter().find(|run| run.boot == frame.boot());
        let uptime_ms = frame.uptime_ms();
        let (sealed_ms, uptime_ms) = match run.map(|run| run.date) {
            Some(Date::Booted(booted_ms)) => (booted_ms.saturating_add_unsigned(uptime_ms), uptime_ms),
            Some(Date::Unknown(sealed_ms)) => (sealed_ms, 0),
            Some(Date::Waits) | None => (self.now_ms?, 0),
        };
        let mut bytes = Vec::with_capacity(bytes.len() + 16);
        frame.sealed_at(sealed_ms, uptime_ms).write(|piece| bytes.extend_from_slice(piece)).ok()?;
        Some(Dated { place, bytes, readings: frame.readings(), has_date: uptime_ms > 0 })
    }
}

/// A line each: the gateway's boot, the machine's, and what is known of its date.
fn write_runs(runs: &[Run]) -> String {
    let mut text = String::new();
    for Run { boot, machine, date } in runs {
        let _ = match date {
            Date::Waits => writeln!(text, "{boot:016x} {machine} waits"),
            Date::Booted(ms) => writeln!(text, "{boot:016x} {machine} booted {ms}"),
            Date::Unknown(ms) => writeln!(text, "{boot:016x} {machine} unknown {ms}"),
        };
    }
    text
}

fn read_runs(path: &Path) -> Vec<Run> {
    fs::read_to_string(path).unwrap_or_default().lines().filter_map(read_run).collect()
}

/// `None` for a damaged line: its run's frames pass on without a date.
fn read_run(line: &str) -> Option<Run> {
    let mut words = line.split(' ');
    let boot = u64::from_str_radix(words.next()?, 16).ok()?;
    let machine = words.next()?.into();
    let date = match (words.next()?, words.next()) {
        ("waits", None) => Date::Waits,
        ("booted", Some(ms)) => Date::Booted(ms.parse().ok()?),
        ("unknown", Some(ms)) => Date::Unknown(ms.parse().ok()?),
        _ => return None,
    };
    Some(Run { boot, machine, date })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_read_back_and_a_damaged_line_costs_itself() {
        let run = |boot, date| Run { boot, machine: "df43a9bc-281f".into(), date };
        let runs =
            [run(1, Date::Waits), run(u64::MAX, Date::Booted(1_767_225_600_000)), run(3, Date::Unknown(-5))];
        let text = write_runs(&runs);
        let read = |text: &str| text.lines().filter_map(read_run).collect::<Vec<_>>();
        assert_eq!(read(&text), runs);
        assert_eq!(read(&text.replace("waits", "wait")), runs[1..]);
        assert_eq!(read("x\n\n1 m booted\n1 m booted 1x\n"), []);
    }
}
