//! NDJSON: a JSON object per line. Blank lines are not rows; white space around a line is not content.

use std::io::BufRead;

use super::json::FieldReader;
use super::{Fault, Field, Span, UnknownFields, without_mark};
use crate::contract::Column;

/// Longest row of text that is read, in bytes: 1 MiB, ten thousand times a usual one.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Gives every line to `row`; how many there were.
pub(super) fn rows(
    bytes: &[u8],
    columns: &[Column],
    unknown: &mut UnknownFields,
    row: &mut impl FnMut(Span, Result<&[Field<'_>], Fault>),
) -> i64 {
    let (bytes, mark) = without_mark(bytes);
    // One look at the whole object is cheaper than one per line; only a bad object pays for both.
    let whole = std::str::from_utf8(bytes).ok();
    let mut reader = FieldReader::new(columns);
    let mut fields = Vec::with_capacity(columns.len());
    let mut ordinal = 0;
    let mut rest = bytes;
    while let Ok(len @ 1..) = rest.skip_until(b'\n') {
        let end = bytes.len() - rest.len();
        let line = bytes[end - len..end].trim_ascii_start();
        let start = end - line.len();
        let line = line.trim_ascii_end();
        if line.is_empty() {
            continue;
        }
        let text = match whole {
            Some(whole) => Some(&whole[start..start + line.len()]),
            None => std::str::from_utf8(line).ok(),
        };
        let read = match text {
            _ if line.len() > LINE_BYTES_MAX => Err(Fault::LineTooLong { bytes: line.len() }),
            None => Err(Fault::NotUtf8),
            Some(text) => reader.read(text, &mut fields, unknown),
        };
        row(Span { ordinal, offset: mark + start, len: line.len() }, read.map(|()| fields.as_slice()));
        ordinal += 1;
    }
    ordinal
}
