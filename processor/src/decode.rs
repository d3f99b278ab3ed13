//! From an object's bytes to its rows, in order: each with its place and its fields, or with a fault.
//!
//! An object is unpacked as it is read ([`unpack`]), cut into parts of whole rows ([`parts`]), and each [`part`] gives
//! its rows. A damaged row costs itself alone. Fields are not typed here, they are borrowed: [`crate::conform`]
//! reads them straight into columns.

mod csv;
mod frames;
pub(crate) mod json;
mod limits;
mod ndjson;
mod parquet;
mod part;
mod parts;
mod unpack;

use std::collections::BTreeMap;

use ingot_agent::FrameError;

use crate::contract::Column;

pub use frames::{FRAME_READINGS_MAX, FrameHeader};
pub use limits::{Limits, PART_BYTES_MAX, PART_ROWS_MAX};
pub use ndjson::LINE_BYTES_MAX;
pub use part::{Part, Place, Taken};
pub use parts::Parts;
pub use unpack::{EXPANDED_BYTES_MAX, EXPANDED_RATIO_MAX, Problem, Weight, expanded_bytes_max, weigh};

/// Most names of unknown fields that are counted one by one; the rest counts under [`OTHER_FIELDS`].
const UNKNOWN_NAMES_MAX: usize = 64;

/// The name under which further unknown fields are counted.
pub const OTHER_FIELDS: &str = "(other)";

/// Where a row stands in its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Position among the object's rows, from 0, bad ones included.
    pub ordinal: i64,
    /// First byte, in the unpacked object.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
}

/// A field's value as it was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// Not there, or null.
    Missing,
    /// The text of a JSON value.
    Json(&'a str),
    /// The text of a CSV field, or a frame's name.
    Text(&'a str),
    /// A frame's count, milliseconds or flags.
    Integer(i64),
    /// A frame's value; may be NaN or infinite.
    Number(f64),
}

/// Why a row has no fields. The name in brackets is the discard rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// `frame`: the rest of a damaged frame, or all of it.
    #[error("bytes {start}..{end} of the object: {error}")]
    Frame {
        /// The frame's first byte.
        start: usize,
        /// After its last byte.
        end: usize,
        /// What is wrong with it.
        error: FrameError,
    },
    /// `frame`: longer than a part, or with more readings than one may have.
    #[error(
        "bytes {start}..{end} of the object: the frame is longer than a part, or has more than {FRAME_READINGS_MAX} readings; seal smaller ones"
    )]
    FrameTooLarge {
        /// The frame's first byte.
        start: usize,
        /// After its last byte.
        end: usize,
    },
    /// `line_too_long`
    #[error("the row has {bytes} bytes, at most {LINE_BYTES_MAX} are read")]
    LineTooLong {
        /// Its length.
        bytes: usize,
    },
    /// `not_utf8`
    #[error("the row is not UTF-8")]
    NotUtf8,
    /// `malformed_json`
    #[error("the row is not JSON")]
    MalformedJson,
    /// `not_an_object`
    #[error("the row is JSON, but not an object")]
    NotAnObject,
    /// `duplicate_key`: two readers could see two values, so neither is taken.
    #[error("the row has a column twice")]
    DuplicateKey,
    /// `ragged_row`
    #[error("the row has {fields} fields, the header {header}")]
    RaggedRow {
        /// Fields in the row.
        fields: usize,
        /// Fields in the header.
        header: usize,
    },
    /// `open_quote`: rows that follow may be in it, and nobody can say where they begin.
    #[error(
        "the row opens a quote that nothing closes, so its {bytes} bytes go on to the end of the object; close the quote, or write it twice"
    )]
    OpenQuote {
        /// Its length.
        bytes: usize,
    },
    /// `no_header`
    #[error("the first row names none of the contract's columns")]
    NoHeader,
    /// `gz`, `zst`, `parquet`: all that follows the last whole row.
    #[error("{0}")]
    Packing(Problem),
    /// `forgotten`: it was erased, or is of somebody who was.
    #[error("the row is forgotten")]
    Forgotten,
}

/// The rules of faults of which one row stands for nobody knows how many.
pub(crate) const HIDING: [&str; 5] = ["frame", "gz", "zst", "parquet", "open_quote"];

/// The rule by which the rows of who is forgotten are discarded.
pub const FORGOTTEN: &str = "forgotten";

impl Fault {
    /// The rule that the row is discarded by.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Frame { .. } | Self::FrameTooLarge { .. } => "frame",
            Self::LineTooLong { .. } => "line_too_long",
            Self::NotUtf8 => "not_utf8",
            Self::MalformedJson => "malformed_json",
            Self::NotAnObject => "not_an_object",
            Self::DuplicateKey => "duplicate_key",
            Self::RaggedRow { .. } => "ragged_row",
            Self::OpenQuote { .. } => "open_quote",
            Self::NoHeader => "no_header",
            Self::Packing(problem) => problem.rule(),
            Self::Forgotten => FORGOTTEN,
        }
    }
}

/// Fields that the contract does not know, counted by name; boundedly many names.
#[derive(Debug, Default)]
pub struct UnknownFields(pub BTreeMap<String, u64>);

impl UnknownFields {
    fn count(&mut self, name: &str, rows: u64) {
        if let Some(count) = self.0.get_mut(name) {
            *count += rows;
        } else {
            let name = if self.0.len() < UNKNOWN_NAMES_MAX { name } else { OTHER_FIELDS };
            *self.0.entry(name.to_string()).or_default() += rows;
        }
    }
}

/// The names of the columns, for those that look fields up by name.
fn place(columns: &[Column], name: &str) -> Option<usize> {
    columns.iter().position(|column| column.name == name)
}
