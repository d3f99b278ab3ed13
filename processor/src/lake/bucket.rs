//! A lake in a bucket of S3, at its root or below a prefix.
//!
//! A commit of Delta is a new key in the table's log, and S3 writes it only if it is new; so any number of processors
//! share the lake without a table of locks beside it.

use std::sync::Arc;

use deltalake::DeltaResult;
use deltalake::logstore::{
    LogStore, LogStoreFactory, ObjectStoreRef, StorageConfig, default_logstore, logstore_factories,
};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use url::Url;

use super::{Lake, LakeError};
use crate::aws::access::Access;
use crate::aws::s3::{Bucket, S3Place};

impl Lake {
    pub(super) fn in_bucket(place: &S3Place) -> Result<Self, LakeError> {
        let text = format!("s3://{}/{}", place.bucket, place.prefix);
        let url = Url::parse(&text).map_err(|_| LakeError::Url { url: text.clone() })?;
        let bucket = Access::from_env().and_then(|access| Bucket::new(&access, &place.bucket));
        let bucket = bucket.map_err(|source| LakeError::Setup { url: text, source })?;
        let scheme = Url::parse("s3://").map_err(|_| LakeError::Url { url: "s3://".to_owned() })?;
        logstore_factories().insert(scheme, Arc::new(PutIfAbsent));
        let base: Arc<dyn ObjectStore> = Arc::new(bucket);
        let store = match place.prefix.trim_end_matches('/') {
            "" => Arc::clone(&base),
            prefix => Arc::new(PrefixStore::new(Arc::clone(&base), prefix)),
        };
        Ok(Self { base, ..Self::over(url, store) })
    }
}

/// Logs in a store that writes a new key only if it is new.
struct PutIfAbsent;

impl LogStoreFactory for PutIfAbsent {
    fn with_options(
        &self,
        below_table: ObjectStoreRef,
        base: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(below_table, base, location, options))
    }
}
