//! The clock: certificates and the dates of readings depend on it, and nothing is sent before it is set.

use std::path::Path;

use super::Report;
use crate::clock::judge::FLOOR_MS;
use crate::clock::{Clock, ClockConfig, Look, date_utc};

/// Judges the clock as a run that starts now would.
pub(super) fn check(report: &mut Report, config: &ClockConfig, state_dir: &Path) {
    let mut clock = Clock::system(config, state_dir);
    let is_set = clock.is_set_now();
    say(report, is_set, &clock.last(), &state_dir.display().to_string());
}

fn say(report: &mut Report, is_set: bool, look: &Look, state_dir: &str) {
    let date = date_utc(look.wall_ms);
    if look.wall_ms < FLOOR_MS {
        report.fail(
            "clock",
            format!("it shows {date}, which is before this program was made: it is not set"),
            "start time synchronisation (systemd-timesyncd or chrony), or set it with `date -s`",
        );
    } else if is_set {
        report.ok("clock", format!("it shows {date}"));
    } else if look.marker == Some(false) {
        report.warn(
            "clock",
            format!("it shows {date}, and the file clock.set_marker is not there: readings wait on disk"),
            "look at time synchronisation: `timedatectl`; does it make that file on this system?",
        );
    } else {
        report.warn(
            "clock",
            format!("it shows {date}, and a former run saw a later time: readings wait on disk"),
            format!(
                "set it; if it is right and was far ahead then, delete the file clock in {state_dir}, or set clock.set_marker"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_clock_that_is_not_set_is_told_with_its_reason() {
        let mut report = Report::default();
        let look = |wall_ms, marker| Look { wall_ms, uptime_ms: 1, marker };
        say(&mut report, false, &look(86_400_000, None), "/s");
        say(&mut report, false, &look(FLOOR_MS, Some(false)), "/s");
        say(&mut report, false, &look(FLOOR_MS, None), "/s");
        say(&mut report, true, &look(FLOOR_MS, None), "/s");
        let verdicts: Vec<_> = report.findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::Fail, Verdict::Warn, Verdict::Warn, Verdict::Ok]);
        assert!(report.findings[0].what.contains("1970-01-02"));
        assert!(report.findings[1].what.contains("clock.set_marker"));
        assert!(report.findings[2].todo.contains("/s"));
    }

    #[test]
    fn a_note_of_a_later_time_is_believed_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let config = ClockConfig { set_marker: None, held_bytes_max: 1 << 20 };
        let check = |config: &ClockConfig| {
            let mut report = Report::default();
            check(&mut report, config, dir.path());
            report.findings[0].verdict
        };
        assert_eq!(check(&config), Verdict::Ok);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::write(dir.path().join("clock"), "99999999999999\n").unwrap();
        assert_eq!(check(&config), Verdict::Warn);
        let marked = ClockConfig { set_marker: Some("/proc/self/stat".into()), ..config };
        assert_eq!(check(&marked), Verdict::Ok);
    }
}
