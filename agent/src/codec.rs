//! The frame's body: readings as the shortest run of bytes that a small device can afford.
//!
//! Every reading becomes a handful of yes/no questions whose odds are learned on the way; a binary
//! range coder writes likely answers in far less than a bit. `reading` asks the questions, in order:
//! which series (`declaration`, `name`), when (`time`), what value (`value`, `predictor`, `dictionary`).
//! Encoder and decoder run the same code (see [`range_coder::BitCoder`]), so they cannot disagree.
//! What is learned is forgotten at each seal: every frame decodes alone.

pub(crate) mod declaration;
pub(crate) mod dictionary;
pub(crate) mod name;
pub(crate) mod predictor;
pub(crate) mod probability;
pub(crate) mod range_coder;
pub(crate) mod reading;
pub(crate) mod residual;
pub(crate) mod scale;
pub(crate) mod series;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod value;

/// The body is not what an encoder writes.
#[derive(Debug)]
pub(crate) struct Damaged;
