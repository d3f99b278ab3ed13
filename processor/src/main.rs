//! Processor.
fn main() {}
