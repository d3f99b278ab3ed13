//! A disk in memory that fails and loses power at any step, and then keeps no more than POSIX promises.
//!
//! Each operation is a step. At a power cut a file keeps what was synced, and of every write and
//! truncation after it: all, a prefix, its length in zeros, or nothing, each by itself. The directory
//! keeps what was synced, and any subset of the creations, renames and removals after it. A failed fsync
//! loses pages in the same way for good, later ones succeed, and reading may show the loss or not.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use ingot_gateway::spool::directory::{Directory, DirectoryFile};

/// The disk; clones are the same one.
#[derive(Clone)]
pub struct CrashDisk(Arc<Mutex<State>>);

/// An open file.
pub struct CrashFile {
    disk: CrashDisk,
    inode: usize,
}

/// What a step does instead of working.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Nothing works from here on.
    PowerCut,
    /// This step fails; a write after a prefix, an fsync after losing pages.
    Error(ErrorKind),
}

struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    unsynced_names: Vec<Change>,
    rng: Rng,
    steps: u64,
    faults: BTreeMap<u64, Fault>,
    off: bool,
    /// Every operation that changes something fails so.
    refuses: Option<ErrorKind>,
    /// These names fail to be read.
    unreadable: Vec<String>,
}

#[derive(Clone, Default)]
struct Inode {
    seen: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Clone)]
enum Write {
    At(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone)]
enum Change {
    Create(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

impl CrashDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            rng: Rng::with_seed(seed),
            steps: 0,
            faults: BTreeMap::new(),
            off: false,
            refuses: None,
            unreadable: Vec::new(),
        })))
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.0.lock().unwrap().steps
    }

    /// The step `after` more steps from now fails so.
    pub fn fail(&self, after: u64, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        let step = state.steps + after;
        state.faults.insert(step, fault);
    }

    pub fn refuse(&self, kind: Option<ErrorKind>) {
        self.0.lock().unwrap().refuses = kind;
    }

    pub fn make_unreadable(&self, name: &str) {
        self.0.lock().unwrap().unreadable.push(name.into());
    }

    pub fn make_readable(&self) {
        self.0.lock().unwrap().unreadable.clear();
    }

    /// Puts a file there, as another program would.
    pub fn put(&self, name: &str, content: &[u8]) {
        let mut state = self.0.lock().unwrap();
        let inode = state.inodes.len();
        state.inodes.push(Inode { seen: content.into(), synced: content.into(), unsynced: Vec::new() });
        state.names.insert(name.into(), inode);
        state.synced_names.insert(name.into(), inode);
    }

    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.0.lock().unwrap();
        state.names.get(name).map(|inode| state.inodes[*inode].seen.clone())
    }

    pub fn names_now(&self) -> Vec<String> {
        self.0.lock().unwrap().names.keys().cloned().collect()
    }

    /// The disk as it is found after a power cut now.
    pub fn after_power_cut(&self, seed: u64) -> Self {
        let mut state = self.0.lock().unwrap();
        let state = &mut *state;
        let rng = &mut Rng::with_seed(seed);
        let mut names = state.synced_names.clone();
        for change in &state.unsynced_names {
            if rng.bool() {
                change.apply(&mut names);
            }
        }
        let found = Self::new(seed);
        {
            let mut found = found.0.lock().unwrap();
            found.inodes = state
                .inodes
                .iter()
                .map(|inode| {
                    let kept = inode.kept(rng);
                    Inode { seen: kept.clone(), synced: kept, unsynced: Vec::new() }
                })
                .collect();
            found.synced_names = names.clone();
            found.names = names;
        }
        found
    }

    fn changing(&self) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let state = self.step()?;
        match state.refuses {
            Some(kind) => Err(kind.into()),
            None => Ok(state),
        }
    }

    fn step(&self) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let mut state = self.0.lock().unwrap();
        match state.next_fault()? {
            Some(kind) => Err(kind.into()),
            None => Ok(state),
        }
    }
}

