//! The folder of identities: generations of key and certificate, and the link to the one in use.
//!
//! ```text
//! <folder>/current -> 2            what the daemon reads: current/key.pem, current/cert.pem
//! <folder>/1/, <folder>/2/         key.pem (0600), cert.pem, progress.json (0600)
//! ```
//! A generation is switched to by renaming a link, so that key and certificate change together. The one
//! before stays for [`Folder::roll_back`]; older ones go. Every file is written beside its place, synced
//! and renamed. One process at a time: the folder is locked.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::csr;
use super::secret::Secret;
use super::{ProvisionError, Step};

/// A certificate as AWS IoT gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its id: 64 hex digits.
    pub id: String,
    /// The certificate in PEM.
    pub pem: String,
}

/// How far a generation has come; the checkpoint after each step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The thing's name: the gateway's.
    pub thing: String,
    /// When the generation was begun: milliseconds since 1970-01-01 UTC.
    pub begun_ms: i64,
    /// The certificate for its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// What lets a device register the certificate that it was given; good for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ownership_token: Option<Secret>,
    /// The registration was asked for; an answer may have been lost.
    #[serde(default)]
    pub registering: bool,
    /// Thing, certificate and policy are tied together, and the certificate is active.
    #[serde(default)]
    pub registered: bool,
    /// The data endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// The folder, locked for this process.
pub struct Folder {
    root: PathBuf,
    _lock: File,
}

/// One key, the certificate for it, and how far it has come.
pub struct Generation {
    dir: PathBuf,
    /// What is known of it; write it with [`Generation::save`].
    pub progress: Progress,
}

impl Folder {
    /// Opens the folder, or makes it (0700).
    ///
    /// # Errors
    /// It cannot be made, or another process works in it.
    pub fn open(root: &Path) -> Result<Self, ProvisionError> {
        let failed = |error: io::Error| problem(root, &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let lock = File::create(root.join("lock")).map_err(|error| problem(&root, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(ProvisionError::new(
                Step::Folder,
                format!("{} is in use by another `provision`; wait for its end", root.display()),
            )),
            Err(TryLockError::Error(error)) => Err(problem(&root, &error)),
        }
    }

    /// The folder's absolute path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The generation in use.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn current(&self) -> Result<Option<Generation>, ProvisionError> {
        let dir = self.linked().map_err(|error| problem(&self.root, &error))?;
        dir.map(|number| Generation::open(self.dir(number))).transpose()
    }

    /// The generation to work on: the one that was begun, else a new one for the thing `name`.
    ///
    /// # Errors
    /// The folder cannot be read or written, or what was begun is for another thing.
    pub fn stage(&self, name: &str, now_ms: i64) -> Result<Generation, ProvisionError> {
        let failed = |error: io::Error| problem(&self.root, &error);
        let linked = self.linked().map_err(failed)?.unwrap_or(0);
        let newest = self.numbers().map_err(failed)?.into_iter().max().unwrap_or(0);
        let begun = newest > linked && self.dir(newest).join(PROGRESS).exists();
        let generation = if begun {
            Generation::open(self.dir(newest))?
        } else {
            let number = newest.max(linked) + u64::from(newest <= linked);
            let dir = self.dir(number);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
            let progress = Progress { thing: name.into(), begun_ms: now_ms, ..Progress::default() };
            let generation = Generation { dir, progress };
            generation.save()?;
            generation
        };
        generation.of(name)
    }

    /// Ids of all certificates in the folder but that of `generation`.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn other_certificates(&self, generation: &Generation) -> Result<Vec<String>, ProvisionError> {
        let numbers = self.numbers().map_err(|error| problem(&self.root, &error))?;
        let dirs = numbers.into_iter().map(|number| self.dir(number));
        let others = dirs.filter(|dir| *dir != generation.dir && dir.join(PROGRESS).exists());
        let others = others.map(Generation::open).collect::<Result<Vec<_>, _>>()?;
        let certificates = others.into_iter().filter_map(|generation| generation.progress.certificate);
        Ok(certificates.map(|certificate| certificate.id).collect())
    }

