//! The road from bronze on, with Ingot's own programs as a user runs them.
#![allow(clippy::unwrap_used, missing_docs)]

mod bad_input;
mod checks;
mod contract;
mod contract_changes;
mod contracts_document;
mod explain;
mod forget;
mod memory;
mod orders;
mod privacy;
mod readings;
mod web_events;
