//! A part of an object: the bytes that are worked on at a time, and the rows that are whole in them.
//!
//! A part's rows are numbered and placed as those of the object, whatever was in the parts before.

use super::frames::FrameHeader;
use super::unpack::Problem;
use super::{Fault, Field, Span, UnknownFields, csv, frames, ndjson};
use crate::bronze::Format;
use crate::contract::Contract;

/// Where in its object a part begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Rows before it.
    pub ordinal: i64,
    /// Bytes before it, in the unpacked object.
    pub offset: usize,
}

/// What is behind a part's bytes.
#[derive(Clone, Copy)]
pub(super) enum End<'a> {
    /// More of the object.
    Open,
    /// Nothing.
    Whole,
    /// What could not be unpacked.
    Stopped(&'a Problem),
}

/// Bytes of an object, from a row's first one on.
pub struct Part<'a> {
    pub(super) format: Format,
    pub(super) bytes: &'a [u8],
    pub(super) first: Place,
    pub(super) rows_max: usize,
    pub(super) end: End<'a>,
    /// The header of a CSV object, where it was in a part before.
    pub(super) header: Option<&'a [String]>,
    /// The part is the beginning of one row of so many bytes.
    pub(super) long_row: Option<usize>,
}

/// What a part's rows took of it, and what they say beside themselves.
#[derive(Debug, Default)]
pub struct Taken {
    /// Rows, those with faults included.
    pub rows: usize,
    /// Bytes: what is behind them belongs to the next part.
    pub bytes: usize,
    /// Whether nothing of the object is left.
    pub last: bool,
    /// The headers of the sound frames, in order.
    pub frames: Vec<FrameHeader>,
    /// Fields that the contract does not know.
    pub unknown: UnknownFields,
    /// Whether the row behind what was taken is not whole, though a line end stands in it: unpacking stopped in it.
    pub(super) torn: bool,
    /// The header of a CSV object, if it was here.
    pub(super) header: Option<Vec<String>>,
}

impl<'a> Part<'a> {
    /// Where it begins.
    pub fn first(&self) -> Place {
        self.first
    }

    /// How its rows are written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether unpacking stopped behind it.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self.end, End::Stopped(_))
    }

    /// Whether more of the object is behind it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.end, End::Open)
    }

    /// A row's bytes, as far as they are here: of a row longer than a part only its beginning is.
    pub fn slice(&self, span: Span) -> &'a [u8] {
        let start = span.offset.saturating_sub(self.first.offset).min(self.bytes.len());
        &self.bytes[start..(start + span.len).min(self.bytes.len())]
    }

    /// The header of a CSV object.
    pub fn csv_header(&self) -> Vec<String> {
        match self.header {
            Some(header) => header.to_vec(),
            None => csv::header(&self.bytes[..self.rows_end()]),
        }
    }

    /// A CSV row's fields, read again from its own bytes.
    pub fn csv_fields(row: &[u8]) -> Vec<String> {
        csv::record_fields(row)
    }

    /// Gives every whole row to `row`, in order, with one field for each of the contract's columns; at most `rows_max`
    /// rows, or all of the frame that they end in.
    pub fn rows(&self, contract: &Contract, mut row: impl FnMut(Span, Result<&[Field<'_>], Fault>)) -> Taken {
        let mut taken = Taken::default();
        if let Some(bytes) = self.long_row {
            let span = Span { ordinal: self.first.ordinal, offset: self.first.offset, len: bytes };
            let fault = match self.format {
                Format::Frames => Fault::FrameTooLarge { start: span.offset, end: span.offset + bytes },
                Format::Ndjson | Format::Csv => Fault::LineTooLong { bytes },
            };
            row(span, Err(fault));
            taken.header = (self.format == Format::Csv && self.header.is_none()).then(Vec::new);
            (taken.rows, taken.bytes) = (1, self.bytes.len());
            return taken;
        }
        let columns = &contract.columns;
        match self.format {
            Format::Frames => frames::rows(self, columns, &mut taken, &mut row),
            Format::Ndjson => ndjson::rows(self, columns, &mut taken, &mut row),
            Format::Csv => csv::rows(self, columns, &mut taken, &mut row),
        }
        if let End::Stopped(problem) = self.end
            && (taken.torn || taken.bytes == self.rows_end())
        {
            let len = self.bytes.len() - taken.bytes;
            let offset = self.first.offset + taken.bytes;
            row(Span { ordinal: self.next(&taken), offset, len }, Err(Fault::Packing(problem.clone())));
            taken.rows += 1;
            taken.bytes = self.bytes.len();
            taken.last = true;
        }
        taken.last |= matches!(self.end, End::Whole) && taken.bytes == self.bytes.len();
        taken
    }

    /// The place of the next row.
    pub(super) fn next(&self, taken: &Taken) -> i64 {
        self.first.ordinal + taken.rows as i64
    }

    /// Where the rows end that are whole: before the part's end if there is more, or if unpacking stopped.
    pub(super) fn rows_end(&self) -> usize {
        match self.end {
            End::Whole => self.bytes.len(),
            // Only a reader of CSV knows which newline ends a row.
            End::Open if self.format == Format::Csv => self.bytes.len(),
            End::Open | End::Stopped(_) => {
                self.bytes.iter().rposition(|byte| *byte == self.format.row_end()).map_or(0, |end| end + 1)
            }
        }
    }

    /// How long the byte order mark is with which the object may begin.
    pub(super) fn mark(&self) -> usize {
        if self.first.offset == 0 && self.bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 }
    }
}
