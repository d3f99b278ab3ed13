//! # ingot-sim: a fleet that exists only in numbers, and the truth about it
//!
//! A [`device`] samples its simulated chips with the agent's own drivers and sampler; [`faults`]
//! spoil some of its readings, as real sensors do; a [`fleet`] runs many devices in time order. Every
//! reading is a [`sample`], written for the road as [`ndjson`] or [`frames`] and, before anything
//! can touch it, into the [`truth`]. The [`broker`] stands in for the cloud's MQTT endpoint, with
//! outages on demand. With the feature `lake`, [`verify`] holds the truth against a lake, and [`demo`]
//! runs the whole road on this machine.

pub mod broker;
#[cfg(feature = "lake")]
pub mod demo;
pub mod device;
pub mod faults;
pub mod fleet;
pub mod frames;
pub mod ndjson;
pub mod sample;
pub mod truth;
#[cfg(feature = "lake")]
pub mod verify;

pub use broker::{Broker, BrokerFaults, BrokerStats, Outage};
pub use device::VirtualDevice;
pub use faults::{FaultCounts, FaultProfile};
pub use fleet::{Emission, Fleet, FleetConfig};
pub use sample::Sample;
