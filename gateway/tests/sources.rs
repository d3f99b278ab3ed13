//! Sources against real ports, brokers and buses: what they get arrives in bronze once, what goes away
//! comes back, and no input stops the gateway.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

#[path = "sources/examples.rs"]
mod examples;
#[path = "sources/modbus.rs"]
mod modbus;
#[path = "sources/mqtt.rs"]
mod mqtt;
#[path = "sources/ndjson.rs"]
mod ndjson;
#[path = "sources/running.rs"]
mod running;
#[path = "sources/serial.rs"]
mod serial;
#[path = "sources/w1.rs"]
mod w1;
