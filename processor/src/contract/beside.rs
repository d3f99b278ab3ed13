//! The files beside a contract: named by a relative path that stays below the contract's folder, and
//! bounded in size. What was read is kept, for the contract's fingerprint.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

/// Most bytes of one file beside a contract.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The folder of a contract, if it has one.
pub(super) struct Beside<'a> {
    folder: Option<&'a Path>,
    read: Vec<Vec<u8>>,
}

impl<'a> Beside<'a> {
    pub(super) fn new(folder: Option<&'a Path>) -> Self {
        Self { folder, read: Vec::new() }
    }

    /// The file's bytes, or what is wrong with it.
    pub(super) fn open(&mut self, name: &str) -> Result<&[u8], Vec<String>> {
        let bytes = self.bytes(name).map_err(|problem| vec![format!("file {name}: {problem}")])?;
        self.read.push(bytes);
        Ok(self.read.last().map_or(&[], Vec::as_slice))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, String> {
        let folder = self.folder.ok_or("this contract stands in no folder; write its rows here")?;
        let path = Path::new(name);
        if name.is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err("it must be a path below the contract's folder, without ..".into());
        }
        let mut bytes = Vec::new();
        File::open(folder.join(path))
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| error.to_string())?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("it has more than {FILE_BYTES_MAX} bytes; a reference is a small list"));
        }
        Ok(bytes)
    }

    /// All that was read, in order.
    pub(super) fn read(&self) -> &[Vec<u8>] {
        &self.read
    }
}
