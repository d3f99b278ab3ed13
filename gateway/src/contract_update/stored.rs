//! What must outlive the run: one small file in the spool's directory, replaced as a whole.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::write_durably;

/// Its name there.
pub const FILE: &str = "contract.json";

/// The format that is written; a newer one is not read.
const VERSION: u32 = 1;

/// Documents, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// In force.
    pub pushed: Option<String>,
    /// The pushed one before it, while it is on trial.
    pub before: Option<String>,
    /// Whether its trial goes on.
    pub on_trial: bool,
    /// The last one that a trial took out of force.
    pub rolled_back: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    #[serde(flatten)]
    stored: Stored,
}

/// Reads the file; nothing is stored when there is none.
pub fn read(path: &Path) -> Result<Stored, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::default()),
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    let file: File =
        serde_json::from_slice(&bytes).map_err(|error| format!("{} is damaged: {error}", path.display()))?;
    if file.version != VERSION {
        return Err(format!("{} has format {} and not {VERSION}", path.display(), file.version));
    }
    Ok(file.stored)
}

/// Replaces the file; a power cut leaves the old one or the new one.
pub fn write(path: &Path, stored: &Stored) -> io::Result<()> {
    let file = File { version: VERSION, stored: stored.clone() };
    write_durably(path, &serde_json::to_vec(&file)?)
}
