//! CSV with a header row (RFC 4180: quoted fields may hold commas, quotes and newlines).
//!
//! An empty field is a missing value. A quote that never closes swallows the rows behind it: they are
//! one row then, and one discard row, because nobody can say where they begin. The reader takes the object's end for the
//! quote's, so the last row is looked at once more.

use ::csv::{ByteRecord, Reader, ReaderBuilder};

use super::ndjson::LINE_BYTES_MAX;
use super::part::{Part, Taken};
use super::parts::RowEnd;
use super::{Fault, Field, Span, place};
use crate::bronze::Format;
use crate::contract::Column;

fn reader(bytes: &[u8]) -> Reader<&[u8]> {
    ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes)
}

/// The names of the header row, white space around them taken off; none if the object is empty.
pub(super) fn header(bytes: &[u8]) -> Vec<String> {
    let mut record = ByteRecord::new();
    match reader(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).read_byte_record(&mut record) {
        Ok(true) => names(&record),
        _ => Vec::new(),
    }
}

fn names(record: &ByteRecord) -> Vec<String> {
    record.iter().map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned()).collect()
}

/// The columns of a header's names.
struct Places {
    columns: Vec<Option<usize>>,
    duplicate: bool,
}

impl Places {
    fn new(header: &[String], columns: &[Column]) -> Self {
        let columns: Vec<Option<usize>> = header.iter().map(|name| place(columns, name)).collect();
        let duplicate =
            (1..columns.len()).any(|at| columns[at].is_some() && columns[..at].contains(&columns[at]));
        Self { columns, duplicate }
    }
}

/// Gives every record after the header to `row`.
pub(super) fn rows(
    part: &Part<'_>,
    columns: &[Column],
    taken: &mut Taken,
    row: &mut impl FnMut(Span, Result<&[Field<'_>], Fault>),
) {
    let bytes = &part.bytes[..part.rows_end()];
    let mark = part.mark().min(bytes.len());
    let mut reader = reader(&bytes[mark..]);
    let mut record = ByteRecord::new();
    let mut places = part.header.map(|header| Places::new(header, columns));
    taken.bytes = mark;
    // A reader of a slice has no I/O to fail, and a flexible one takes any number of fields.
    while taken.rows < part.rows_max
        && let Ok(true) = reader.read_byte_record(&mut record)
    {
        let end = mark + reader.position().byte() as usize;
        if part.is_open() && end == bytes.len() {
            // It may go on behind the part. Line ends before it are not content.
            break;
        }
        let open_quote = end == bytes.len() && is_quote_open(&bytes[taken.bytes..]);
        if open_quote && part.is_cut() {
            // The line end that it was cut at is within a field: it belongs to what could not be unpacked.
            taken.torn = true;
            break;
        }
        let span = span(part, taken, end);
        taken.bytes = end;
        if open_quote && places.is_none() {
            // What it holds are not names.
            taken.header = Some(Vec::new());
            row(span, Err(Fault::OpenQuote { bytes: span.len }));
            taken.rows += 1;
            continue;
        }
        let Some(places) = &places else {
            let header = names(&record);
            let found = Places::new(&header, columns);
            if found.columns.iter().all(Option::is_none) {
                row(span, Err(Fault::NoHeader));
                taken.rows += 1;
            }
            (places, taken.header) = (Some(found), Some(header));
            continue;
        };
        match fields(&record, places, columns.len()) {
            _ if span.len > LINE_BYTES_MAX => row(span, Err(Fault::LineTooLong { bytes: span.len })),
            _ if open_quote => row(span, Err(Fault::OpenQuote { bytes: span.len })),
            Ok(fields) => row(span, Ok(&fields)),
            Err(fault) => row(span, Err(fault)),
        }
        taken.rows += 1;
    }
    // Line ends that no record follows, or that the next one begins behind.
    taken.bytes += bytes[taken.bytes..].iter().take_while(|byte| is_line_end(byte)).count();
    if taken.rows > 0 {
        let here = taken.header.clone();
        for name in here.as_deref().or(part.header).unwrap_or_default() {
            if place(columns, name).is_none() {
                taken.unknown.count(name, taken.rows as u64);
            }
        }
    }
}

fn fields<'r>(record: &'r ByteRecord, places: &Places, columns: usize) -> Result<Vec<Field<'r>>, Fault> {
    if places.duplicate {
        return Err(Fault::DuplicateKey);
    }
    if record.len() != places.columns.len() {
        return Err(Fault::RaggedRow { fields: record.len(), header: places.columns.len() });
    }
    let mut fields = vec![Field::Missing; columns];
    for (value, place) in record.iter().zip(&places.columns) {
        let value = std::str::from_utf8(value).map_err(|_| Fault::NotUtf8)?;
        if let Some(place) = place
            && !value.is_empty()
        {
            fields[*place] = Field::Text(value);
        }
    }
    Ok(fields)
}

/// Whether a quote is open where the record's bytes end: then not even a further line end would end it.
fn is_quote_open(record: &[u8]) -> bool {
    let mut end = RowEnd::new(Format::Csv);
    end.find(record).is_none() && end.find(b"\n").is_none()
}

fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The next record, which ends before `end`, without the line ends around it.
fn span(part: &Part<'_>, taken: &Taken, end: usize) -> Span {
    let record = &part.bytes[taken.bytes..end];
    let before = record.iter().take_while(|byte| is_line_end(byte)).count();
    let after = record[before..].iter().rev().take_while(|byte| is_line_end(byte)).count();
    Span {
        ordinal: part.next(taken),
        offset: part.first.offset + taken.bytes + before,
        len: record.len() - before - after,
    }
}

/// A record's fields, read again from its own bytes.
pub(super) fn record_fields(bytes: &[u8]) -> Vec<String> {
    let mut record = ByteRecord::new();
    match reader(bytes).read_byte_record(&mut record) {
        Ok(true) => record.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect(),
        _ => Vec::new(),
    }
}
