//! Bronze of one lake, in another: the same objects under the same identities.
//!
//! On one disk that is a second name for the same file, which costs nothing; across disks a copy with
//! its time. Either keeps key and tag, so what is made of it names the same objects.

use std::io::ErrorKind;
use std::path::Path as FilePath;

use super::{BronzeObject, Lake, LakeError};

const TAKING_OVER: &str = "taking bronze over";

impl Lake {
    /// Whether anything at all is in it.
    pub fn is_empty(&self) -> Result<bool, LakeError> {
        Ok(self.folder(TAKING_OVER)?.read_dir().is_ok_and(|mut entries| entries.next().is_none()))
    }

    /// Takes an object of another lake over, unless it is here already.
    pub fn adopt(&self, from: &Self, object: &BronzeObject) -> Result<(), LakeError> {
        let failed = |source| LakeError::Sync { key: object.key.clone(), source };
        let (there, here) =
            (from.folder(TAKING_OVER)?.join(&object.key), self.folder(TAKING_OVER)?.join(&object.key));
        if let Some(folder) = here.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        match std::fs::hard_link(&there, &here) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == ErrorKind::CrossesDevices => copy(&there, &here).map_err(failed),
            linked => linked.map_err(failed),
        }
    }
}

/// A copy with its time, which appears whole or not at all. The name of a cut one ends in `#1`, which object_store lists as nothing.
fn copy(there: &FilePath, here: &FilePath) -> std::io::Result<()> {
    let mut part = here.as_os_str().to_owned();
    part.push("#1");
    std::fs::copy(there, &part)?;
    let copied = std::fs::File::options().append(true).open(&part)?;
    copied.set_modified(there.metadata()?.modified()?)?;
    copied.sync_all()?;
    std::fs::rename(&part, here)
}
