//! Replacing a bronze object's bytes under the identity that it has: what erasure needs, and nothing else does.
//!
//! The store gives the new bytes another tag, and a bucket another time. So the lake notes, before the bytes are there,
//! as what the object is known: by the tag that it will have where that follows from its size and time, as on a disk;
//! else by any tag, until the store has said which. Silver, discard and ledger never see another object, and rows are
//! judged and ordered by the time at which they came.
//!
//! On a disk the new bytes are a new file that takes the name, so that whoever shares the old file under another name (a
//! rebuilt lake) keeps it. In a bucket they are put on the condition that the object is the one that was read. A cut
//! between that and the note of its tag leaves the note of any tag; doing it again ends it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path as FilePath;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use serde::{Deserialize, Serialize};

use super::{BronzeObject, Lake, LakeError, location};

/// Where the notes are, below the lake.
pub(super) const NOTES: &str = "retagged";
/// Any tag of a key.
const ANY: &str = "*";
/// Objects of a listing that are looked up at once: ten pages of S3's.
const LISTED_AT_ONCE: usize = 10_000;

/// As what the lake knows an object that was rewritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    etag: String,
    /// When it was last written before that, in milliseconds since 1970-01-01 UTC.
    modified_ms: i64,
}

/// By key, and by the tag that the store gives it, or [`ANY`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Notes(BTreeMap<String, BTreeMap<String, Known>>);

impl Notes {
    fn known(&self, object: &BronzeObject) -> Option<&Known> {
        let tags = self.0.get(&object.key)?;
        tags.get(&object.etag).or_else(|| tags.get(ANY))
    }
}

impl Lake {
    /// Gives a bronze object other bytes under its key, tag and time. Without bytes it has them already: only what a cut
    /// left is ended.
    pub(crate) async fn replace_bronze(
        &self,
        object: &BronzeObject,
        bytes: Option<Bytes>,
    ) -> Result<(), LakeError> {
        match (&self.root, bytes) {
            (Some(root), Some(bytes)) => self.replace_file(root, object, bytes).await,
            (Some(_), None) => Ok(()),
            (None, Some(bytes)) => self.replace_in_bucket(object, bytes).await,
            (None, None) => self.settle_tag(object).await,
        }
    }

