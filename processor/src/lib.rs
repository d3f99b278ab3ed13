//! Processor.

pub mod bronze;
pub mod check;
pub mod conform;
pub mod contract;
pub mod decode;
pub mod examine;
pub mod redact;
