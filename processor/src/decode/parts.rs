//! From an object to its parts: as many whole rows at a time as [`Limits`] allow, in order, each once.
//!
//! A part ends where the rows say so, never where the store's answers happened to end: the same bytes are cut in the
//! same places every time, on every machine. The window that a part is taken from is filled before its rows are looked
//! at. A row that does not fit into a window is one row with a fault; its beginning is kept, the rest is passed over.

use std::io::{ErrorKind, Read};

use csv_core::ReadRecordResult;
use deltalake::parquet::file::reader::ChunkReader;

use super::limits::Limits;
use super::part::{End, Part, Place, Taken};
use super::unpack::{Problem, expanded_bytes_max, unpacked};
use crate::bronze::{BronzeKey, Format, Packing};

/// What is kept of a row that does not fit into a window, and more than a record shows.
const LONG_ROW_BYTES: usize = 64 * 1024;
/// Bytes that are read at a time of a row that does not fit into a window.
const SKIP_BYTES: usize = 1024 * 1024;

/// An object that is taken part by part.
pub struct Parts {
    format: Format,
    packing: Packing,
    limits: Limits,
    stream: Option<Box<dyn Read + Send>>,
    window: Vec<u8>,
    /// Where the window begins.
    first: Place,
    header: Option<Vec<String>>,
    problem: Option<Problem>,
    is_too_heavy: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The window's rows are those of the object from here on.
    Rows,
    /// Its first row does not end in it.
    Stalled,
    /// The window begins with the first `kept` of a row's `content` bytes; the next row is `passed` bytes on.
    LongRow { kept: usize, content: usize, passed: usize },
    /// Nothing is left.
    Done,
}

impl Parts {
    /// The object's parts, as its key says it is written. Blocking: of Parquet the footer is read.
    pub fn open<R>(key: &BronzeKey, object: R, limits: Limits) -> Self
    where
        R: ChunkReader<T: Send + 'static> + Clone + 'static,
    {
        let mut parts = Self {
            format: key.format,
            packing: key.packing,
            limits,
            stream: None,
            window: Vec::new(),
            first: Place::default(),
            header: None,
            problem: None,
            is_too_heavy: false,
            state: State::Rows,
        };
        let bytes_max = expanded_bytes_max(object.len(), &limits);
        match unpacked(key.packing, object, bytes_max) {
            Ok(stream) => parts.stream = Some(stream),
            Err(error) => {
                parts.is_too_heavy = error.kind() == ErrorKind::FileTooLarge;
                parts.stop(error.to_string());
            }
        }
        parts
    }

    /// Whether the object declares that it expands further than any may; nothing of it is unpacked.
    pub fn is_too_heavy(&self) -> bool {
        self.is_too_heavy
    }

    /// Reads the next part; `false` if there is none. Blocking.
    pub fn fill(&mut self) -> bool {
        match self.state {
            State::Done => return false,
            State::Stalled => self.pass_over(),
            State::Rows | State::LongRow { .. } => self.read(self.limits.bytes_max),
        }
        true
    }

