//! Device files: are they there, and may this user open them?

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::process::{getegid, geteuid, getgroups};

use super::Report;

/// Opens a device that does not mind.
pub(super) fn open(report: &mut Report, path: &Path) {
    let opened = fs::File::options().read(true).write(true).open(path).map(|_| "can be opened");
    say(report, path, opened, "for I2C: `raspi-config` or `modprobe i2c-dev`; names: `ls /dev`");
}

/// A serial line. It is not opened: that moves its control lines, which restarts many microcontrollers.
pub(super) fn serial(report: &mut Report, path: &Path) {
    let is_device = fs::metadata(path).and_then(|found| {
        let may = Access::READ_OK | Access::WRITE_OK;
        access(path, may)?;
        if found.file_type().is_char_device() {
            Ok("may be opened")
        } else {
            Err(io::Error::other("it is no device"))
        }
    });
    say(
        report,
        path,
        is_device,
        "names: `ls -l /dev/serial/by-id/`; after a first adapter restart the service",
    );
}

fn say(report: &mut Report, path: &Path, found: io::Result<&str>, where_to_look: &str) {
    let shown = path.display();
    match found {
        Ok(how) => report.ok("source", format!("{shown} {how}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => report.fail(
            "source",
            format!("{shown} is not there"),
            format!("is the device plugged in? {where_to_look}"),
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
        serial(&mut report, Path::new("/dev/serial/by-id/no-such-port"));
        serial(&mut report, Path::new("/dev/null"));
        serial(&mut report, Path::new("/proc"));
        assert!(report.findings[2].todo.contains("by-id"), "{report}");
        assert_eq!(report.findings[3].verdict, Verdict::Ok);
        assert_eq!(report.findings[4].verdict, Verdict::Fail);
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
