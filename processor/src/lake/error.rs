//! Why a lake cannot be used, and what to do.

use crate::aws::error::SetupError;

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