    /// The part that was read.
    pub fn part(&self) -> Part<'_> {
        let is_all = self.stream.is_none() && self.window.len() <= self.limits.bytes_max;
        let end = match &self.problem {
            _ if !is_all => End::Open,
            Some(problem) => End::Stopped(problem),
            None => End::Whole,
        };
        let (bytes, long_row) = match self.state {
            State::LongRow { kept, content, .. } => (&self.window[..kept], Some(content)),
            _ => (&self.window[..self.window.len().min(self.limits.bytes_max)], None),
        };
        Part {
            format: self.format,
            bytes,
            first: self.first,
            rows_max: self.limits.rows_max,
            end,
            header: self.header.as_deref(),
            long_row,
        }
    }

    /// Goes on behind what was taken of the part.
    pub fn pass(&mut self, taken: &Taken) {
        if let Some(header) = &taken.header {
            self.header = Some(header.clone());
        }
        self.first.ordinal += taken.rows as i64;
        match self.state {
            State::LongRow { kept, passed, .. } => {
                self.window.drain(..kept);
                self.first.offset += passed;
                self.state = State::Rows;
            }
            _ => {
                self.window.drain(..taken.bytes);
                self.first.offset += taken.bytes;
                if taken.bytes == 0 && !taken.last {
                    self.state = State::Stalled;
                }
            }
        }
        if taken.last {
            self.state = State::Done;
        }
    }

    /// Whether all of the object was taken.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Fills the window up to `bytes_max`.
    fn read(&mut self, bytes_max: usize) {
        while let Some(stream) = &mut self.stream
            && self.window.len() < bytes_max
        {
            let wanted = bytes_max - self.window.len();
            match stream.by_ref().take(wanted as u64).read_to_end(&mut self.window) {
                Ok(read) if read < wanted => self.stream = None,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.stop(error.to_string()),
            }
        }
    }

    fn stop(&mut self, reason: String) {
        let expanded_bytes = self.first.offset + self.window.len();
        self.problem = Some(Problem { packing: self.packing, expanded_bytes, reason });
        self.stream = None;
    }

    /// Reads on to the end of the window's first row, and keeps its beginning.
    fn pass_over(&mut self) {
        let mut end = RowEnd::new(self.format);
        let mut head = self.window[..self.window.len().min(LONG_ROW_BYTES)].to_vec();
        let (mut content, mut passed) = (0, 0);
        loop {
            let found = end.find(&self.window);
            let piece = &self.window[..found.unwrap_or(self.window.len())];
            if let Some(last) = piece.iter().rposition(|byte| !is_around(self.format, *byte)) {
                content = passed + last + 1;
            }
            passed += piece.len();
            let piece = piece.len();
            self.window.drain(..piece);
            if found.is_some() {
                break;
            }
            let before = self.first.offset;
            self.first.offset += passed;
            self.read(SKIP_BYTES);
            self.first.offset = before;
            if self.window.is_empty() {
                break;
            }
        }
        head.truncate(content);
        let kept = head.len();
        self.window.splice(0..0, head);
        self.state = State::LongRow { kept, content, passed };
    }
}

/// Whether a byte at a row's end is no content of it.
fn is_around(format: Format, byte: u8) -> bool {
    match format {
        Format::Frames => false,
        Format::Ndjson => byte.is_ascii_whitespace(),
        Format::Csv => matches!(byte, b'\r' | b'\n'),
    }
}

/// Looks for the end of a row that comes in pieces.
pub(super) enum RowEnd {
    Byte(u8),
    Csv(Box<csv_core::Reader>),
}

impl RowEnd {
    pub(super) fn new(format: Format) -> Self {
        match format {
            Format::Frames | Format::Ndjson => Self::Byte(format.row_end()),
            Format::Csv => Self::Csv(Box::new(csv_core::Reader::new())),
        }
    }

