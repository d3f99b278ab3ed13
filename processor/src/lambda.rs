//! The processor as a function of AWS Lambda: the same library, driven by events instead of by listing bronze.
//!
//! [`runtime`] asks for invocations and answers them, [`event`] says what one brings, [`batch`] which messages of a
//! queue are done, [`ingest`] promotes the objects that they name. Work by the clock (gold, upkeep, audit, catalog) is what the
//! commands of the same names do.

pub mod batch;
pub mod event;
pub mod ingest;
pub mod runtime;
