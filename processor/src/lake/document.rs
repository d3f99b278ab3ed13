//! Small documents that several processors change: each version is a file of its own, written once.
//!
//! Whoever creates the next version's file has made the change; another who read the same version fails
//! to, reads again, and decides anew. Old versions go after a day, long after anybody could still hold them.

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::{Lake, LakeError};

/// Versions that stay whatever their age.
const VERSIONS_KEPT: usize = 3;
/// How long every version stays, so that no slow writer can create it a second time.
const KEPT: TimeDelta = TimeDelta::days(1);

impl Lake {
    /// The newest version of the document in the folder `dir`, with its number.
    pub(crate) async fn newest_document(&self, dir: &str) -> Result<Option<(u64, Bytes)>, LakeError> {
        let versions = self.document_versions(dir).await?;
        let Some((version, meta)) = versions.last() else { return Ok(None) };
        Ok(Some((*version, self.read(meta.location.as_ref()).await?)))
    }

    /// Stores the document's version `version`; `false` where another writer was first.
    pub(crate) async fn put_document(
        &self,
        dir: &str,
        version: u64,
        bytes: Vec<u8>,
    ) -> Result<bool, LakeError> {
        let key = format!("{dir}/{version:020}.json");
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&super::location(&key)?, PutPayload::from(bytes), options).await {
            Ok(_) => self.sync(&key)?,
            Err(object_store::Error::AlreadyExists { .. }) => return Ok(false),
            Err(source) => return Err(LakeError::Store { operation: "storing", key, source }),
        }
        let versions = self.document_versions(dir).await?;
        let oldest = versions.len().saturating_sub(VERSIONS_KEPT);
        for (_, meta) in &versions[..oldest] {
            // Another writer may remove it first; one that stays goes with the next change.
            if Utc::now() - meta.last_modified > KEPT {
                self.store.delete(&meta.location).await.ok();
            }
        }
        Ok(true)
    }

    /// Removes every version of the document but the newest, and that too where `all`.
    pub(crate) async fn drop_documents(&self, dir: &str, all: bool) -> Result<(), LakeError> {
        let versions = self.document_versions(dir).await?;
        let kept = versions.len().saturating_sub(usize::from(!all));
        for (_, meta) in &versions[..kept] {
            match self.store.delete(&meta.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => {
                    let key = meta.location.to_string();
                    return Err(LakeError::Store { operation: "removing", key, source });
                }
            }
        }
        Ok(())
    }

    async fn document_versions(&self, dir: &str) -> Result<Vec<(u64, ObjectMeta)>, LakeError> {
        let listed: Vec<ObjectMeta> = self
            .store
            .list(Some(&Path::from(dir)))
            .try_collect()
            .await
            .map_err(|source| LakeError::Store { operation: "listing", key: dir.to_owned(), source })?;
        let version = |meta: &ObjectMeta| meta.location.filename()?.strip_suffix(".json")?.parse().ok();
        let mut versions: Vec<(u64, ObjectMeta)> =
            listed.into_iter().filter_map(|meta| Some((version(&meta)?, meta))).collect();
        versions.sort_by_key(|(version, _)| *version);
        Ok(versions)
    }
}
