//! The lake: one URL under which `bronze`, `silver`, `discard`, `gold` and `ledger` live.
//!
//! Promises that an opened lake exists and names what is wrong when it does not. Bronze is listed, read and written in
//! `objects`, by [`Lake::put_durable`] alone: write-once, on disk before it returns.
//!
//! A lake is a folder, a bucket of S3 (or what is below a prefix in it), or, with [`Lake::over`], whatever an object store
//! holds. Everything but the folder's own care (is it writable, is it synced, what did a killed program leave) goes through
//! that store. A bucket is asked nothing before it is needed: what is wrong with it is told by the first request.

mod adopt;
mod bucket;
mod document;
mod error;
mod folder;
mod leftover;
mod objects;
mod ranges;
mod replace;

use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use url::Url;

use crate::aws::s3::S3Place;
use crate::decode::Limits;

pub use error::LakeError;
pub use leftover::Leftover;
pub use objects::BronzeObject;
pub(crate) use ranges::Ranges;

/// A lake that exists.
#[derive(Clone, Debug)]
pub struct Lake {
    url: Url,
    /// Its folder, if it is one.
    root: Option<PathBuf>,
    /// Where `bronze` is at the root.
    store: Arc<dyn ObjectStore>,
    /// Where the path of `url` leads to `bronze`.
    base: Arc<dyn ObjectStore>,
    limits: Limits,
}

impl Lake {
    /// Opens the lake at `url` (`file:///…`, `s3://bucket/prefix`), which must exist.
    pub fn open(url: &str) -> Result<Self, LakeError> {
        if let Some(place) = S3Place::parse(url) {
            return Self::in_bucket(&place);
        }
        let root = Self::directory(url)?;
        if !root.is_dir() {
            return Err(LakeError::Missing { url: url.to_owned() });
        }
        Self::at(url, root)
    }

    /// Opens the lake at `url`, making its directory where there is none; a bucket is never made.
    pub fn create(url: &str) -> Result<Self, LakeError> {
        if let Some(place) = S3Place::parse(url) {
            return Self::in_bucket(&place);
        }
        let root = Self::directory(url)?;
        std::fs::create_dir_all(&root)
            .map_err(|source| LakeError::ReadOnly { url: url.to_owned(), source })?;
        Self::at(url, root)
    }

    fn directory(url: &str) -> Result<PathBuf, LakeError> {
        let parsed = Url::parse(url).ok().filter(|parsed| parsed.scheme() == "file");
        parsed
            .and_then(|parsed| parsed.to_file_path().ok())
            .ok_or_else(|| LakeError::Url { url: url.to_owned() })
    }

    fn at(url: &str, root: PathBuf) -> Result<Self, LakeError> {
        let store = LocalFileSystem::new_with_prefix(&root).map_err(|source| LakeError::Store {
            operation: "opening",
            key: url.to_owned(),
            source,
        })?;
        let url = Url::from_directory_path(&root).map_err(|()| LakeError::Url { url: url.to_owned() })?;
        Ok(Self { root: Some(root), ..Self::over(url, Arc::new(store)) })
    }

    /// The lake that `store` holds, at its root. `url` names the store to DataFusion, which keeps the first one that it is
    /// given under a scheme and a host for as long as the process lives; it has no path.
    pub fn over(url: Url, store: Arc<dyn ObjectStore>) -> Self {
        let base = Arc::clone(&store);
        Self { url, root: None, base, store, limits: Limits::default() }
    }

    /// The lake, its objects cut otherwise. All who process it must cut alike.
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// How much of an object is worked on at a time.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The lake's URL, with a closing slash.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The lake's folder, for what only a disk can do.
    pub(crate) fn folder(&self, operation: &'static str) -> Result<&FilePath, LakeError> {
        let missing = || LakeError::NotOnDisk { operation, url: self.url.to_string() };
        self.root.as_deref().ok_or_else(missing)
    }

    /// Whether there may be a table at `path`: in a folder, whether it has that folder.
    pub(crate) fn may_have(&self, path: &str) -> bool {
        self.root.as_ref().is_none_or(|root| root.join(path).is_dir())
    }

