//! A bronze object that is read range by range, as one that is too large for memory has to be.
//!
//! Every answer names the object's tag: one that is no longer what was opened ends the reading. Reading is blocking,
//! for decoders that pull; what went wrong in the store is kept aside, because they keep only its text.

use std::io::{Read, Result};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::reader::{ChunkReader, Length};
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;

use super::{BronzeObject, Lake, LakeError, location};

/// Bytes that are asked for at a time where an object is read from one end to the other.
const STREAM_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes that are asked for at a time where somebody looks around in it.
const LOOK_BYTES: u64 = 64 * 1024;

/// An object as it was when it was opened.
#[derive(Clone)]
pub(crate) struct Ranges {
    lake: Lake,
    key: String,
    meta: ObjectMeta,
    runtime: Handle,
    failure: Arc<Mutex<Option<LakeError>>>,
}

impl Lake {
    /// Opens a listed object, if it still is what was listed.
    pub(crate) async fn ranges(&self, object: &BronzeObject) -> std::result::Result<Ranges, LakeError> {
        let key = object.key.clone();
        let meta = self.store.head(&location(&key)?).await.map_err(failed(&key))?;
        let now = self.listed(meta.clone());
        if !self.is_known_as(&now, &object.etag).await? {
            return Err(LakeError::Changed { key });
        }
        Ok(Ranges { lake: self.clone(), key, meta, runtime: Handle::current(), failure: Arc::default() })
    }
}

fn failed(key: &str) -> impl FnOnce(object_store::Error) -> LakeError {
    let key = key.to_owned();
    move |source| LakeError::Store { operation: "reading", key, source }
}

impl Ranges {
    /// What the store said, where reading failed because of it.
    pub(crate) fn failure(&self) -> Option<LakeError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Fails if the object is no longer what was opened.
    pub(crate) async fn check_unchanged(&self) -> std::result::Result<(), LakeError> {
        let meta = self.lake.store.head(&location(&self.key)?).await.map_err(failed(&self.key))?;
        self.is_as_opened(&meta)
    }

    fn is_as_opened(&self, meta: &ObjectMeta) -> std::result::Result<(), LakeError> {
        let as_opened = meta.e_tag == self.meta.e_tag && meta.size == self.meta.size;
        if as_opened { Ok(()) } else { Err(LakeError::Changed { key: self.key.clone() }) }
    }

    async fn ask(&self, start: u64, end: u64) -> std::result::Result<Bytes, LakeError> {
        let options = GetOptions { range: Some(GetRange::Bounded(start..end)), ..GetOptions::default() };
        let found =
            self.lake.store.get_opts(&location(&self.key)?, options).await.map_err(failed(&self.key))?;
        self.is_as_opened(&found.meta)?;
        found.bytes().await.map_err(failed(&self.key))
    }

    /// The bytes from `start` on, `len` of them or up to the end.
    fn get(&self, start: u64, len: u64) -> Result<Bytes> {
        let end = start.saturating_add(len).min(self.meta.size);
        if start >= end {
            return Ok(Bytes::new());
        }
        self.runtime.block_on(self.ask(start, end)).map_err(|error| {
            let text = error.to_string();
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            std::io::Error::other(text)
        })
    }
}

impl Length for Ranges {
    fn len(&self) -> u64 {
        self.meta.size
    }
}

impl ChunkReader for Ranges {
    type T = RangeReader;

    fn get_read(&self, start: u64) -> std::result::Result<RangeReader, ParquetError> {
        let step = if start == 0 { STREAM_BYTES } else { LOOK_BYTES };
        Ok(RangeReader { ranges: self.clone(), next: start, step, here: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        let bytes = self.get(start, length as u64)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} on are not in the file")));
        }
        Ok(bytes)
    }
}

/// Reads on from a place in the object.
pub(crate) struct RangeReader {
    ranges: Ranges,
    next: u64,
    step: u64,
    here: Bytes,
}

impl Read for RangeReader {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.here.is_empty() {
            self.here = self.ranges.get(self.next, self.step)?;
            self.next += self.here.len() as u64;
        }
        let read = self.here.split_to(out.len().min(self.here.len()));
        out[..read.len()].copy_from_slice(&read);
        Ok(read.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use url::Url;

    use super::*;

    fn read(mut reader: impl Read) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ranges_are_the_object_and_end_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(Url::from_directory_path(dir.path()).unwrap().as_str()).unwrap();
        let key = "bronze/orders/a b.ndjson";
        let bytes: Vec<u8> = (0..STREAM_BYTES + 100).map(|at| (at % 251) as u8).collect();
        lake.put_durable(key, bytes.clone().into()).await.unwrap();
        let object = lake.bronze_object(key).await.unwrap().unwrap();
        let ranges = lake.ranges(&object).await.unwrap();
        ranges.check_unchanged().await.unwrap();
        let there = ranges.clone();
        tokio::task::spawn_blocking(move || {
            assert!(read(there.get_read(0).unwrap()).unwrap() == bytes);
            assert!(read(there.get_read(100_000).unwrap()).unwrap() == bytes[100_000..]);
            assert!(there.get_bytes(5, 7).unwrap() == bytes[5..12]);
            assert!(there.get_bytes(there.len() - 3, 4).is_err());
        })
        .await
        .unwrap();
        assert!(ranges.failure().is_none());

        std::fs::write(dir.path().join(key), "other").unwrap();
        assert!(matches!(ranges.check_unchanged().await, Err(LakeError::Changed { .. })));
        assert!(matches!(lake.ranges(&object).await, Err(LakeError::Changed { .. })));
        let there = ranges.clone();
        tokio::task::spawn_blocking(move || read(there.get_read(0).unwrap()).unwrap_err()).await.unwrap();
        assert!(matches!(ranges.failure(), Some(LakeError::Changed { .. })));
    }
}
