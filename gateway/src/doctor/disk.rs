//! Directories: the spool's and a lake's on disk. Are they there, may we write, is there room?

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use rustix::fs::statvfs;

use super::Report;
use crate::health::page::bytes;
use crate::spool::{FORMAT, SpoolConfig, classes};

/// Written and removed to see whether the directory takes a file.
const PROBE: &str = "doctor.tmp";

/// Looks at the spool's directory; `true` if a gateway runs on it.
pub(super) fn check(report: &mut Report, spool: &SpoolConfig) -> bool {
    let dir = &spool.dir;
    let Some(there) = existing(dir) else {
        report.fail("spool", format!("{} has no existing parent", dir.display()), "set spool.dir");
        return false;
    };
    if let Err(error) = probe(there) {
        let (what, todo) = in_words(there, &error);
        report.fail("spool", what, todo);
        return false;
    }
    let priority = dir.join(classes::DIR);
    let newer = [dir, &priority].into_iter().find_map(|dir| Some((dir, newer_format(dir)?)));
    if let Some((dir, format)) = newer {
        report.fail(
            "spool",
            format!("{} is of format {format}, this program reads up to {FORMAT}", dir.display()),
            "a newer ingot-gateway wrote it: install that one again, or let it drain the spool first",
        );
        return false;
    }
    let running = is_locked(&dir.join("lock"));
    report.ok(
        "spool",
        match (there == dir, running) {
            (false, _) => format!("{} is made at the first start", dir.display()),
            (true, true) => format!("{} can be written; a gateway runs on it", dir.display()),
            (true, false) => format!("{} can be written; no gateway runs on it", dir.display()),
        },
    );
    match statvfs(there) {
        Ok(disk) => {
            room(report, spool, disk.f_bavail.saturating_mul(disk.f_frsize), held(dir) + held(&priority))
        }
        Err(error) => report.warn("disk space", format!("the system does not tell it: {error}"), ""),
    }
    running
}

/// Looks at a lake's directory.
pub(super) fn check_lake(report: &mut Report, root: &Path) {
    match existing(root).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)).and_then(probe) {
        Ok(()) => report.ok("lake", format!("{} can be written", root.display())),
        Err(error) => {
            let (what, todo) = in_words(root, &error);
            report.fail("lake", what, todo);
        }
    }
}

/// `free` bytes on the disk and what the spool already holds, against its cap.
fn room(report: &mut Report, spool: &SpoolConfig, free: u64, held: u64) {
    let found = format!("{} free, {} in the spool, cap {}", bytes(free), bytes(held), bytes(spool.bytes_max));
    if free < spool.segment_bytes_max {
        report.fail(
            "disk space",
            format!("{found}: not even one segment of {} fits", bytes(spool.segment_bytes_max)),
            "free space on this disk, or move spool.dir to another one",
        );
    } else if free.saturating_add(held) < spool.bytes_max {
        report.warn(
            "disk space",
            format!("{found}: the disk is full before the cap is reached"),
            format!("set spool.bytes_max to at most {}, or free space", free.saturating_add(held) / 10 * 9),
        );
    } else {
        report.ok("disk space", found);
    }
}

/// The directory, or the nearest one above it that is there.
fn existing(dir: &Path) -> Option<&Path> {
    dir.ancestors()
        .map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path })
        .find(|path| path.exists())
}

fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join(PROBE);
    let written = fs::write(&path, b"probe").and_then(|()| File::open(&path)?.sync_all());
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// The format of a spool that a newer program wrote.
fn newer_format(dir: &Path) -> Option<u64> {
    let version = fs::read_to_string(dir.join("version")).ok()?;
    version.trim().parse().ok().filter(|format| *format > FORMAT)
}

fn is_locked(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn held(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok()).filter(|file| file.is_file());
    files.map(|file| file.len()).sum()
}

fn in_words(dir: &Path, error: &io::Error) -> (String, String) {
    let dir = dir.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => (
            format!("{dir}: {} may not write here", super::device::user()),
            format!("run doctor as the gateway's user; if it is that, `chown` {dir} to it"),
        ),
        io::ErrorKind::ReadOnlyFilesystem => (
            format!("{dir}: the file system is mounted read-only"),
            "a worn or damaged card does this by itself: look at `dmesg`, then `mount -o remount,rw`, or replace it"
                .into(),
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (format!("{dir}: the disk is full"), "free space, or move the directory to another disk".into())
        }
        io::ErrorKind::NotADirectory => (format!("{dir} is a file"), "give a directory".into()),
        io::ErrorKind::NotFound => (format!("{dir} is not there"), "create it".into()),
        _ => (format!("{dir}: {error}"), "look at `dmesg` for what the disk says".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::doctor::Verdict;
    use crate::spool::{Spool, WhenFull};

    fn spool(dir: &Path) -> SpoolConfig {
        SpoolConfig {
            dir: dir.into(),
            bytes_max: 1 << 20,
            segment_bytes_max: 1 << 16,
            fsync_interval_ms: 0,
            when_full: WhenFull::Refuse,
            live_share_percent: 20,
            live_lag_ms_max: 30_000,
        }
    }

    #[test]
    fn a_good_directory_is_told_from_one_in_use_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = Report::default();
        assert!(!check(&mut report, &spool(&dir.path().join("a/b"))));
        assert!(report.findings[0].what.contains("made at the first start"));
        let opened = Spool::open(spool(dir.path())).unwrap();
        assert!(check(&mut report, &spool(dir.path())));
        assert!(!report.has_failed(), "{report}");
        assert!(!dir.path().join(PROBE).exists());
        drop(opened);
        assert!(!check(&mut report, &spool(dir.path())));
        fs::write(dir.path().join("version"), "2\n").unwrap();
        let mut report = Report::default();
        check(&mut report, &spool(dir.path()));
        assert!(report.has_failed() && report.findings[0].what.contains("format 2"), "{report}");
        fs::create_dir(dir.path().join(classes::DIR)).unwrap();
        fs::rename(dir.path().join("version"), dir.path().join(classes::DIR).join("version")).unwrap();
        let mut report = Report::default();
        check(&mut report, &spool(dir.path()));
        assert!(
            report.has_failed() && report.findings[0].what.contains("priority is of format 2"),
            "{report}"
        );
    }

    #[test]
    fn each_trouble_of_a_directory_has_its_words() {
        for (kind, part) in [
            (io::ErrorKind::PermissionDenied, "may not write"),
            (io::ErrorKind::ReadOnlyFilesystem, "read-only"),
            (io::ErrorKind::StorageFull, "full"),
        ] {
            let (what, todo) = in_words(Path::new("/spool"), &kind.into());
            assert!(what.contains(part) && what.contains("/spool") && !todo.is_empty(), "{what}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let mut report = Report::default();
        check(&mut report, &spool(&file));
        assert!(report.has_failed() && report.findings[0].what.contains("is a file"), "{report}");
        check_lake(&mut report, Path::new("/proc/no/lake"));
        assert_eq!(report.findings[1].verdict, Verdict::Fail);
    }

    #[test]
    fn free_space_is_held_against_the_cap() {
        let spool = spool(Path::new("/spool"));
        let mut report = Report::default();
        for (free, held) in [(1 << 20, 0), (1 << 19, 1 << 19), (1 << 19, 1), (1 << 15, 1 << 20)] {
            room(&mut report, &spool, free, held);
        }
        let verdicts: Vec<_> = report.findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Ok, Verdict::Warn, Verdict::Fail], "{report}");
    }
}
