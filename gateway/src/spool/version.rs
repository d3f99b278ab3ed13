//! The spool directory's format number, in the file `version`.
//!
//! Format 1 is all there is; a directory without the file is of format 1 too. A newer number is refused
//! before anything is touched. What is no number is a write that was cut: it is written again.

use super::SpoolError;
use super::directory::Directory;
use super::disk::Disk;

/// The format that is written, and the newest one read.
pub(crate) const FORMAT: u64 = 1;

const FILE: &str = "version";

/// The format, if it is one that this program does not know; else the file is there afterwards.
pub(super) fn check<D: Directory>(disk: &Disk<D>) -> Result<(), Newer> {
    let content = disk.read(FILE);
    let found = content
        .as_deref()
        .and_then(|content| std::str::from_utf8(content).ok()?.strip_suffix('\n')?.parse::<u64>().ok());
    match found {
        Some(format) if format > FORMAT => return Err(Newer { format }),
        Some(_) => {}
        None => {
            // Without the file the next start writes it: nothing depends on it until there is a format 2.
            if let Err(error) = disk.replace(FILE, format!("{FORMAT}\n").as_bytes(), true) {
                tracing::warn!(%error, "the spool's format was not noted");
            }
        }
    }
    Ok(())
}

/// A format that only a newer program knows.
pub(super) struct Newer {
    format: u64,
}

impl Newer {
    pub fn error(self, dir: &std::path::Path) -> SpoolError {
        SpoolError::Newer { dir: dir.into(), format: self.format }
    }
}
