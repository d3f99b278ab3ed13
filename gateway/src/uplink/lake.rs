//! Straight to bronze: each frame becomes its object below a local directory, without a broker.
//!
//! An object is written beside its place, synced, and linked into it, so that nobody sees a part of it
//! and none is ever overwritten. An object that is there with the same bytes is a success (a re-send);
//! with other bytes it is a conflict: refused, counted, and the frame stays in the spool.

use std::fs::{self, File};
use std::future::Future;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::limits::Limits;
use super::{ConnectError, SendError, Uplink};
use crate::spool::Spooled;

/// Where the lake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeConfig {
    /// The lake's directory, of `file:///…`; made if it is missing.
    pub root: PathBuf,
}

/// Bronze objects below a directory.
pub struct Lake {
    root: PathBuf,
}

impl Lake {
    /// A lake that is opened at the first connect.
    pub fn new(config: LakeConfig) -> Self {
        Self { root: config.root }
    }
}

impl Uplink for Lake {
    fn in_flight_max(&self) -> usize {
        4
    }

    fn limits(&self) -> Limits {
        Limits::NONE
    }

    fn silence_max(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn connect(&mut self) -> Result<(), ConnectError> {
        let root = &self.root;
        tokio::fs::create_dir_all(root)
            .await
            .map_err(|error| ConnectError(format!("the lake {} cannot be made: {error}", root.display())))
    }

    fn send(&self, frame: Spooled) -> impl Future<Output = Result<(), SendError>> + Send + 'static {
        let object = self.root.join(frame.identity.object_key());
        async move {
            let put = tokio::task::spawn_blocking(move || put(&object, &frame.bytes)).await;
            match put {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(SendError::Refused(error.to_string())),
                Err(_) => Err(SendError::Lost),
            }
        }
    }
}

/// Why an object was not written.
#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error("{} is there with other bytes and is not overwritten", .0.display())]
    Conflict(PathBuf),
    #[error("{} cannot be written: {source}", object.display())]
    Io { object: PathBuf, source: io::Error },
}

fn put(object: &Path, bytes: &[u8]) -> Result<(), PutError> {
    let io_error = |source| PutError::Io { object: object.into(), source };
    match fs::read(object) {
        // It may be there without being durable: a kill may have come before the directory's sync.
        Ok(there) => return same(object, &there, bytes).and_then(|()| sync_dirs(object).map_err(io_error)),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io_error(error)),
    }
    let dir = object.parent().unwrap_or(Path::new("/"));
    create_dir_durably(dir).map_err(io_error)?;
    // A name of its own: two gateways may share the lake, and a crash may leave one behind.
    let temporary = dir.join(format!(".{:016x}.tmp", fastrand::u64(..)));
    let linked = write_synced(&temporary, bytes).and_then(|()| fs::hard_link(&temporary, object));
    let removed = fs::remove_file(&temporary);
    match linked {
        Ok(()) => removed.and_then(|()| File::open(dir)?.sync_all()).map_err(io_error),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            same(object, &fs::read(object).map_err(io_error)?, bytes)?;
            sync_dirs(object).map_err(io_error)
        }
        Err(error) => Err(io_error(error)),
    }
}

fn same(object: &Path, there: &[u8], bytes: &[u8]) -> Result<(), PutError> {
    if there == bytes { Ok(()) } else { Err(PutError::Conflict(object.into())) }
}

/// Syncs the object's directory and the three above it, down from `bronze`.
fn sync_dirs(object: &Path) -> io::Result<()> {
    object.ancestors().skip(1).take(4).try_for_each(|dir| File::open(dir)?.sync_all())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a directory so that it outlives a power cut: each new one is synced into its parent.
fn create_dir_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new("/"));
    create_dir_durably(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => File::open(parent)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_object_is_written_once_and_never_overwritten() {
        let lake = tempfile::tempdir().unwrap();
        let object = lake.path().join("bronze/dt=2026-01-01/x.ingot");
        put(&object, b"frame").unwrap();
        put(&object, b"frame").unwrap();
        let conflict = put(&object, b"other").unwrap_err();
        assert!(matches!(conflict, PutError::Conflict(_)), "{conflict}");
        assert_eq!(fs::read(&object).unwrap(), b"frame");
        let names: Vec<_> =
            fs::read_dir(object.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["x.ingot"]);
    }

    #[test]
    fn a_lake_that_cannot_be_written_is_an_error_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = put(&file.path().join("x.ingot"), b"frame").unwrap_err().to_string();
        assert!(error.contains("x.ingot"), "{error}");
    }
}
