//! Calls to AWS: the lake's bucket, a queue, a topic, a secret, Glue's catalog and Athena.
//!
//! Ten calls beside S3 do not need an SDK. [`access`] is where AWS is and who calls, [`s3`] the bucket as an object
//! store; [`client`] signs the other requests and tries them again where that can help, [`error`] says what was refused
//! and which right is missing; [`queue`], [`topic`], [`secret`], [`glue`] and [`athena`]
//! are the calls, [`notice`] is the S3 event of an object. A program
//! has one identity: environment variables, a web identity, or what a container or an
//! instance offers. Profile files are not read; `aws configure export-credentials --format env` writes them
//! as variables.

pub mod access;
pub mod athena;
pub mod client;
pub mod error;
pub mod glue;
pub mod notice;
pub mod queue;
pub mod s3;
pub mod secret;
pub mod topic;
