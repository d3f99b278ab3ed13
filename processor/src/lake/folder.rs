//! A folder's files as objects, those too whose names no object can have: one of them does not end the listing.
//!
//! `object_store` gives an error for such a name and, within a runtime, ends there. Outside of one its listing is the plain
//! walk, with an answer for each file; so a thread of its own makes it.

use std::sync::Arc;
use std::thread;

use futures::StreamExt;
use futures::executor::block_on_stream;
use futures::stream::{self, BoxStream};
use object_store::path::{Error as PathError, Path};
use object_store::{Error, ObjectMeta, ObjectStore, Result};
use tokio::sync::mpsc;

use crate::bronze::NOT_UTF8;

/// Files that are listed ahead.
const AHEAD_MAX: usize = 1_024;

/// What is listed.
pub(super) enum Listed {
    /// An object.
    Object(ObjectMeta),
    /// A file that is none, by its name.
    Impossible(String),
}

/// Everything below `prefix`, in no order.
pub(super) fn list(store: Arc<dyn ObjectStore>, prefix: Path) -> BoxStream<'static, Result<Listed>> {
    let (sender, receiver) = mpsc::channel(AHEAD_MAX);
    let failed = sender.clone();
    let walk = move || {
        for found in block_on_stream(store.list(Some(&prefix))) {
            if sender.blocking_send(listed(found)).is_err() {
                break;
            }
        }
    };
    if let Err(source) = thread::Builder::new().name("listing".into()).spawn(walk) {
        let error = Error::Generic { store: "a folder", source: source.into() };
        // There is room: nothing else was sent.
        failed.try_send(Err(error)).ok();
    }
    stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }).boxed()
}

fn listed(found: Result<ObjectMeta>) -> Result<Listed> {
    match found {
        Ok(meta) => Ok(Listed::Object(meta)),
        Err(Error::InvalidPath { source: PathError::BadSegment { path, .. } }) => Ok(impossible(&path)),
        // Here bytes that are not UTF-8 are percent-encoded.
        Err(Error::InvalidPath { source: PathError::NonUnicode { path, .. } }) => {
            Ok(impossible(&path.replace('%', &NOT_UTF8.to_string())))
        }
        Err(error) => Err(error),
    }
}

fn impossible(path: &str) -> Listed {
    Listed::Impossible(path.trim_start_matches('/').to_owned())
}
