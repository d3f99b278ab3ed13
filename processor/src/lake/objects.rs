//! Bronze as the lake holds it: objects that are listed, looked up, read, and written once.
//!
//! Which content of a key is meant is told by its tag; an object that changed under its reader is an error, not other bytes.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::folder::{self, Listed};
use super::{Lake, LakeError, location};

/// Questions to the store at once.
const ASKED_AT_ONCE: usize = 32;

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
    /// Everything below `bronze/`, by key.
    pub async fn list_bronze(&self) -> Result<Vec<BronzeObject>, LakeError> {
        let mut objects: Vec<BronzeObject> = self.bronze_stream().try_collect().await?;
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// A bronze object as it is now, or `None` where there is none.
    pub async fn bronze_object(&self, key: &str) -> Result<Option<BronzeObject>, LakeError> {
        let found = self.stored_object(key).await?;
        Ok(self.known_as(found.into_iter().collect()).await?.pop())
    }

    /// Those of the bronze objects that are there.
    pub(crate) async fn bronze_objects(&self, keys: &[String]) -> Result<Vec<BronzeObject>, LakeError> {
        let looks = futures::stream::iter(keys).map(|key| self.stored_object(key)).buffered(ASKED_AT_ONCE);
        self.known_as(looks.try_filter_map(|found| async { Ok(found) }).try_collect().await?).await
    }

    /// A bronze object, if it is there and in the state that the lake knows under this tag.
    pub(crate) async fn bronze_object_as(
        &self,
        key: &str,
        etag: &str,
    ) -> Result<Option<BronzeObject>, LakeError> {
        match self.stored_object(key).await? {
            // No rewritten object has its old tag: nothing needs to be looked up.
            Some(found) if found.etag != etag => {
                Ok(self.known_as(vec![found]).await?.pop().filter(|found| found.etag == etag))
            }
            found => Ok(found),
        }
    }

    /// An object under the tag that the store gives it, which is not the lake's where it was rewritten
    /// ([`known_as`](Self::known_as)).
    pub(crate) async fn stored_object(&self, key: &str) -> Result<Option<BronzeObject>, LakeError> {
        let at = location(key)?;
        match self.store.head(&at).await {
            // Below a prefix, the answer has the whole key.
            Ok(meta) => Ok(Some(self.listed(ObjectMeta { location: at, ..meta }))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(LakeError::Store { operation: "looking for", key: key.to_owned(), source }),
        }
    }

    /// Everything below `bronze/`, as the store lists it, in no order. Of a folder's file whose name no object can have
    /// only that name is known.
    pub fn bronze_stream(&self) -> BoxStream<'static, Result<BronzeObject, LakeError>> {
        let prefix = Path::from("bronze");
        let failed = move |source| LakeError::Store { operation: "listing", key: "bronze".into(), source };
        let lake = self.clone();
        let listed = match self.root {
            Some(_) => folder::list(Arc::clone(&self.store), prefix),
            None => self.store.list(Some(&prefix)).map_ok(Listed::Object).boxed(),
        };
        let found = listed.map_err(failed).map_ok(move |listed| match listed {
            Listed::Object(meta) => lake.listed(meta),
            Listed::Impossible(key) => BronzeObject { key, etag: String::new(), bytes: 0, modified_ms: 0 },
        });
        // Notes may come while it is listed: they are looked at page by page.
        self.clone().known_as_stream(found)
    }

    /// A listed object's bytes, if it still is what was listed.
    pub async fn read_as_listed(&self, object: &BronzeObject) -> Result<Bytes, LakeError> {
        let key = &object.key;
        let store_error = |source| LakeError::Store { operation: "reading", key: key.clone(), source };
        let found = self.store.get(&location(key)?).await.map_err(store_error)?;
        let now = self.listed(found.meta.clone());
        if !self.is_known_as(&now, &object.etag).await? {
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

    pub(super) fn listed(&self, meta: ObjectMeta) -> BronzeObject {
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
    pub(super) fn content_tag(&self, meta: &ObjectMeta) -> String {
        let tag = meta.e_tag.as_deref().unwrap_or_default();
        match (&self.root, tag.split_once('-')) {
            (Some(_), Some((_inode, time_and_size))) => time_and_size.to_owned(),
            _ => tag.trim_matches('"').to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use url::Url;

    use super::*;
    use crate::bronze::is_possible;

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

    #[tokio::test]
    async fn a_name_that_no_object_can_have_hides_no_other() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        let dir = tempfile::tempdir().unwrap();
        let orders = dir.path().join("bronze/orders");
        std::fs::create_dir_all(&orders).unwrap();
        let names = [&b"a\n.csv"[..], b"b\xff.csv", b"c\x1b[2J.csv"];
        for name in names {
            std::fs::write(orders.join(OsStr::from_bytes(name)), "").unwrap();
        }
        for number in 0..3_000 {
            std::fs::write(orders.join(format!("{number:04}.csv")), "").unwrap();
        }
        let lake = Lake::open(Url::from_directory_path(dir.path()).unwrap().as_str()).unwrap();
        let keys = lake.list_bronze().await.unwrap().into_iter().map(|object| object.key);
        let (possible, other): (Vec<_>, Vec<_>) = keys.partition(|key| is_possible(key));
        assert_eq!(possible.len(), 3_000);
        let named = |name| format!("bronze/orders/{name}.csv");
        assert_eq!(other, [named("a\n"), named("b\u{fffd}FF"), named("c\u{1b}[2J")]);
        // It is given up in the middle without harm.
        assert!(lake.bronze_stream().next().await.unwrap().is_ok());
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
}
