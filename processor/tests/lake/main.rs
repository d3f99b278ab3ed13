//! The processor on lakes of its own, by its library and by its program: one binary, since linking is what costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod alerts;
mod catalog;
mod lambda;
mod s3;
mod silver;
mod upkeep;

// Stand-ins for AWS.
mod moto;
mod queues;
mod runtime;