    /// The table at `path`, loaded; without a version where there is none yet. A local directory must exist before
    /// delta-rs looks into it.
    pub(crate) async fn delta_table(&self, path: &str) -> Result<DeltaTable, DeltaTableError> {
        let url = self.url.join(path).map_err(|error| DeltaTableError::generic(error.to_string()))?;
        let builder = DeltaTableBuilder::from_url(url.clone())?;
        let mut table = match &self.root {
            Some(root) => {
                std::fs::create_dir_all(root.join(path)).map_err(|source| DeltaTableError::Io { source })?;
                builder.build()?
            }
            None => builder.with_storage_backend(Arc::clone(&self.base), url).build()?,
        };
        match table.load().await {
            Ok(()) | Err(DeltaTableError::NotATable(_)) => Ok(table),
            Err(error) => Err(error),
        }
    }

    /// Whether there is a table at `path`.
    pub(crate) async fn has_table(&self, path: &str) -> Result<bool, LakeError> {
        let log = format!("{path}/_delta_log");
        let first = self.store.list(Some(&Path::from(log.as_str()))).try_next().await;
        let listed =
            first.map_err(|source| LakeError::Store { operation: "looking for", key: log, source })?;
        Ok(listed.is_some())
    }

    /// Every table below the lake, by path: `<name>` or `<tier>/<name>`.
    pub async fn tables(&self) -> Result<Vec<String>, LakeError> {
        let mut tables = Vec::new();
        for folder in self.folders(None).await?.into_iter().filter(|name| name != "bronze") {
            if self.has_table(&folder).await? {
                tables.push(folder);
                continue;
            }
            for path in self.folders(Some(&folder)).await? {
                if self.has_table(&path).await? {
                    tables.push(path);
                }
            }
        }
        tables.sort();
        Ok(tables)
    }

    /// The folders in a folder, as paths.
    async fn folders(&self, folder: Option<&str>) -> Result<Vec<String>, LakeError> {
        let listed = self.store.list_with_delimiter(folder.map(Path::from).as_ref()).await;
        let listed = listed.map_err(|source| LakeError::Store {
            operation: "listing",
            key: folder.unwrap_or(self.url.as_str()).to_owned(),
            source,
        })?;
        Ok(listed.common_prefixes.iter().map(Path::to_string).collect())
    }

    /// Fails with the operating system's word where nothing can be written; another store than a folder says so when
    /// it is written to.
    pub fn check_writable(&self) -> Result<(), LakeError> {
        let Some(root) = &self.root else { return Ok(()) };
        let probe = root.join(format!(".ingot-probe-{:016x}", fastrand::u64(..)));
        File::create(&probe)
            .and_then(|_| std::fs::remove_file(&probe))
            .map_err(|source| LakeError::ReadOnly { url: self.url.to_string(), source })
    }

    /// `object_store` does not sync local files: the file, and the directories that name it, are synced here.
    fn sync(&self, key: &str) -> Result<(), LakeError> {
        let Some(root) = &self.root else { return Ok(()) };
        let file = root.join(key);
        let directories = file.ancestors().skip(1).take_while(|dir| dir.starts_with(root));
        std::iter::once(file.as_path())
            .chain(directories)
            .try_for_each(|path| File::open(path)?.sync_all())
            .map_err(|source| LakeError::Sync { key: key.to_owned(), source })
    }
}

/// A key as the store takes it: as it is listed, without a second encoding.
fn location(key: &str) -> Result<Path, LakeError> {
    Path::parse(key).map_err(|error| LakeError::Store {
        operation: "naming",
        key: key.to_owned(),
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_missing_lake_and_a_wrong_url_say_what_to_do() {
        let missing = Lake::open("file:///nowhere/at/all").unwrap_err().to_string();
        assert!(missing.contains("does not exist; create"), "{missing}");
        let wrong = Lake::open("/tmp/lake").unwrap_err().to_string();
        assert!(wrong.contains("write file:///"), "{wrong}");
    }
}
