//! CSV with a header row (RFC 4180: quoted fields may hold commas, quotes and newlines).
//!
//! An empty field is a missing value. A quote that never closes swallows the rows behind it: they are
//! one row then, and one discard row, because nobody can say where they begin.

use ::csv::{ByteRecord, Reader, ReaderBuilder};

use super::ndjson::LINE_BYTES_MAX;
use super::{Fault, Field, Span, UnknownFields, place, without_mark};
use crate::contract::Column;

fn reader(bytes: &[u8]) -> Reader<&[u8]> {
    ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes)
}

/// The names of the header row, white space around them taken off; none if the object is empty.
pub(super) fn header(bytes: &[u8]) -> Vec<String> {
    let mut record = ByteRecord::new();
    match reader(without_mark(bytes).0).read_byte_record(&mut record) {
        Ok(true) => names(&record),
        _ => Vec::new(),
    }
}

fn names(record: &ByteRecord) -> Vec<String> {
    record.iter().map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned()).collect()
}

/// Gives every record after the header to `row`; how many there were.
pub(super) fn rows(
    bytes: &[u8],
    columns: &[Column],
    unknown: &mut UnknownFields,
    row: &mut impl FnMut(Span, Result<&[Field<'_>], Fault>),
) -> i64 {
    let (bytes, mark) = without_mark(bytes);
    let mut reader = reader(bytes);
    let mut record = ByteRecord::new();
    let mut ordinal = 0;
    let mut places: Option<Vec<Option<usize>>> = None;
    let mut duplicate = false;
    // A reader of a slice has no I/O to fail, and a flexible one takes any number of fields.
    while let Ok(true) = reader.read_byte_record(&mut record) {
        let start = record.position().map_or(0, |position| position.byte() as usize);
        let end = reader.position().byte() as usize;
        let span = span(bytes, start, end, mark, ordinal);
        let Some(places) = &places else {
            let names = names(&record);
            let found: Vec<Option<usize>> = names.iter().map(|name| place(columns, name)).collect();
            duplicate = (1..found.len()).any(|at| found[at].is_some() && found[..at].contains(&found[at]));
            if found.iter().all(Option::is_none) {
                row(span, Err(Fault::NoHeader));
                ordinal += 1;
            }
            places = Some(found);
            continue;
        };
        let fields =
            if duplicate { Err(Fault::DuplicateKey) } else { fields(&record, places, columns.len()) };
        match fields {
            _ if span.len > LINE_BYTES_MAX => row(span, Err(Fault::LineTooLong { bytes: span.len })),
            Ok(fields) => row(span, Ok(&fields)),
            Err(fault) => row(span, Err(fault)),
        }
        ordinal += 1;
    }
    let rows = u64::try_from(ordinal).unwrap_or(0);
    if rows > 0 {
        for name in header(bytes).iter().filter(|name| place(columns, name).is_none()) {
            unknown.count(name, rows);
        }
    }
    ordinal
}

fn fields<'r>(
    record: &'r ByteRecord,
    places: &[Option<usize>],
    columns: usize,
) -> Result<Vec<Field<'r>>, Fault> {
    if record.len() != places.len() {
        return Err(Fault::RaggedRow { fields: record.len(), header: places.len() });
    }
    let mut fields = vec![Field::Missing; columns];
    for (value, place) in record.iter().zip(places) {
        let value = std::str::from_utf8(value).map_err(|_| Fault::NotUtf8)?;
        if let Some(place) = place
            && !value.is_empty()
        {
            fields[*place] = Field::Text(value);
        }
    }
    Ok(fields)
}

/// The record's bytes without the line ends around it.
fn span(bytes: &[u8], start: usize, end: usize, mark: usize, ordinal: i64) -> Span {
    let line_end = |byte: &&u8| matches!(**byte, b'\r' | b'\n');
    let record = &bytes[start..end];
    let before = record.iter().take_while(line_end).count();
    let after = record[before..].iter().rev().take_while(line_end).count();
    Span { ordinal, offset: mark + start + before, len: record.len() - before - after }
}

/// A record's fields, read again from its own bytes.
pub(super) fn record_fields(bytes: &[u8]) -> Vec<String> {
    let mut record = ByteRecord::new();
    match reader(bytes).read_byte_record(&mut record) {
        Ok(true) => record.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect(),
        _ => Vec::new(),
    }
}
