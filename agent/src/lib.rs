//! # ingot-agent: from a sensor to a sealed frame
//!
//! A reading is born in a [`sensor`], taken when it is due by the [`sampler`], checked against its
//! channel's range by [`range`], put into a [`batch`], and leaves as a *frame*: a self-contained,
//! checksummed run of bytes whose layout is `docs/wire-format.md`. [`frame_reader`] cuts
//! frames out of a byte stream, [`frame`] checks them, [`decoder`] gives their readings back.
//!
//! No std, no heap, no unsafe: time and bytes are arguments, sizes are const parameters.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod batch;
pub mod channel;
mod checksum;
mod codec;
pub mod decoder;
pub mod frame;
pub mod frame_reader;
mod header;
pub mod range;
pub mod reading;
pub mod sampler;
pub mod sensor;
mod stuffing;

pub use batch::{Batch, DeclareError, DeviceId, NotEmpty, PushError, Sealed, SeriesId};
pub use channel::ChannelSpec;
pub use decoder::Decoder;
pub use frame::{Frame, FrameError};
pub use frame_reader::{Cut, FrameReader};
pub use reading::{Drop, Quality, Reading};
pub use sampler::Sampler;
