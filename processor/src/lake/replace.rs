//! Replacing a bronze object's bytes under the identity that it has: what erasure needs, and nothing else does.
//!
//! The new bytes come as a new file that takes the name, so that whoever shares the old file under another name (a
//! rebuilt lake) keeps it. The time of the last change stays, by which rows are judged and ordered. Where the
//! size differs the store's tag does, too: the lake then notes, before the name is taken, that the new tag
//! stands for the old one. Silver, discard and ledger never see another object.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};

use super::{BronzeObject, Lake, LakeError, location};

/// Where the notes are, below the lake.
const NOTES: &str = "retagged";
/// Objects of a listing that are looked up at once.
const LISTED_AT_ONCE: usize = 1_000;

/// By key, and by the tag that the store gives it: the tag under which the lake knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Notes(BTreeMap<String, BTreeMap<String, String>>);

impl Notes {
    fn known(&self, object: &BronzeObject) -> Option<&String> {
        self.0.get(&object.key)?.get(&object.etag)
    }
}

impl Lake {
    /// Gives a bronze object other bytes under its key and tag; its size in the store now.
    pub(crate) async fn replace_bronze(&self, object: &BronzeObject, bytes: Bytes) -> Result<u64, LakeError> {
        let key = &object.key;
        let root = self.folder("rewriting bronze")?;
        let found = self.store.head(&location(key)?).await.map_err(|source| LakeError::Store {
            operation: "looking for",
            key: key.clone(),
            source,
        })?;
        let tag = self.content_tag(&found);
        let (time, _) = tag.split_once('-').ok_or_else(|| LakeError::Changed { key: key.clone() })?;
        let new_tag = format!("{time}-{:x}", bytes.len());
        if new_tag != object.etag {
            self.note(key, &new_tag, &object.etag).await?;
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
        self.sync(key)?;
        Ok(bytes.len() as u64)
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
        for (key, tags) in from.notes().await?.1.0 {
            for (tag, known) in tags {
                self.note(&key, &tag, &known).await?;
            }
        }
        Ok(())
    }

    async fn note(&self, key: &str, tag: &str, known: &str) -> Result<(), LakeError> {
        loop {
            let (version, mut notes) = self.notes().await?;
            let before = notes.0.entry(key.to_owned()).or_default().insert(tag.to_owned(), known.to_owned());
            if before.as_deref() == Some(known) {
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
        if !self.has_retagged() {
            return Ok((0, Notes::default()));
        }
        let Some((version, bytes)) = self.newest_document(NOTES).await? else {
            return Ok((0, Notes::default()));
        };
        let notes = serde_json::from_slice(&bytes)
            .map_err(|source| LakeError::Document { key: NOTES.to_owned(), source })?;
        Ok((version + 1, notes))
    }

    /// Whether any object was ever rewritten; only a lake in a folder can have such.
    pub(super) fn has_retagged(&self) -> bool {
        self.root.as_ref().is_some_and(|root| root.join(NOTES).is_dir())
    }

    /// Listed objects under the tags by which the lake knows them. The notes are read after the listing: one that
    /// was rewritten before has its note then.
    pub(super) async fn known_as(
        &self,
        mut objects: Vec<BronzeObject>,
    ) -> Result<Vec<BronzeObject>, LakeError> {
        let (_, notes) = self.notes().await?;
        for object in &mut objects {
            if let Some(known) = notes.known(object) {
                object.etag.clone_from(known);
            }
        }
        Ok(objects)
    }

    pub(super) async fn is_known_as(&self, found: &BronzeObject, tag: &str) -> Result<bool, LakeError> {
        Ok(self.notes().await?.1.known(found).is_some_and(|known| known == tag))
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
            lake.replace_bronze(&before[0], bytes.into()).await.unwrap();
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
}
