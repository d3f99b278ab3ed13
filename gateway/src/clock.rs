//! The gateway's time: two clocks, and what may be said from them.
//!
//! The wall clock ([`now_ms`]) says which date it is, may be unset, and may step. The uptime
//! ([`uptime_ms`]) only ever runs forward and knows no date. Readings that the gateway stamps get the
//! uptime; the [`judge`] tells from looks at both when the machine booted, and so which date an uptime is.

pub mod boot;
pub mod judge;
mod text;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

pub use boot::{machine_boot, next_boot};
pub use judge::{Judge, Look, News};
pub use text::{date_utc, parse_rfc3339_ms};

pub(crate) use boot::write_durably;

/// The last time that was seen while the clock was set, in the spool's directory.
const NOTE_FILE: &str = "clock";

/// How to know that the clock is set, and how much may wait until it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockConfig {
    /// A file that is there once the clock is set; e.g. systemd-timesyncd makes one.
    pub set_marker: Option<PathBuf>,
    /// Cap on the frames that wait for the clock, in bytes.
    pub held_bytes_max: u64,
}

/// The wall clock: milliseconds since 1970-01-01 UTC.
pub fn now_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// Milliseconds since the machine booted, suspension included, at least 1 (`CLOCK_BOOTTIME`). One clock
/// for all processes until the next boot; nobody can set it.
pub fn uptime_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    (time.tv_sec.unsigned_abs() * 1_000 + time.tv_nsec.unsigned_abs() / 1_000_000).max(1)
}

/// The machine's clocks under the judge's eyes, and its memory of them on disk.
pub struct Clock {
    read: Box<dyn FnMut() -> Look + Send>,
    judge: Judge,
    last: Look,
    note: PathBuf,
}

impl Clock {
    /// The machine's clocks. What was noted in `state_dir` is the time that cannot come again.
    pub fn system(config: &ClockConfig, state_dir: &Path) -> Self {
        let marker = config.set_marker.clone();
        let read = move || Look {
            wall_ms: now_ms(),
            uptime_ms: uptime_ms(),
            marker: marker.as_ref().map(|path| path.exists()),
        };
        Self::new(read, state_dir)
    }

    /// The same over any clocks.
    pub fn new(mut read: impl FnMut() -> Look + Send + 'static, state_dir: &Path) -> Self {
        let note = state_dir.join(NOTE_FILE);
        let noted = std::fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok());
        Self { last: read(), read: Box::new(read), judge: Judge::new(noted), note }
    }

    /// Looks at the clocks; says what is new, in the log too.
    pub fn look(&mut self) -> News {
        self.last = (self.read)();
        let news = self.judge.look(&self.last);
        match news {
            News::Same => {}
            News::Set => tracing::info!(date = date_utc(self.last.wall_ms), "the clock is set"),
            News::Unset => tracing::warn!(
                wall_ms = self.last.wall_ms,
                "the clock was set and is not any more; readings are held until it is"
            ),
            News::Stepped { ms } => tracing::warn!(step_ms = ms, "the clock was stepped"),
        }
        if self.judge.should_note(self.last.wall_ms) {
            self.write_note();
        }
        news
    }

    /// Whether the clock is set at this very moment; changes nothing.
    pub fn is_set_now(&mut self) -> bool {
        let look = (self.read)();
        self.judge.is_set_at(&look)
    }

    /// The last look.
    pub fn last(&self) -> Look {
        self.last
    }

    /// What the looks say.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// Notes the time for the next run.
    pub fn close(&mut self) {
        if self.judge.booted_ms().is_some() {
            self.write_note();
        }
    }

    fn write_note(&mut self) {
        self.judge.noted(self.last.wall_ms);
        if let Err(error) = write_durably(&self.note, format!("{}\n", self.last.wall_ms).as_bytes()) {
            tracing::warn!(%error, "the time was not noted; after a restart an older one may pass for set");
        }
    }
}
