//! The seam between the spool and the disk: one directory, flat, of append-only files.
//!
//! Two exist: [`Files`], which the daemon uses, and the crash-simulating disk of the tests, which fails or
//! loses power at any step. What this trait promises is what POSIX does, no more: a write or a truncation
//! is sure after the file's sync, a created, renamed or removed name after the directory's sync, and a
//! failed append may have written any prefix.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::SpoolError;

/// A flat directory of files. Names are plain: no `/`.
pub trait Directory: Send + Sync + 'static {
    /// An open file in it.
    type File: DirectoryFile;

    /// The names of its regular files, in any order; names that are not UTF-8 are left out.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Creates a file that must not exist yet, to append to.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file to read.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file to append to or to truncate.
    fn edit(&self, name: &str) -> io::Result<Self::File>;
    /// Renames a file over whatever has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals sure.
    fn sync(&self) -> io::Result<()>;
}

/// An open file of a [`Directory`].
pub trait DirectoryFile: Send + Sync + 'static {
    /// Its length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Reads at an offset; 0 at the end.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of it at the end, or fails after any prefix.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts it to this length.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Makes content and length sure.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the file system, locked by this process as long as this lives.
pub struct Files {
    dir: PathBuf,
    _lock: File,
}

impl Files {
    /// Makes the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// Another process holds it, or it cannot be written.
    pub fn open(dir: &Path) -> Result<Self, SpoolError> {
        let io_error = |source| SpoolError::Io { dir: dir.into(), source };
        if !dir.exists() {
            fs::create_dir_all(dir).map_err(io_error)?;
            // A power cut must not take a new directory with all that is synced in it.
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))
                .and_then(|parent| parent.sync_all())
                .map_err(io_error)?;
        }
        let lock = File::create(dir.join("lock")).map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.into(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(SpoolError::Locked { dir: dir.into() }),
            Err(TryLockError::Error(source)) => Err(io_error(source)),
        }
    }
}

impl Directory for Files {
    type File = File;

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_file())
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        File::options().append(true).create_new(true).open(self.dir.join(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.dir.join(name))
    }

    fn edit(&self, name: &str) -> io::Result<File> {
        File::options().append(true).open(self.dir.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

impl DirectoryFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self;
        file.write_all(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
