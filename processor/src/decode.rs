//! From an object's bytes to its rows, in order: each with its place and its fields, or with a fault.
//!
//! A damaged row costs itself alone. Fields are not typed here, they are borrowed: [`crate::conform`]
//! reads them straight into columns.

mod csv;
mod frames;
mod gz;
pub(crate) mod json;
mod ndjson;

use std::collections::BTreeMap;

use bytes::Bytes;
use ingot_agent::FrameError;

use crate::bronze::{BronzeKey, Format};
use crate::contract::{Column, Contract};

pub use frames::FrameHeader;
pub use gz::Problem as GzProblem;
pub use ndjson::LINE_BYTES_MAX;

/// Most bytes of one object, after decompression: an object is examined in memory, as one batch.
pub const OBJECT_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Most names of unknown fields that are counted one by one; the rest counts under [`OTHER_FIELDS`].
const UNKNOWN_NAMES_MAX: usize = 64;

/// The name under which further unknown fields are counted.
pub const OTHER_FIELDS: &str = "(other)";

/// An object's bytes, decompressed.
pub struct Object {
    bytes: Bytes,
    /// Where the rows end that are whole: before the end only if decompression stopped early.
    rows_end: usize,
    /// Why decompression stopped early.
    problem: Option<GzProblem>,
}

/// Where a row stands in its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Position among the object's rows, from 0, bad ones included.
    pub ordinal: i64,
    /// First byte, in the decompressed object.
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
    /// `no_header`
    #[error("the first row names none of the contract's columns")]
    NoHeader,
    /// `gz`: all that follows the last whole row.
    #[error("{0}")]
    Gz(GzProblem),
    /// `forgotten`: it was erased, or is of somebody who was.
    #[error("the row is forgotten")]
    Forgotten,
}

impl Fault {
    /// The rule that the row is discarded by.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Frame { .. } => "frame",
            Self::LineTooLong { .. } => "line_too_long",
            Self::NotUtf8 => "not_utf8",
            Self::MalformedJson => "malformed_json",
            Self::NotAnObject => "not_an_object",
            Self::DuplicateKey => "duplicate_key",
            Self::RaggedRow { .. } => "ragged_row",
            Self::NoHeader => "no_header",
            Self::Gz(_) => "gz",
            Self::Forgotten => crate::forgotten::RULE,
        }
    }
}

/// What an object says beside its rows.
#[derive(Debug, Default)]
pub struct Aside {
    /// The headers of the sound frames, in order.
    pub frames: Vec<FrameHeader>,
    /// Fields that the contract does not know.
    pub unknown: UnknownFields,
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

impl Object {
    /// Whether it expands to more than [`OBJECT_BYTES_MAX`]; the rest was not read.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self.problem, Some(GzProblem::TooLarge { .. }))
    }

    /// Decompresses the object, as its key says.
    pub fn open(key: &BronzeKey, bytes: Bytes) -> Self {
        if !key.gzip {
            return Self { rows_end: bytes.len(), bytes, problem: None };
        }
        let (bytes, problem) = gz::expand(&bytes, OBJECT_BYTES_MAX);
        let rows_end = match problem {
            None => bytes.len(),
            Some(_) => bytes.iter().rposition(|byte| *byte == key.format.row_end()).map_or(0, |end| end + 1),
        };
        Self { bytes: bytes.into(), rows_end, problem }
    }

    /// The bytes after decompression.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether decompression stopped early.
    pub(crate) fn is_cut(&self) -> bool {
        self.problem.is_some()
    }

    /// Bytes after decompression.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A row's bytes.
    pub fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.offset..span.offset + span.len]
    }

    /// A CSV object's header.
    pub fn csv_header(&self) -> Vec<String> {
        csv::header(&self.bytes[..self.rows_end])
    }

    /// A CSV row's fields, read again from its own bytes.
    pub fn csv_fields(row: &[u8]) -> Vec<String> {
        csv::record_fields(row)
    }

    /// Gives every row to `row`, in order, with one field for each of the contract's columns.
    pub fn rows(
        &self,
        format: Format,
        contract: &Contract,
        mut row: impl FnMut(Span, Result<&[Field<'_>], Fault>),
    ) -> Aside {
        let bytes = &self.bytes[..self.rows_end];
        let columns = &contract.columns;
        let Aside { mut frames, mut unknown } = Aside::default();
        let rows = match format {
            Format::Frames => frames::rows(bytes, columns, &mut frames, &mut row),
            Format::Ndjson => ndjson::rows(bytes, columns, &mut unknown, &mut row),
            Format::Csv => csv::rows(bytes, columns, &mut unknown, &mut row),
        };
        if let Some(problem) = &self.problem {
            let rest = Span { ordinal: rows, offset: self.rows_end, len: self.bytes.len() - self.rows_end };
            row(rest, Err(Fault::Gz(problem.clone())));
        }
        Aside { frames, unknown }
    }
}

/// The names of the columns, for those that look fields up by name.
fn place(columns: &[Column], name: &str) -> Option<usize> {
    columns.iter().position(|column| column.name == name)
}

/// The bytes after a byte order mark, and how many were before.
fn without_mark(bytes: &[u8]) -> (&[u8], usize) {
    match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => (rest, 3),
        None => (bytes, 0),
    }
}