    async fn replace_file(
        &self,
        root: &FilePath,
        object: &BronzeObject,
        bytes: Bytes,
    ) -> Result<(), LakeError> {
        let key = &object.key;
        let found = self.stored_object(key).await?.ok_or_else(|| LakeError::Changed { key: key.clone() })?;
        let (time, _) = found.etag.split_once('-').ok_or_else(|| LakeError::Changed { key: key.clone() })?;
        let new_tag = format!("{time}-{:x}", bytes.len());
        if new_tag != object.etag {
            self.note(object, &new_tag).await?;
        }
        let path = root.join(key);
        let mut part = path.clone().into_os_string();
        // As object_store names what is not whole yet: no listing shows it, and upkeep removes it.
        part.push("#1");
        let replaced = || -> std::io::Result<()> {
            let modified = path.metadata()?.modified()?;
            let mut file = File::create(&part)?;
            file.write_all(&bytes)?;
            file.set_modified(modified)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)
        };
        replaced().map_err(|source| LakeError::Disk { operation: "rewriting", key: key.clone(), source })?;
        self.sync(key)
    }

    async fn replace_in_bucket(&self, object: &BronzeObject, bytes: Bytes) -> Result<(), LakeError> {
        let key = &object.key;
        let changed = || LakeError::Changed { key: key.clone() };
        let failed = |source| LakeError::Store { operation: "rewriting", key: key.clone(), source };
        let at = location(key)?;
        let found = self.store.head(&at).await.map_err(failed)?;
        let now = self.listed(found.clone());
        if !self.is_known_as(&now, &object.etag).await? {
            return Err(changed());
        }
        self.note(object, ANY).await?;
        let read = UpdateVersion { e_tag: found.e_tag, version: None };
        let put = PutPayload::from_bytes(bytes.clone());
        match self.store.put_opts(&at, put, PutOptions::from(PutMode::Update(read))).await {
            Ok(_) => {}
            // A request that was answered and tried again all the same finds its own bytes.
            Err(object_store::Error::Precondition { .. }) if self.read(key).await? == bytes => {}
            Err(object_store::Error::Precondition { .. }) => {
                self.drop_any(object).await?;
                return Err(changed());
            }
            // It may be there all the same: the note of any tag stays until this is done again.
            Err(error) => return Err(failed(error)),
        }
        self.settle_tag(object).await
    }

    /// Notes the tag that the store has given the object's new bytes, in the place of any tag.
    async fn settle_tag(&self, object: &BronzeObject) -> Result<(), LakeError> {
        let (_, notes) = self.notes().await?;
        if notes.0.get(&object.key).is_none_or(|tags| !tags.contains_key(ANY)) {
            return Ok(());
        }
        if let Some(now) = self.stored_object(&object.key).await?
            && now.etag != object.etag
        {
            self.note(object, &now.etag).await?;
        }
        self.drop_any(object).await
    }

    /// Removes a bronze object that is kept no longer; gone already is fine.
    pub(crate) async fn remove_bronze(&self, object: &BronzeObject) -> Result<(), LakeError> {
        match self.store.delete(&location(&object.key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(LakeError::Store { operation: "removing", key: object.key.clone(), source }),
        }
    }

    /// Takes the notes of another lake over, whose bronze this one shares.
    pub(crate) async fn adopt_tags(&self, from: &Self) -> Result<(), LakeError> {
        let (_, theirs) = from.notes().await?;
        if theirs.0.is_empty() {
            return Ok(());
        }
        self.change_notes(|notes| {
            for (key, tags) in &theirs.0 {
                notes.0.entry(key.clone()).or_default().extend(tags.clone());
            }
        })
        .await
    }

    async fn note(&self, object: &BronzeObject, tag: &str) -> Result<(), LakeError> {
        let known = Known { etag: object.etag.clone(), modified_ms: object.modified_ms };
        self.change_notes(|notes| {
            notes.0.entry(object.key.clone()).or_default().insert(tag.to_owned(), known.clone());
        })
        .await
    }

    async fn drop_any(&self, object: &BronzeObject) -> Result<(), LakeError> {
        self.change_notes(|notes| {
            if let Some(tags) = notes.0.get_mut(&object.key) {
                tags.remove(ANY);
            }
        })
        .await
    }

    /// Makes the change to the newest notes, whoever else changes them; none if they are so already.
    async fn change_notes(&self, change: impl Fn(&mut Notes)) -> Result<(), LakeError> {
        loop {
            let (version, before) = self.notes().await?;
            let mut notes = before.clone();
            change(&mut notes);
            if notes == before {
                return Ok(());
            }
            let bytes = serde_json::to_vec(&notes)
                .map_err(|source| LakeError::Document { key: NOTES.to_owned(), source })?;
            if self.put_document(NOTES, version, bytes).await? {
                return Ok(());
            }
        }
    }

    /// The notes, and the number of their next version.
    async fn notes(&self) -> Result<(u64, Notes), LakeError> {
        if !self.may_have(NOTES) {
            return Ok((0, Notes::default()));
        }
        let Some((version, bytes)) = self.newest_document(NOTES).await? else {
            return Ok((0, Notes::default()));
        };
        let notes = serde_json::from_slice(&bytes)
            .map_err(|source| LakeError::Document { key: NOTES.to_owned(), source })?;
        Ok((version + 1, notes))
    }

    /// Objects under the tags by which the lake knows them. The notes are read after the objects were looked up: one that
    /// was rewritten before has its note then.
    pub(crate) async fn known_as(
        &self,
        mut objects: Vec<BronzeObject>,
    ) -> Result<Vec<BronzeObject>, LakeError> {
        if objects.is_empty() {
            return Ok(objects);
        }
        let (_, notes) = self.notes().await?;
        for object in &mut objects {
            if let Some(known) = notes.known(object) {
                object.etag.clone_from(&known.etag);
                object.modified_ms = known.modified_ms;
            }
        }
        Ok(objects)
    }

    /// Whether the lake knows what was found under this tag; no look is taken where the store's own tag is that one.
    pub(super) async fn is_known_as(&self, found: &BronzeObject, tag: &str) -> Result<bool, LakeError> {
        Ok(found.etag == tag || self.notes().await?.1.known(found).is_some_and(|known| known.etag == tag))
    }

    pub(super) fn known_as_stream(
        self,
        found: impl Stream<Item = Result<BronzeObject, LakeError>> + Send + 'static,
    ) -> BoxStream<'static, Result<BronzeObject, LakeError>> {
        let pages = found.chunks(LISTED_AT_ONCE).then(move |page| {
            let lake = self.clone();
            async move { lake.known_as(page.into_iter().collect::<Result<_, _>>()?).await }
        });
        pages.map_ok(|page| futures::stream::iter(page.into_iter().map(Ok))).try_flatten().boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_rewritten_object_stays_the_same_object_and_its_other_name_keeps_the_old_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(url::Url::from_directory_path(dir.path()).unwrap().as_str()).unwrap();
        let key = "bronze/orders/a.ndjson.gz";
        lake.put_durable(key, Bytes::from_static(b"with a person")).await.unwrap();
        std::fs::hard_link(dir.path().join(key), dir.path().join("shared")).unwrap();
        let before = lake.list_bronze().await.unwrap();
        for bytes in ["without", "without", "not even that"] {
            lake.replace_bronze(&before[0], Some(bytes.into())).await.unwrap();
            let now = lake.list_bronze().await.unwrap();
            assert_eq!((&now[0].etag, now[0].modified_ms), (&before[0].etag, before[0].modified_ms));
            assert_eq!(lake.read_as_listed(&before[0]).await.unwrap(), bytes);
            assert_eq!(lake.bronze_object(key).await.unwrap().unwrap().etag, before[0].etag);
        }
        assert_eq!(lake.read("shared").await.unwrap(), "with a person");
        let (into, other) = (tempfile::tempdir().unwrap(), &before[0]);
        let into = Lake::open(url::Url::from_directory_path(into.path()).unwrap().as_str()).unwrap();
        into.adopt(&lake, other).unwrap();
        into.adopt_tags(&lake).await.unwrap();
        assert_eq!(into.list_bronze().await.unwrap()[0].etag, before[0].etag);
    }

    fn bucket(host: &str) -> Lake {
        let url = url::Url::parse(&format!("memory://{host}")).unwrap();
        Lake::over(url, Arc::new(object_store::memory::InMemory::new()))
    }

    async fn other(lake: &Lake, key: &str, bytes: &'static str) {
        lake.store.put(&location(key).unwrap(), bytes.into()).await.unwrap();
    }

    #[tokio::test]
    async fn in_a_bucket_a_rewritten_object_stays_the_same_and_other_bytes_are_another() {
        let lake = bucket("rewritten");
        let key = "bronze/orders/a.ndjson";
        lake.put_durable(key, Bytes::from_static(b"with a person")).await.unwrap();
        let before = lake.bronze_object(key).await.unwrap().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        for bytes in ["without", "not even that"] {
            lake.replace_bronze(&before, Some(bytes.into())).await.unwrap();
            let expected = BronzeObject { bytes: bytes.len() as u64, ..before.clone() };
            assert_eq!(lake.bronze_object_as(key, &before.etag).await.unwrap().as_ref(), Some(&expected));
            assert_eq!(lake.list_bronze().await.unwrap(), [expected]);
            assert_eq!(lake.read_as_listed(&before).await.unwrap(), bytes);
        }
        other(&lake, key, "of another").await;
        assert_ne!(lake.bronze_object(key).await.unwrap().unwrap().etag, before.etag);
        assert_eq!(lake.bronze_object_as(key, &before.etag).await.unwrap(), None);
        let refused = lake.replace_bronze(&before, Some("without".into())).await;
        assert!(matches!(refused, Err(LakeError::Changed { .. })), "{refused:?}");
        assert_eq!(lake.read(key).await.unwrap(), "of another");
    }

    #[tokio::test]
    async fn a_rewrite_in_a_bucket_that_is_cut_anywhere_is_ended_by_another() {
        for put in [false, true] {
            let lake = bucket(&format!("cut-{put}"));
            let key = "bronze/orders/a.ndjson";
            lake.put_durable(key, Bytes::from_static(b"with a person")).await.unwrap();
            let before = lake.bronze_object(key).await.unwrap().unwrap();
            // What a rewrite has done before the bytes are there, and before the tag is known.
            lake.note(&before, ANY).await.unwrap();
            if put {
                other(&lake, key, "without").await;
            }
            assert_eq!(lake.bronze_object(key).await.unwrap().unwrap().etag, before.etag);
            let rest = (!put).then(|| Bytes::from_static(b"without"));
            lake.replace_bronze(&before, rest).await.unwrap();
            assert_eq!(lake.bronze_object(key).await.unwrap().unwrap().etag, before.etag);
            let (_, notes) = lake.notes().await.unwrap();
            assert_eq!(notes.0[key].len(), 1);
            assert!(!notes.0[key].contains_key(ANY));
        }
    }
}
