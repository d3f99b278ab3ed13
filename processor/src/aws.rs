//! Calls to AWS beside S3: a queue, a topic, Glue's catalog and Athena.
//!
//! Nine calls do not need an SDK. [`client`] signs a request and tries it again where that can help,
//! [`error`] says what was refused and which right is missing; [`queue`], [`topic`], [`glue`] and [`athena`]
//! are the calls, [`notice`] is the S3 event of an object. Credentials and region come from where the lake's S3 takes them, so that a
//! program has one identity: environment variables, a web identity, or what a container or an
//! instance offers. Profile files are not read; `aws configure export-credentials --format env` writes them
//! as variables.

pub mod athena;
pub mod client;
pub mod error;
pub mod glue;
pub mod notice;
pub mod queue;
pub mod topic;
