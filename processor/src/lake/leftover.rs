//! What a program that was killed left behind: half-written files that no listing shows.
//!
//! Only names that Ingot and its libraries give to unfinished files count, and only files that nobody
//! has touched for long; a store in the cloud leaves none of these.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Lake, LakeError};

/// An unfinished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its path below the lake.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

impl Lake {
    /// Unfinished files last written before `cutoff_ms` (since 1970-01-01 UTC), by path.
    pub fn leftovers(&self, cutoff_ms: i64) -> Result<Vec<Leftover>, LakeError> {
        let cutoff = UNIX_EPOCH + Duration::from_millis(u64::try_from(cutoff_ms).unwrap_or_default());
        let mut found = Vec::new();
        let Some(root) = &self.root else { return Ok(found) };
        walk(root, root, cutoff, &mut found).map_err(|source| LakeError::Disk {
            operation: "looking for unfinished files in",
            key: self.url.to_string(),
            source,
        })?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Removes one; gone already is fine.
    pub fn remove_leftover(&self, leftover: &Leftover) -> Result<(), LakeError> {
        let Some(root) = &self.root else { return Ok(()) };
        match fs::remove_file(root.join(&leftover.path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LakeError::Disk { operation: "removing", key: leftover.path.clone(), source: error })
            }
            _ => Ok(()),
        }
    }
}

fn walk(root: &Path, dir: &Path, cutoff: SystemTime, found: &mut Vec<Leftover>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &entry.path(), cutoff, found)?;
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_unfinished) {
            // A file that is gone by now was finished by its writer.
            let Ok(meta) = entry.metadata() else { continue };
            let path = entry.path();
            if let (true, Ok(path)) = (meta.modified()? < cutoff, path.strip_prefix(root)) {
                found.push(Leftover { path: path.to_string_lossy().into_owned(), bytes: meta.len() });
            }
        }
    }
    Ok(())
}

/// `<name>#<n>` is what `object_store` calls a file until it is whole, `.<random>.tmp` the gateway,
/// `_commit_<random>.json.tmp` delta-rs; `.ingot-probe-<random>` asks whether the lake can be written.
fn is_unfinished(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let staged = name.rsplit_once('#').is_some_and(|(name, n)| !name.is_empty() && digits(n));
    let temporary = name.ends_with(".tmp") && (name.starts_with('.') || name.starts_with("_commit_"));
    staged || temporary || name.starts_with(".ingot-probe-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_unfinished_files_are_leftovers() {
        for name in ["a.ndjson#1", ".0011223344556677.tmp", "_commit_5a.json.tmp", ".ingot-probe-00"] {
            assert!(is_unfinished(name), "{name}");
        }
        for name in ["a.ndjson", "#1", "a#b", "a.tmp", "00000000000000000000.json", "part-0.parquet"] {
            assert!(!is_unfinished(name), "{name}");
        }
    }

    #[test]
    fn a_fresh_one_is_left_to_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(url::Url::from_directory_path(dir.path()).unwrap().as_str()).unwrap();
        fs::create_dir_all(dir.path().join("bronze/orders")).unwrap();
        fs::write(dir.path().join("bronze/orders/a.ndjson#1"), "half").unwrap();
        assert_eq!(lake.leftovers(0).unwrap(), []);
        let old = lake.leftovers(i64::MAX / 1_000_000).unwrap();
        assert_eq!(old, [Leftover { path: "bronze/orders/a.ndjson#1".to_owned(), bytes: 4 }]);
        lake.remove_leftover(&old[0]).unwrap();
        lake.remove_leftover(&old[0]).unwrap();
        assert_eq!(lake.leftovers(i64::MAX / 1_000_000).unwrap(), []);
    }
}
