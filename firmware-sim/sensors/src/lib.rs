//! # ingot-sim-sensors: a seeded physical world, and chips that measure it
//!
//! [`world`] answers what the true temperature, humidity, pressure, voltage or vibration is at a
//! site at a time. [`bme280`] and [`sht4x`] are chips modelled register by register, wired to a
//! [`bus`] that speaks `embedded_hal::i2c::I2c`, so that the same driver crates which read the real
//! chips read these, unmodified.
//!
//! Everything is a pure function of its arguments: the same seed and times give the same bits on
//! every machine.

pub mod bme280;
pub mod bus;
pub mod chip;
pub mod noise;
pub mod sht4x;
pub mod world;

pub use bus::{BusError, BusFault, SimulatedBus};
pub use chip::{Chip, Environment};
pub use world::{Channel, Site, World};