    /// Removes every generation but `generation`: there is no way back.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn forget_others(&self, generation: &Generation) -> Result<(), ProvisionError> {
        let removed = || -> io::Result<()> {
            let dirs = self.numbers()?.into_iter().map(|number| self.dir(number));
            dirs.filter(|dir| *dir != generation.dir).try_for_each(fs::remove_dir_all)
        };
        removed().map_err(|error| problem(&self.root, &error))
    }

    /// Puts `generation` to use, in one rename; removes what is older than the one before it.
    ///
    /// # Errors
    /// The folder cannot be written; the one before is in use as ever.
    pub fn switch(&self, generation: &Generation) -> Result<(), ProvisionError> {
        let switched = || -> io::Result<()> {
            let before = self.linked()?;
            let number = number_of(&generation.dir).ok_or(ErrorKind::InvalidInput)?;
            if before != Some(number) {
                self.link(number)?;
                for old in self.numbers()? {
                    if old != number && Some(old) != before {
                        fs::remove_dir_all(self.dir(old))?;
                    }
                }
            }
            Ok(())
        };
        switched().map_err(|error| problem(&self.root, &error))
    }

    /// Goes back to the generation before the one in use; `None` if there is none.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn roll_back(&self) -> Result<Option<Generation>, ProvisionError> {
        let failed = |error: io::Error| problem(&self.root, &error);
        let Some(linked) = self.linked().map_err(failed)? else { return Ok(None) };
        let earlier = self.numbers().map_err(failed)?.into_iter().filter(|number| *number < linked).max();
        let Some(earlier) = earlier else { return Ok(None) };
        let generation = Generation::open(self.dir(earlier))?;
        self.link(earlier).map_err(failed)?;
        // What is left above the link would count as begun.
        fs::remove_dir_all(self.dir(linked)).map_err(failed)?;
        Ok(Some(generation))
    }

    /// Writes a file of the folder that holds no secret.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, ProvisionError> {
        let path = self.root.join(name);
        write_durably(&path, text, 0o644).map_err(|error| problem(&path, &error))?;
        Ok(path)
    }

    fn link(&self, number: u64) -> io::Result<()> {
        let new = self.root.join("current.new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => symlink(number.to_string(), &new)?,
        }
        fs::rename(&new, self.root.join(CURRENT))?;
        File::open(&self.root)?.sync_all()
    }

    fn linked(&self) -> io::Result<Option<u64>> {
        match fs::read_link(self.root.join(CURRENT)) {
            Ok(to) => Ok(number_of(&to)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        let entries = fs::read_dir(&self.root)?.collect::<io::Result<Vec<_>>>()?;
        let dirs = entries.into_iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        Ok(dirs.filter_map(|entry| number_of(&entry.path())).collect())
    }

    fn dir(&self, number: u64) -> PathBuf {
        self.root.join(number.to_string())
    }
}

/// The link to the generation in use.
pub const CURRENT: &str = "current";
/// A generation's private key, mode 0600.
pub const KEY: &str = "key.pem";
/// A generation's certificate.
pub const CERT: &str = "cert.pem";
const PROGRESS: &str = "progress.json";

impl Generation {
    fn open(dir: PathBuf) -> Result<Self, ProvisionError> {
        let path = dir.join(PROGRESS);
        let text = fs::read_to_string(&path).map_err(|error| problem(&path, &error))?;
        // The parser's message could quote the file, which holds a token.
        let progress = serde_json::from_str(&text)
            .map_err(|_| ProvisionError::new(Step::Folder, format!("{} is damaged", path.display())))?;
        Ok(Self { dir, progress })
    }

    /// Itself, if it is for the thing `name`.
    ///
    /// # Errors
    /// It is for another one.
    pub fn of(self, name: &str) -> Result<Self, ProvisionError> {
        if self.progress.thing == name {
            return Ok(self);
        }
        let (dir, thing) = (self.dir.display(), &self.progress.thing);
        let why = format!("{dir} belongs to {thing:?} and not to {name:?}; use --dir, or that name");
        Err(ProvisionError::new(Step::Folder, why))
    }

    /// The private key in PEM: the one that is there, else a new one.
    ///
    /// # Errors
    /// It cannot be made, read or written.
    pub fn key(&self) -> Result<Secret, ProvisionError> {
        let path = self.key_path();
        match fs::read_to_string(&path) {
            Ok(key) => Ok(Secret(key)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let key = csr::new_key()?;
                write_durably(&path, &key.0, 0o600).map_err(|error| problem(&path, &error))?;
                Ok(key)
            }
            Err(error) => Err(problem(&path, &error)),
        }
    }

    /// Where the private key is.
    pub fn key_path(&self) -> PathBuf {
        self.dir.join(KEY)
    }

    /// Where the certificate is, once [`Generation::save`] has seen one.
    pub fn cert_path(&self) -> PathBuf {
        self.dir.join(CERT)
    }

    /// Writes what is known: the certificate's file first, then the checkpoint.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self) -> Result<(), ProvisionError> {
        let cert = self.progress.certificate.as_ref().map(|certificate| certificate.pem.as_str());
        let saved = || -> io::Result<()> {
            if let Some(pem) = cert {
                write_durably(&self.cert_path(), pem, 0o644)?;
            }
            let text = serde_json::to_string_pretty(&self.progress)?;
            write_durably(&self.dir.join(PROGRESS), &text, 0o600)
        };
        saved().map_err(|error| problem(&self.dir, &error))
    }
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.parse().ok()
}

