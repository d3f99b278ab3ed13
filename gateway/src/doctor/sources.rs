//! What the sources read from: are the device files there, and may this user open them?

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid, getgroups};

use super::Report;
use crate::config::SourceConfig;
use crate::source::i2c::Bus;

pub(super) fn check(report: &mut Report, sources: &[SourceConfig]) {
    if sources.is_empty() {
        report.warn("source", "there is none", "add a [[source]]");
    }
    for source in sources {
        match device(source) {
            Some(path) => open(report, &path),
            None => report.ok("source", summary(source)),
        }
    }
}

/// The device file that a source reads from, if it is one.
fn device(source: &SourceConfig) -> Option<PathBuf> {
    match source {
        SourceConfig::I2c(i2c) => match &i2c.bus {
            Bus::Linux(path) => Some(path.clone()),
            Bus::Simulated { .. } => None,
        },
        SourceConfig::Ndjson { .. } => None,
    }
}

fn summary(source: &SourceConfig) -> String {
    match source {
        SourceConfig::Ndjson { .. } => "readings on standard input".into(),
        SourceConfig::I2c(i2c) => i2c.bus.to_string(),
    }
}

fn open(report: &mut Report, path: &Path) {
    let shown = path.display();
    match fs::File::options().read(true).write(true).open(path) {
        Ok(_) => report.ok("source", format!("{shown} can be opened")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => report.fail(
            "source",
            format!("{shown} is not there"),
            "is the device plugged in? for I2C: `raspi-config` or `modprobe i2c-dev`; names: `ls /dev`",
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let (what, todo) = denied(path);
            report.fail("source", what, todo);
        }
        Err(error) => report.fail("source", format!("{shown}: {error}"), "is another program using it?"),
    }
}

/// Which group would be let in, and whether this user is in it.
fn denied(path: &Path) -> (String, String) {
    let user = user();
    let Ok(found) = fs::metadata(path) else {
        return (
            format!("{} is in a directory that {user} may not enter", path.display()),
            "`chmod` the directory".into(),
        );
    };
    let group = group_name(found.gid()).unwrap_or_else(|| found.gid().to_string());
    let groups = getgroups().unwrap_or_default();
    let member = getegid().as_raw() == found.gid() || groups.iter().any(|gid| gid.as_raw() == found.gid());
    let what = format!(
        "{} may not be opened by {user}: it is the group {group}'s (mode {:o})",
        path.display(),
        found.mode() & 0o777
    );
    let todo = if member {
        format!("`chmod g+rw {}`, by a udev rule so that it stays", path.display())
    } else {
        format!("`usermod -aG {group} <the gateway's user>`, then restart it")
    };
    (what, todo)
}

/// The user as which this runs.
pub(super) fn user() -> String {
    let id = geteuid().as_raw();
    name_in("/etc/passwd", id).map_or_else(|| format!("user {id}"), |name| format!("user {name}"))
}

fn group_name(id: u32) -> Option<String> {
    name_in("/etc/group", id)
}

/// passwd(5) and group(5) both have the name first and the number third.
fn name_in(file: &str, id: u32) -> Option<String> {
    fs::read_to_string(file).ok()?.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn missing_and_forbidden_devices_are_told_apart() {
        let mut report = Report::default();
        open(&mut report, Path::new("/dev/no-such-bus"));
        open(&mut report, Path::new("/dev/null"));
        assert!(report.findings[0].what.contains("is not there"), "{report}");
        assert_eq!(report.findings[1].verdict, Verdict::Ok);
        let (what, todo) = denied(Path::new("/dev/null"));
        assert!(what.contains("/dev/null") && what.contains("group"), "{what}");
        assert!(todo.contains("chmod") || todo.contains("usermod"), "{todo}");
    }

    #[test]
    fn users_and_groups_have_names() {
        assert_eq!(name_in("/etc/passwd", 0).as_deref(), Some("root"));
        assert_eq!(name_in("/etc/passwd", u32::MAX), None);
    }
}
