//! Is the clock set, and when did the machine boot by it? Pure: looks are arguments.
//!
//! A clock counts as set when it is past [`FLOOR_MS`] and, where a marker file is configured, the file is
//! there; without one it must be past the last time noted by a former run, or have been stepped before our
//! eyes: then somebody set it, and it is the note that was wrong. Once set in a run, it stays so until it
//! falls below the floor: a step is told, it is no reason to doubt.
//!
//! Limit: a board that starts at a made-up later time (the time of its last shutdown, a battery clock
//! gone wrong) is believed unless a marker is configured.

/// No clock that is right shows less: 2026-01-01 UTC, before this program was first built.
pub const FLOOR_MS: i64 = 1_767_225_600_000;

/// A clock that moved by more than this is stepped and not slewed (`STEPT` of RFC 5905: 0.128 s) ...
pub const STEP_MS_MIN: i64 = 128;

/// ... plus what slewing may do meanwhile, in millionths (RFC 5905: at most 500 ppm).
pub const SLEW_PPM_MAX: u64 = 500;

/// A slewed clock is followed in moves of at least this, so that regular readings keep regular times.
pub const FOLLOW_MS_MIN: i64 = 10;

/// The time is noted on disk at most this often: flash wears.
pub const NOTE_MS_MIN: i64 = 3_600_000;

/// One look at the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The wall clock: milliseconds since 1970-01-01 UTC.
    pub wall_ms: i64,
    /// Milliseconds since the machine's boot.
    pub uptime_ms: u64,
    /// Whether the marker file is there; `None`: none is configured.
    pub marker: Option<bool>,
}

/// What a look told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// As before.
    Same,
    /// The clock is set now.
    Set,
    /// The clock is not set any more.
    Unset,
    /// It is set and was moved.
    Stepped {
        /// By how much, in milliseconds; below 0: backwards.
        ms: i64,
    },
}

/// What the looks of a run say together.
#[derive(Clone, Debug)]
pub struct Judge {
    noted_ms: Option<i64>,
    booted_ms: Option<i64>,
    last: Option<Look>,
    /// It was stepped in this run, to a time past the floor.
    was_stepped: bool,
    steps: u64,
    step_ms: i64,
}

impl Judge {
    /// Nothing seen yet. `noted_ms` is what a former run noted.
    pub fn new(noted_ms: Option<i64>) -> Self {
        Self { noted_ms, booted_ms: None, last: None, was_stepped: false, steps: 0, step_ms: 0 }
    }

    /// When the machine booted by the wall clock: what to add to an uptime. `None`: it is not set.
    pub fn booted_ms(&self) -> Option<i64> {
        self.booted_ms
    }

    /// Steps while it was set.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The size of the last step, in milliseconds; 0: none.
    pub fn step_ms(&self) -> i64 {
        self.step_ms
    }

    /// Whether the clock counts as set at this look.
    pub fn is_set_at(&self, look: &Look) -> bool {
        let is_later = self.noted_ms.is_none_or(|noted_ms| look.wall_ms >= noted_ms);
        let seems_set = is_later || self.was_stepped || self.step(look).is_some();
        look.wall_ms >= FLOOR_MS && (self.booted_ms.is_some() || look.marker.unwrap_or(seems_set))
    }

    /// By how much the clock was stepped since the last look.
    fn step(&self, look: &Look) -> Option<i64> {
        let last = self.last?;
        let elapsed_ms = look.uptime_ms.saturating_sub(last.uptime_ms);
        let slewed_ms = elapsed_ms.saturating_mul(SLEW_PPM_MAX) / 1_000_000;
        // What was followed in small moves since is measured from there.
        let ms = booted_ms(look).saturating_sub(self.booted_ms.unwrap_or(booted_ms(&last)));
        (ms.unsigned_abs() > slewed_ms.saturating_add(STEP_MS_MIN.unsigned_abs())).then_some(ms)
    }

    /// Takes a look.
    pub fn look(&mut self, look: &Look) -> News {
        let step = self.step(look);
        let now = self.is_set_at(look).then(|| booted_ms(look));
        self.was_stepped = look.wall_ms >= FLOOR_MS && (self.was_stepped || step.is_some());
        self.last = Some(*look);
        let before = std::mem::replace(&mut self.booted_ms, now);
        match (before, now, step) {
            (None, None, _) => News::Same,
            (None, Some(_), _) => News::Set,
            (Some(_), None, _) => News::Unset,
            (Some(_), Some(_), Some(ms)) => {
                self.steps += 1;
                self.step_ms = ms;
                News::Stepped { ms }
            }
            (Some(before), Some(now), None) => {
                if now.abs_diff(before) < FOLLOW_MS_MIN.unsigned_abs() {
                    self.booted_ms = Some(before);
                }
                News::Same
            }
        }
    }

