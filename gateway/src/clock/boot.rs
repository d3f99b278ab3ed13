//! Which run this is: the gateway's own boot id, and the machine's.
//!
//! A boot id never repeats: its upper half counts this spool directory's runs on disk, its lower half
//! is random, so that a lost or copied directory does not repeat one either.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

const BOOT_FILE: &str = "boot";

/// Where Linux says which boot of the machine this is.
const MACHINE_BOOT_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// A new boot id, at most `i64::MAX`; the count in `state_dir` is on disk before it is used.
///
/// # Errors
/// The count could not be written. An unreadable count starts again from 0: the random half still
/// keeps the id new.
pub fn next_boot(state_dir: &Path) -> io::Result<u64> {
    let path = state_dir.join(BOOT_FILE);
    let runs: u32 = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let run = runs.wrapping_add(1) & 0x7fff_ffff;
    write_durably(&path, format!("{run}\n").as_bytes())?;
    Ok(u64::from(run) << 32 | u64::from(fastrand::u32(..)))
}

/// Replaces a small file so that after a power cut either the old or the new content is there.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// This boot of the machine: within one, [`super::uptime_ms`] of all processes is one clock. Where the
/// system does not tell, it is a new one for each run.
pub fn machine_boot() -> String {
    let told = fs::read_to_string(MACHINE_BOOT_FILE).unwrap_or_default();
    let told = told.trim();
    let is_id =
        (1..=64).contains(&told.len()) && told.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_id { told.into() } else { format!("{:032x}", fastrand::u128(..)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn boots_rise_and_outlive_a_damaged_count() {
        let dir = tempfile::tempdir().unwrap();
        let first = next_boot(dir.path()).unwrap();
        let second = next_boot(dir.path()).unwrap();
        assert!(first < second && i64::try_from(second).is_ok());
        fs::write(dir.path().join(BOOT_FILE), b"\xff\xfe").unwrap();
        assert_ne!(next_boot(dir.path()).unwrap(), first);
    }
}
