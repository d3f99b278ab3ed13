//! # ingot-agent: from a sensor to a sealed frame
//!
//! A reading is born in a [`sensor`], taken when it is due by the [`sampler`], checked against its
//! channel's range by [`range`], put into a [`batch`], and leaves as a *frame*: a self-contained,
//! checksummed run of bytes whose layout is `docs/wire-format.md`. [`frame`] reads frames back.
//!
//! No std, no heap, no unsafe: time and bytes are arguments, sizes are const parameters.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod batch;
pub mod channel;
pub mod frame;
pub mod range;
pub mod reading;

pub use batch::{Batch, DeclareError, DeviceId, Full, Sealed, SeriesId};
pub use channel::ChannelSpec;
pub use frame::{Decoder, Frame, FrameError, FrameReader};
pub use reading::{Drop, Quality, Reading};