    /// Whether this time is to be noted: it is set, and the note is old, or later than the clock.
    pub fn should_note(&self, wall_ms: i64) -> bool {
        let is_due = |noted_ms: i64| wall_ms < noted_ms || wall_ms.saturating_sub(noted_ms) >= NOTE_MS_MIN;
        self.booted_ms.is_some() && self.noted_ms.is_none_or(is_due)
    }

    /// It was noted.
    pub fn noted(&mut self, wall_ms: i64) {
        self.noted_ms = Some(wall_ms);
    }
}

/// When the machine booted by the wall clock of this look.
fn booted_ms(look: &Look) -> i64 {
    look.wall_ms.saturating_sub_unsigned(look.uptime_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = FLOOR_MS + 10_000_000_000;

    fn look(wall_ms: i64, uptime_ms: u64) -> Look {
        Look { wall_ms, uptime_ms, marker: None }
    }

    #[test]
    fn a_clock_is_set_above_the_floor_and_the_note_or_where_the_marker_says_so() {
        let is_set = |noted, wall_ms, marker| {
            Judge::new(noted).look(&Look { wall_ms, uptime_ms: 5, marker }) == News::Set
        };
        for (noted, wall_ms, marker, expected) in [
            (None, 5, None, false),
            (None, FLOOR_MS - 1, Some(true), false),
            (None, FLOOR_MS, None, true),
            (Some(NOW_MS), NOW_MS - 1, None, false),
            (Some(NOW_MS), NOW_MS, None, true),
            (None, NOW_MS, Some(false), false),
            // A wrong note must not lock a gateway out whose time is known to be right.
            (Some(NOW_MS), NOW_MS - 1, Some(true), true),
        ] {
            assert_eq!(is_set(noted, wall_ms, marker), expected, "{noted:?} {wall_ms} {marker:?}");
        }
    }

    #[test]
    fn a_clock_from_1970_is_set_once_and_knows_when_the_machine_booted() {
        let mut judge = Judge::new(None);
        assert_eq!(judge.look(&look(100, 100)), News::Same);
        assert_eq!((judge.booted_ms(), judge.look(&look(NOW_MS, 60_000))), (None, News::Set));
        assert_eq!(judge.booted_ms(), Some(NOW_MS - 60_000));
        assert_eq!((judge.steps(), judge.look(&look(90_000, 90_000))), (0, News::Unset));
    }

    #[test]
    fn a_wrong_note_does_not_hold_against_a_clock_that_is_seen_to_be_set() {
        let mut judge = Judge::new(Some(NOW_MS + 86_400_000));
        assert_eq!(judge.look(&look(NOW_MS - 5_000, 1_000)), News::Same, "a stale clock at the start");
        assert_eq!(judge.look(&look(NOW_MS - 4_000, 2_000)), News::Same, "that goes on");
        assert_eq!(judge.look(&look(NOW_MS, 3_000)), News::Set);
        assert!(judge.should_note(NOW_MS), "the wrong note is replaced");
    }

    #[test]
    fn steps_are_told_with_their_size_and_slewing_is_followed() {
        let mut judge = Judge::new(None);
        judge.look(&look(NOW_MS, 0));
        for (moved_ms, news) in [
            (9, News::Same),
            (100, News::Same),
            (228, News::Same),
            (3 * 86_400_000, News::Stepped { ms: 3 * 86_400_000 - 228 }),
            (3 * 86_400_000 - 600_000, News::Stepped { ms: -600_000 }),
        ] {
            assert_eq!(judge.look(&look(NOW_MS + 1_000 + moved_ms, 1_000)), news, "{moved_ms}");
        }
        assert_eq!((judge.steps(), judge.step_ms()), (2, -600_000));
        // Away for an hour: 1.8 s may be slewing.
        let hour = look(NOW_MS + 3_601_000 + 3 * 86_400_000 - 600_000 + 1_900, 3_601_000);
        assert_eq!(judge.look(&hour), News::Same);
    }

    #[test]
    fn the_time_is_noted_once_an_hour_and_after_a_step_back() {
        let mut judge = Judge::new(Some(NOW_MS));
        assert!(!judge.should_note(NOW_MS + NOTE_MS_MIN), "not set yet");
        judge.look(&look(NOW_MS, 0));
        assert!(!judge.should_note(NOW_MS + NOTE_MS_MIN - 1) && judge.should_note(NOW_MS + NOTE_MS_MIN));
        assert!(judge.should_note(NOW_MS - 1));
        judge.noted(NOW_MS - 1);
        assert!(!judge.should_note(NOW_MS - 1));
    }
}
