//! NDJSON: a JSON object per line. Blank lines are not rows; white space around a line is not content.

use std::io::BufRead;

use super::json::FieldReader;
use super::part::{Part, Taken};
use super::{Fault, Field, Span};
use crate::contract::Column;

/// Longest row of text that is read, in bytes: 1 MiB, ten thousand times a usual one.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Gives every line to `row`.
pub(super) fn rows(
    part: &Part<'_>,
    columns: &[Column],
    taken: &mut Taken,
    row: &mut impl FnMut(Span, Result<&[Field<'_>], Fault>),
) {
    let (bytes, mark) = (&part.bytes[..part.rows_end()], part.mark().min(part.rows_end()));
    // One look at the whole part is cheaper than one per line; only a bad one pays for both.
    let whole = std::str::from_utf8(bytes).ok();
    let mut reader = FieldReader::new(columns);
    let mut fields = Vec::with_capacity(columns.len());
    let mut rest = &bytes[mark..];
    while taken.rows < part.rows_max
        && let Ok(len @ 1..) = rest.skip_until(b'\n')
    {
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
            Some(text) => reader.read(text, &mut fields, &mut taken.unknown),
        };
        let span = Span { ordinal: part.next(taken), offset: part.first.offset + start, len: line.len() };
        row(span, read.map(|()| fields.as_slice()));
        taken.rows += 1;
    }
    taken.bytes = bytes.len() - rest.len();
    if part.is_open() && rest.is_empty() {
        // What a line begins with is not content: a part never waits for the end of a blank one.
        let blank = &part.bytes[taken.bytes..];
        taken.bytes += blank.len() - blank.trim_ascii_start().len();
    }
}
