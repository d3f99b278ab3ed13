//! The lake: one URL under which `bronze`, `silver`, `discard`, `gold` and `ledger` live.
//!
//! Promises that an opened lake exists and names what is wrong when it does not. Bronze is listed and
//! read here, and written by [`Lake::put_durable`] alone: write-once, on disk before it returns.
//!
//! A lake is a folder, a bucket of S3 (or what is below a prefix in it), or, with [`Lake::over`], whatever an object store
//! holds. Everything but the folder's own care (is it writable, is it synced, what did a killed program leave) goes through
//! that store. A bucket is asked nothing before it is needed: what is wrong with it is told by the first request.

mod adopt;
mod bucket;
mod document;
mod leftover;
mod replace;

use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use url::Url;

use crate::aws::error::SetupError;
use crate::aws::s3::S3Place;

pub use leftover::Leftover;

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
}

/// Why a lake cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The text is no lake URL.
    #[error(
        "{url:?} is not a lake URL; write file:///path/to/lake or s3://bucket/prefix, the prefix of letters, digits and ._=- between slashes, or none"
    )]
    Url {
        /// What was given.
        url: String,
    },
    /// The environment does not say how to reach it.
    #[error("the lake {url}: {source}")]
    Setup {
        /// The lake.
        url: String,
        /// What is missing or wrong.
        source: SetupError,
    },
    /// There is nothing.
    #[error("the lake {url} does not exist; create the directory or correct --lake")]
    Missing {
        /// The lake.
        url: String,
    },
    /// There is something, but it cannot be written.
    #[error("the lake {url} cannot be written: {source}; give this user the right to write there")]
    ReadOnly {
        /// The lake.
        url: String,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// Only a lake on a disk can do it.
    #[error("{operation} needs lakes in folders of this machine, and {url} is none")]
    NotOnDisk {
        /// What was tried.
        operation: &'static str,
        /// The lake.
        url: String,
    },
    /// A bronze object exists with other bytes.
    #[error(
        "{key} is already in bronze with other bytes; bronze is write-once, the new bytes were not stored"
    )]
    Rewritten {
        /// The bronze key.
        key: String,
    },
    /// An object changed while it was taken; it may still be being written.
    #[error("{key} changed after it was listed; the next run takes it as it is then")]
    Changed {
        /// The bronze key.
        key: String,
    },
    /// The store failed.
    #[error("{operation} {key}: {source}")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// On which key or prefix.
        key: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The disk failed.
    #[error("{operation} {key}: {source}")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        key: String,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// A document of the lake is not what this program writes.
    #[error("{key} is damaged: {source}")]
    Document {
        /// Where it is.
        key: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The disk failed to make an object durable.
    #[error("making {key} durable: {source}")]
    Sync {
        /// The bronze key.
        key: String,
        /// The operating system's word.
        source: std::io::Error,
    },
}

/// One object in bronze, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BronzeObject {
    /// Its key below the lake, e.g. `bronze/orders/dt=2026-01-01/a.ndjson`.
    pub key: String,
    /// The store's tag of its content; with the key, the object's identity.
    pub etag: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written: milliseconds since 1970-01-01 UTC.
    pub modified_ms: i64,
}

impl BronzeObject {
    /// The identity under which tables remember it.
    pub fn id(&self) -> String {
        Self::id_of(&self.key, &self.etag)
    }

    /// The identity of the object with this key and tag.
    pub fn id_of(key: &str, etag: &str) -> String {
        format!("{key}@{etag}")
    }

    /// The key and the tag in an identity; `None` if it is none.
    pub fn parts_of(id: &str) -> Option<(&str, &str)> {
        id.rsplit_once('@')
    }
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
        Self { url, root: None, base: Arc::clone(&store), store }
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