fn problem(path: &Path, error: &io::Error) -> ProvisionError {
    ProvisionError::new(Step::Folder, format!("{} cannot be used: {error}", path.display()))
}

/// The whole text is there, or the former one, whatever is cut when.
fn write_durably(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The mode is the new file's from its first byte on.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn certificate(id: &str) -> Option<Certificate> {
        Some(Certificate { id: id.into(), pem: format!("-- {id} --") })
    }

    #[test]
    fn what_was_begun_is_gone_on_with_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("identity")).unwrap();
        let begun = folder.stage("gw-1", 5).unwrap();
        let key = begun.key().unwrap();
        let again = folder.stage("gw-1", 9).unwrap();
        assert_eq!((again.key().unwrap(), again.progress.begun_ms), (key.clone(), 5));
        let mode = fs::metadata(again.key_path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{key:?}").contains("PRIVATE"));
        let other = folder.stage("gw-2", 9).err().unwrap().to_string();
        assert!(other.contains("gw-1"), "{other}");
    }

    #[test]
    fn a_switch_changes_key_and_certificate_together_and_can_be_undone_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        for id in ["a", "b", "c"] {
            let mut generation = folder.stage("gw-1", 0).unwrap();
            generation.key().unwrap();
            generation.progress.certificate = certificate(id);
            generation.save().unwrap();
            folder.switch(&generation).unwrap();
        }
        let in_use = || fs::read_to_string(dir.path().join("current/cert.pem")).unwrap();
        assert_eq!(in_use(), "-- c --");
        assert!(!dir.path().join("1").exists(), "only the one before is kept");
        let back = folder.roll_back().unwrap().unwrap();
        assert_eq!((back.progress.certificate, in_use()), (certificate("b"), "-- b --".into()));
        assert!(folder.roll_back().unwrap().is_none());
        assert_eq!(folder.stage("gw-1", 0).unwrap().progress.certificate, None, "a new one begins anew");
    }

    #[test]
    fn two_at_once_are_refused_and_damage_is_told_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert!(Folder::open(dir.path()).err().unwrap().to_string().contains("another"));
        folder.stage("gw-1", 0).unwrap();
        fs::write(dir.path().join("1/progress.json"), "{\"ownership_token\": canary-1").unwrap();
        let told = folder.stage("gw-1", 0).err().unwrap().to_string();
        assert!(told.contains("damaged") && !told.contains("canary"), "{told}");
    }
}
