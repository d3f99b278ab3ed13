//! The directory with a meter: every byte and every fsync that the spool hands to the flash is counted.
//!
//! What is counted is what is asked of the disk; what the file system adds (journal, whole pages) is not
//! seen here.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::directory::{Directory, DirectoryFile};

pub(super) struct Disk<D> {
    directory: D,
    bytes_written: AtomicU64,
    fsyncs: AtomicU64,
}

impl<D: Directory> Disk<D> {
    pub fn new(directory: D) -> Self {
        Self { directory, bytes_written: AtomicU64::new(0), fsyncs: AtomicU64::new(0) }
    }

    /// Bytes handed to the disk by this run.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written.load(Relaxed)
    }

    /// Fsyncs asked of it by this run, of files and of the directory.
    pub fn fsyncs(&self) -> u64 {
        self.fsyncs.load(Relaxed)
    }

    pub fn names(&self) -> io::Result<Vec<String>> {
        self.directory.names()
    }

    pub fn open(&self, name: &str) -> io::Result<D::File> {
        self.directory.open(name)
    }

    pub fn edit(&self, name: &str) -> io::Result<D::File> {
        self.directory.edit(name)
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }

    /// Creates a file whose name is sure before this returns; on a failure it leaves none, if it can.
    pub fn create(&self, name: &str) -> io::Result<D::File> {
        let file = self.directory.create(name)?;
        if let Err(error) = self.sync_names() {
            self.directory.remove(name).ok();
            return Err(error);
        }
        Ok(file)
    }

    pub fn append(&self, file: &D::File, bytes: &[u8]) -> io::Result<()> {
        self.bytes_written.fetch_add(bytes.len() as u64, Relaxed);
        file.append(bytes)
    }

    pub fn sync(&self, file: &D::File) -> io::Result<()> {
        self.fsyncs.fetch_add(1, Relaxed);
        file.sync()
    }

    pub fn sync_names(&self) -> io::Result<()> {
        self.fsyncs.fetch_add(1, Relaxed);
        self.directory.sync()
    }

    /// A small file's content; `None` if it cannot be had: such files are advice.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.open(name).ok()?;
        let mut content = vec![0; usize::try_from(file.bytes().ok()?).ok()?];
        let mut filled = 0;
        while filled < content.len() {
            match file.read_at(&mut content[filled..], filled as u64).ok()? {
                0 => break,
                read => filled += read,
            }
        }
        content.truncate(filled);
        Some(content)
    }

    /// Replaces a small file by rename. Unless `durable`, a power cut may leave the old file, none, or
    /// any part of the new one.
    pub fn replace(&self, name: &str, content: &[u8], durable: bool) -> io::Result<()> {
        let temporary = format!("{name}.tmp");
        let file = match self.directory.create(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.directory.remove(&temporary)?;
                self.directory.create(&temporary)?
            }
            created => created?,
        };
        self.append(&file, content)?;
        if durable {
            self.sync(&file)?;
        }
        self.directory.rename(&temporary, name)?;
        if durable { self.sync_names() } else { Ok(()) }
    }
}