impl State {
    /// The error that this step is to fail with, if any; an error if the power is off.
    fn next_fault(&mut self) -> io::Result<Option<ErrorKind>> {
        let fault = self.faults.remove(&self.steps);
        self.steps += 1;
        self.off |= fault == Some(Fault::PowerCut);
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        Ok(match fault {
            Some(Fault::Error(kind)) => Some(kind),
            _ => None,
        })
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Inode {
    /// What the disk holds if it loses power now.
    fn kept(&self, rng: &mut Rng) -> Vec<u8> {
        let mut content = self.synced.clone();
        for write in &self.unsynced {
            match write {
                Write::Truncate(bytes) => {
                    if rng.bool() {
                        content.truncate(*bytes);
                    }
                }
                Write::At(at, bytes) => {
                    let (zeros, bytes) = match rng.u8(..4) {
                        0 => (false, &bytes[..]),
                        1 => (false, &bytes[..rng.usize(..=bytes.len())]),
                        2 => (true, &bytes[..]),
                        _ => continue,
                    };
                    let end = at + bytes.len();
                    content.resize(content.len().max(end), 0);
                    if !zeros {
                        content[*at..end].copy_from_slice(bytes);
                    }
                }
            }
        }
        content
    }

    fn write(&mut self, bytes: &[u8]) {
        self.unsynced.push(Write::At(self.seen.len(), bytes.into()));
        self.seen.extend(bytes);
    }
}

impl Directory for CrashDisk {
    type File = CrashFile;

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.step()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<CrashFile> {
        let mut state = self.changing()?;
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change(Change::Create(name.into(), inode));
        Ok(CrashFile { disk: self.clone(), inode })
    }

    fn open(&self, name: &str) -> io::Result<CrashFile> {
        let state = self.step()?;
        if state.unreadable.iter().any(|unreadable| unreadable == name) {
            return Err(io::Error::other("bad sector"));
        }
        Ok(CrashFile { disk: self.clone(), inode: state.inode(name)? })
    }

    fn edit(&self, name: &str) -> io::Result<CrashFile> {
        let state = self.changing()?;
        Ok(CrashFile { disk: self.clone(), inode: state.inode(name)? })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.changing()?;
        let inode = state.inode(from)?;
        state.change(Change::Rename(from.into(), to.into(), inode));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.changing()?;
        state.inode(name)?;
        state.change(Change::Remove(name.into()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.step()?;
        state.synced_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }
}

impl DirectoryFile for CrashFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.step()?.inodes[self.inode].seen.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.step()?;
        let seen = &state.inodes[self.inode].seen;
        let from = seen.len().min(offset as usize);
        let bytes = into.len().min(seen.len() - from);
        into[..bytes].copy_from_slice(&seen[from..from + bytes]);
        Ok(bytes)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        let was_off = state.off;
        let fault = state.next_fault();
        let failing = fault.as_ref().ok().and_then(|kind| kind.or(state.refuses));
        let written = match (&fault, failing) {
            (_, Some(ErrorKind::ReadOnlyFilesystem)) => 0,
            (_, Some(_)) => state.rng.usize(..=bytes.len()),
            // The write in which the power goes may leave its traces.
            (Err(_), _) if !was_off => bytes.len(),
            (Err(_), _) => 0,
            (Ok(_), None) => bytes.len(),
        };
        state.inodes[self.inode].write(&bytes[..written]);
        fault?;
        failing.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.changing()?;
        let inode = &mut state.inodes[self.inode];
        inode.seen.truncate(bytes as usize);
        inode.unsynced.push(Write::Truncate(bytes as usize));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        let fault = state.next_fault()?;
        let State { inodes, rng, .. } = &mut *state;
        let inode = &mut inodes[self.inode];
        match fault {
            None => inode.synced = inode.seen.clone(),
            Some(_) => {
                inode.synced = inode.kept(rng);
                if rng.bool() {
                    inode.seen = inode.synced.clone();
                }
            }
        }
        inode.unsynced.clear();
        fault.map_or(Ok(()), |kind| Err(kind.into()))
    }
}
