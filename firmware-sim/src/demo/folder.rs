//! The demo's folder. A former demo's things in it are replaced; anybody else's are left and refused.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ingot_processor::lake::Lake;

use crate::truth::TruthReader;

/// Says that the folder is a demo's, and may be emptied by the next.
const MARK: &str = ".ingot-demo";

/// A folder with room for a demo.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Empties a former demo's folder, or makes a new one.
    pub fn prepare(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = path.canonicalize()?;
        let is_demo = path.join(MARK).exists();
        let is_empty = fs::read_dir(&path)?.next().is_none();
        if !is_demo && !is_empty {
            bail!("{} holds other things; name a new folder with --out", path.display());
        }
        for name in ["lake", "spool"] {
            let folder = path.join(name);
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        fs::write(path.join(MARK), "")?;
        Ok(Self { path })
    }

    /// Its lake.
    pub fn lake(&self) -> anyhow::Result<Lake> {
        Ok(Lake::create(&format!("file://{}", self.path.join("lake").display()))?)
    }

    /// A gateway's spool.
    pub fn spool(&self, gateway: &str) -> PathBuf {
        self.path.join("spool").join(gateway)
    }

    /// Where the truth is written.
    pub fn truth_path(&self) -> PathBuf {
        self.path.join("truth.tsv")
    }

    /// The truth, to be read.
    pub fn truth(&self) -> anyhow::Result<TruthReader<BufReader<File>>> {
        Ok(TruthReader::new(BufReader::new(File::open(self.truth_path())?))?)
    }

    /// Where the report is written.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }
}