    /// How many bytes of the piece belong to the row, if it ends in it.
    pub(super) fn find(&mut self, piece: &[u8]) -> Option<usize> {
        match self {
            Self::Byte(end) => piece.iter().position(|byte| byte == end).map(|at| at + 1),
            Self::Csv(reader) => {
                let (mut fields, mut ends) = ([0; 4_096], [0; 256]);
                let mut at = 0;
                while at < piece.len() {
                    let (result, read, ..) = reader.read_record(&piece[at..], &mut fields, &mut ends);
                    at += read;
                    if matches!(result, ReadRecordResult::Record | ReadRecordResult::End) {
                        return Some(at);
                    }
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::*;
    use crate::contract::Contract;
    use crate::decode::LINE_BYTES_MAX;

    /// Each row's place and rule, and how many parts there were.
    fn rows(name: &str, bytes: &[u8], limits: Limits) -> (Vec<(i64, usize, usize, String)>, usize) {
        let contract = Contract::embedded().remove(1);
        let key = BronzeKey::parse(&format!("bronze/orders/{name}"), |_| true).unwrap();
        let mut parts = Parts::open(&key, Bytes::copy_from_slice(bytes), limits);
        let (mut rows, mut count) = (Vec::new(), 0);
        while parts.fill() {
            let taken = parts.part().rows(&contract, |span, row| {
                let rule = row.err().map_or("", |fault| fault.rule());
                rows.push((span.ordinal, span.offset, span.len, rule.to_owned()));
            });
            parts.pass(&taken);
            count += usize::from(taken.rows > 0);
        }
        (rows, count)
    }

    #[test]
    fn places_and_rows_are_those_of_the_whole_however_it_is_cut() {
        let lines: String = (0..100).map(|n| format!(" {{\"order_id\":\"o-{n}\"}} \r\n\n")).collect();
        let csv: String = (0..100).map(|n| format!("o-{n},\"two\r\nlines {n}\"\r\n")).collect();
        let csv = format!("\u{feff}order_id,notes\r\n{csv}o-x\r\n\r\n");
        for (name, text) in [("a.ndjson", lines), ("a.csv", csv)] {
            let (whole, one) = rows(name, text.as_bytes(), Limits::default());
            assert_eq!(one, 1);
            for rows_max in [1, 2, 7, 99] {
                let (cut, parts) = rows(name, text.as_bytes(), Limits { rows_max, ..Limits::default() });
                assert_eq!(cut, whole, "{name} by {rows_max}");
                assert_eq!(parts, whole.len().div_ceil(rows_max));
            }
            for bytes_max in [64, 100, 1_000] {
                let (cut, parts) = rows(name, text.as_bytes(), Limits { bytes_max, ..Limits::default() });
                assert_eq!(cut, whole, "{name} by {bytes_max} bytes");
                assert!(parts > 1);
            }
        }
    }

    #[test]
    fn a_row_longer_than_a_part_is_one_row_and_the_next_one_is_whole() {
        let limits = Limits { bytes_max: 2 * LINE_BYTES_MAX, ..Limits::default() };
        let long = "x".repeat(5 * LINE_BYTES_MAX);
        let blank = " ".repeat(3 * LINE_BYTES_MAX);
        let (found, _) =
            rows("a.ndjson", format!("{{}}\n{blank}{long} \r\n{{}}\n{blank}").as_bytes(), limits);
        let at = 3 + blank.len();
        let expected = [
            (0, 0, 2, String::new()),
            (1, at, long.len(), "line_too_long".to_owned()),
            (2, at + long.len() + 3, 2, String::new()),
        ];
        assert_eq!(found, expected);

        let csv = format!("order_id,notes\no-1,\n\no-2,\"{long}\n\"\"{long}\"\no-3,\n");
        let (found, _) = rows("a.csv", csv.as_bytes(), limits);
        let len = "o-2,\"\n\"\"\"".len() + 2 * long.len();
        let expected = [
            (0, 15, 4, String::new()),
            (1, 21, len, "line_too_long".to_owned()),
            (2, 22 + len, 4, String::new()),
        ];
        assert_eq!(found, expected);

        let frames = [vec![7; 5 * LINE_BYTES_MAX], vec![0, 1, 0]].concat();
        let (found, _) = rows("a.ingot", &frames, limits);
        let len = 5 * LINE_BYTES_MAX + 1;
        assert_eq!(found, [(0, 0, len, "frame".to_owned()), (1, len, 2, "frame".to_owned())]);
    }

    #[test]
    fn an_open_quote_is_one_row_however_the_rows_before_it_are_cut() {
        let head = "order_id,notes\r\n";
        for (last, rule) in [
            ("o-3,\"never\r\no-4,x\r\n", "open_quote"),
            ("o-3,\"a \"\"word\"\"", "open_quote"),
            ("o-3,\"", "open_quote"),
            ("\"o-3,x\n", "open_quote"),
            ("o-3,\"closed\r\no-4,x\"", ""),
            ("o-3,\"closed\"", ""),
            ("o-3,\"\"\"\"\r\n\r\n", ""),
            ("o-3,\"\"\r", ""),
            ("o-3,never \"open\r\n", ""),
        ] {
            for rows_max in 1..5 {
                let csv = format!("{head}o-1,\r\n\r\no-2,\"x\r\ny\"\r\n{last}");
                let (found, _) = rows("a.csv", csv.as_bytes(), Limits { rows_max, ..Limits::default() });
                let found: Vec<_> =
                    found.iter().map(|row| (&csv[row.1..][..row.2], row.3.as_str())).collect();
                let last = last.trim_end_matches(['\r', '\n']);
                assert_eq!(found, [("o-1,", ""), ("o-2,\"x\r\ny\"", ""), (last, rule)], "by {rows_max}");
            }
        }
        // A header that swallows its rows is one, and they are not lost without a word.
        let (found, _) = rows("a.csv", b"order_id,\"notes\no-1,\no-2,\n", Limits::default());
        assert_eq!(found, [(0, 0, 25, "open_quote".to_owned())]);
    }

    #[test]
    fn a_quote_that_never_closes_is_one_row() {
        let limits = Limits { bytes_max: 2 * LINE_BYTES_MAX, ..Limits::default() };
        let csv = format!("order_id,notes\no-1,\no-2,\"{}", "a,b\n".repeat(LINE_BYTES_MAX));
        let (found, _) = rows("a.csv", csv.as_bytes(), limits);
        assert_eq!(found[1], (1, 20, 5 + 4 * LINE_BYTES_MAX - 1, "line_too_long".to_owned()));
        assert_eq!(found.len(), 2);
    }
}