    /// Everything below `bronze/`, by key.
    pub async fn list_bronze(&self) -> Result<Vec<BronzeObject>, LakeError> {
        let mut objects: Vec<BronzeObject> = self.bronze_stream().try_collect().await?;
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// A bronze object as it is now, or `None` where there is none.
    pub async fn bronze_object(&self, key: &str) -> Result<Option<BronzeObject>, LakeError> {
        let at = location(key)?;
        match self.store.head(&at).await {
            // Below a prefix, the answer has the whole key.
            Ok(meta) => {
                let found = self.listed(ObjectMeta { location: at, ..meta });
                Ok(self.known_as(vec![found]).await?.pop())
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(LakeError::Store { operation: "looking for", key: key.to_owned(), source }),
        }
    }

    /// Everything below `bronze/`, as the store lists it, in no order.
    pub fn bronze_stream(&self) -> BoxStream<'static, Result<BronzeObject, LakeError>> {
        let prefix = Path::from("bronze");
        let failed = move |source| LakeError::Store { operation: "listing", key: "bronze".into(), source };
        let lake = self.clone();
        let found = self.store.list(Some(&prefix)).map_ok(move |meta| lake.listed(meta)).map_err(failed);
        if self.has_retagged() { self.clone().known_as_stream(found) } else { found.boxed() }
    }

    /// A listed object's bytes, if it still is what was listed.
    pub async fn read_as_listed(&self, object: &BronzeObject) -> Result<Bytes, LakeError> {
        let key = &object.key;
        let store_error = |source| LakeError::Store { operation: "reading", key: key.clone(), source };
        let found = self.store.get(&location(key)?).await.map_err(store_error)?;
        let now = self.listed(found.meta.clone());
        if now.etag != object.etag && !self.is_known_as(&now, &object.etag).await? {
            return Err(LakeError::Changed { key: key.clone() });
        }
        found.bytes().await.map_err(store_error)
    }

    /// An object's bytes.
    pub async fn read(&self, key: &str) -> Result<Bytes, LakeError> {
        let store_error = |source| LakeError::Store { operation: "reading", key: key.to_owned(), source };
        let found = self.store.get(&location(key)?).await.map_err(store_error)?;
        found.bytes().await.map_err(store_error)
    }

    /// Stores a bronze object so that it survives a power cut. The same bytes under the same key again
    /// are success; other bytes are refused.
    pub async fn put_durable(&self, key: &str, bytes: Bytes) -> Result<(), LakeError> {
        let options = PutOptions::from(PutMode::Create);
        let payload = PutPayload::from_bytes(bytes.clone());
        match self.store.put_opts(&location(key)?, payload, options).await {
            Ok(_) => self.sync(key),
            Err(object_store::Error::AlreadyExists { .. }) if self.read(key).await? == bytes => {
                self.sync(key)
            }
            Err(object_store::Error::AlreadyExists { .. }) => {
                Err(LakeError::Rewritten { key: key.to_owned() })
            }
            Err(source) => Err(LakeError::Store { operation: "storing", key: key.to_owned(), source }),
        }
    }

    fn listed(&self, meta: ObjectMeta) -> BronzeObject {
        BronzeObject {
            key: meta.location.to_string(),
            etag: self.content_tag(&meta),
            bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        }
    }

    /// What tells one content of a key from another. S3's tag does, in quotes; that of an object in several parts ends in
    /// `-` and their number. A local store's is inode, time and size; the inode says nothing of the content, and
    /// changes when a lake is moved or restored.
    fn content_tag(&self, meta: &ObjectMeta) -> String {
        let tag = meta.e_tag.as_deref().unwrap_or_default();
        match (&self.root, tag.split_once('-')) {
            (Some(_), Some((_inode, time_and_size))) => time_and_size.to_owned(),
            _ => tag.trim_matches('"').to_owned(),
        }
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

    #[tokio::test]
    async fn bronze_is_write_once() {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(Url::from_directory_path(dir.path()).unwrap().as_str()).unwrap();
        let key = "bronze/orders/dt=2026-01-01/a b+c%.ndjson";
        lake.put_durable(key, Bytes::from_static(b"one")).await.unwrap();
        lake.put_durable(key, Bytes::from_static(b"one")).await.unwrap();
        let rewritten = lake.put_durable(key, Bytes::from_static(b"two")).await;
        assert!(matches!(rewritten, Err(LakeError::Rewritten { .. })));
        assert_eq!(lake.read(key).await.unwrap(), "one");
        let listed = lake.list_bronze().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].key.as_str(), listed[0].bytes), (key, 3));
    }

    #[test]
    fn a_tag_tells_contents_apart_in_each_store() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Lake::open(Url::from_directory_path(dir.path()).unwrap().as_str()).unwrap();
        let url = Url::parse("memory://lake").unwrap();
        let bucket = Lake::over(url, Arc::new(object_store::memory::InMemory::new()));
        let tag = |lake: &Lake, tag: &str| {
            let (location, last_modified) = (Path::from("bronze/orders/a.csv"), Default::default());
            lake.content_tag(&ObjectMeta {
                location,
                last_modified,
                size: 0,
                e_tag: Some(tag.to_owned()),
                version: None,
            })
        };
        // Inode, time and size; S3's of one part and of three.
        assert_eq!(tag(&disk, "1f-63d-a"), "63d-a");
        assert_eq!(tag(&bucket, "\"0123\""), "0123");
        assert_eq!(tag(&bucket, "\"0123-3\""), "0123-3");
        assert_ne!(tag(&bucket, "\"4567-3\""), tag(&bucket, "\"0123-3\""));
    }

    #[test]
    fn a_missing_lake_and_a_wrong_url_say_what_to_do() {
        let missing = Lake::open("file:///nowhere/at/all").unwrap_err().to_string();
        assert!(missing.contains("does not exist; create"), "{missing}");
        let wrong = Lake::open("/tmp/lake").unwrap_err().to_string();
        assert!(wrong.contains("write file:///"), "{wrong}");
    }
}
