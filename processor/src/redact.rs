//! Personal data out of everything that is kept: accepted rows, and the records of discarded ones.
//!
//! Declared columns are masked, dropped, scanned or given a pseudonym. A discarded record is scanned in every text, since
//! a value may stand where it does not belong; a key that fits its pattern keeps its digits, so that
//! the row can be traced.
//! The name of a masked, dropped or pseudonymous column hides what stands under it at every depth of a record ([`value`]).
//! Text that could not be parsed is scanned as a whole, and what follows the name of a masked or
//! dropped column is masked: best effort, because broken text has no certain fields.
//! Redacting twice changes nothing.

mod scan;
mod value;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_null_array};
use datafusion::arrow::error::ArrowError;
use regex::Regex;
use serde_json::Value;

use crate::contract::{Contract, LogicalType, Redact};
use crate::decode::json;
use crate::pseudonym::PseudonymKey;

pub use scan::{EMAIL, PHONE, scan};
use value::is_number;

/// What stands for a masked value.
pub const MASK: &str = "[REDACTED]";

/// Longest record of a discarded row, in bytes; a longer one is cut, and says so.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Text beyond this is not even scanned, only cut away: twice the record, for what scanning shortens.
const SCANNED_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;

/// Longest e-mail address, in bytes (RFC 5321): what is given up before a cut, since it may split one.
const ADDRESS_BYTES_MAX: usize = 320;

/// Digits from which on a number in a column of numbers is scanned: below, too many are what they should be.
const NUMBER_DIGITS_MIN: usize = 9;

/// Milliseconds since 1970-01-01 UTC that are times to be met: of the years 2000 to 2099.
const TIMES_MS: Range<i64> = 946_684_800_000..4_102_444_800_000;

const CUT: &str = " [cut]";

/// A contract's redaction.
pub struct Redactor {
    /// Without it, what should get a pseudonym is masked.
    key: Option<PseudonymKey>,
    columns: Vec<RedactedColumn>,
    /// Finds the values of masked and dropped columns in text that could not be parsed.
    named: Option<Regex>,
}

struct RedactedColumn {
    name: String,
    redact: Redact,
    key: bool,
    pattern: Option<Regex>,
    kind: LogicalType,
}

impl Redactor {
    /// The redaction that the contract declares.
    pub fn new(contract: &Contract) -> Self {
        let columns: Vec<RedactedColumn> = contract
            .columns
            .iter()
            .map(|column| RedactedColumn {
                name: column.name.clone(),
                redact: column.redact,
                key: contract.key.contains(&column.name),
                pattern: column.pattern.clone(),
                kind: column.logical_type,
            })
            .collect();
        let hidden: Vec<&str> = columns.iter().filter(|c| c.hidden()).map(|c| c.name.as_str()).collect();
        Self { key: contract.pseudonym_key.clone(), named: named_values(&hidden), columns }
    }

    /// The batch with its declared columns redacted; columns that the contract does not have stay.
    pub fn rows(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for column in &self.columns {
            let Some((place, _)) = rows.schema_ref().column_with_name(&column.name) else {
                continue;
            };
            let values = &columns[place];
            columns[place] = match column.redact {
                Redact::None => continue,
                Redact::Drop => new_null_array(values.data_type(), values.len()),
                Redact::Mask => map_text(values, |_| Cow::Borrowed(MASK)),
                Redact::Pseudonym => map_text(values, |text| Cow::Owned(self.pseudonym(text))),
                Redact::Scan => map_text(values, scan),
            };
        }
        RecordBatch::try_new(rows.schema(), columns)
    }

    /// A record that parsed: a JSON object's text. Field order and number texts stay as they were.
    pub fn json_record(&self, text: &str) -> String {
        match json::pairs(text) {
            Some(pairs) => {
                self.record(pairs.iter().map(|(name, value)| (name.as_str(), Cow::Borrowed(value.get()))))
            }
            None => self.broken_record(text.as_bytes()),
        }
    }

    /// A record of named values, each of them JSON, as a JSON object.
    pub fn record<'a>(&self, fields: impl Iterator<Item = (&'a str, Cow<'a, str>)>) -> String {
        let mut record = String::from("{");
        for (name, value) in fields {
            if record.len() > 1 {
                record.push(',');
            }
            record.push_str(&quoted(&scan(name)));
            record.push(':');
            record.push_str(&self.value(name, &value));
        }
        record.push('}');
        cut(record)
    }

    /// A CSV record whose fields do not fit the header, as a JSON array; for contracts that hide no column.
    pub fn ragged_record<'a>(&self, fields: impl Iterator<Item = &'a str>) -> String {
        let fields: Vec<Cow<'_, str>> = fields.map(scan).collect();
        cut(Value::from(fields).to_string())
    }

    /// Whether a column is masked, dropped or given a pseudonym, so that a value without its column's name cannot be kept.
    pub fn hides_any(&self) -> bool {
        self.columns.iter().any(|column| column.hidden())
    }

    /// Bytes that could not be parsed, as text.
    pub fn broken_record(&self, bytes: &[u8]) -> String {
        let seen = &bytes[..bytes.len().min(SCANNED_BYTES_MAX)];
        let text = String::from_utf8_lossy(seen);
        let mut record = scan(&self.named_masked(&text)).into_owned();
        if seen.len() < bytes.len() {
            // The cut may have split an address or a number, which the scan then did not know.
            record.truncate(record.floor_char_boundary(record.len().saturating_sub(ADDRESS_BYTES_MAX)));
            record.push_str(CUT);
        }
        cut(record)
    }

    /// The name of a field that the contract does not know, fit for a report.
    pub fn field_name(&self, name: &str) -> String {
        scan(name).chars().take(64).collect()
    }
}

impl Redactor {
    /// Text that is no JSON value, masked behind the names of hidden columns.
    fn named_masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.named {
            Some(named) => named.replace_all(text, format!("${{name}}\"{MASK}\"")),
            None => Cow::Borrowed(text),
        }
    }

    fn pseudonym(&self, value: &str) -> String {
        self.key.as_ref().map_or_else(|| MASK.to_owned(), |key| key.pseudonym(value))
    }
}

impl RedactedColumn {
    fn hidden(&self) -> bool {
        matches!(self.redact, Redact::Mask | Redact::Drop | Redact::Pseudonym)
    }

    /// Whether the JSON value is a number that belongs into this column: a key, a time, or too short or too broken to be
    /// of a card or a telephone.
    fn is_own_number(&self, value: &str) -> bool {
        if self.kind == LogicalType::String || !is_number(value) {
            return false;
        }
        let digits = value.trim_start_matches('-');
        let is_whole = digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_time = || {
            self.kind == LogicalType::Timestamp && value.parse().is_ok_and(|ms: i64| TIMES_MS.contains(&ms))
        };
        self.key || !is_whole || digits.len() < NUMBER_DIGITS_MIN || is_time()
    }

    /// Whether the JSON value can be a key here.
    fn is_key(&self, value: &str) -> bool {
        let text = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        self.key
            && self.kind == LogicalType::String
            && text.is_some_and(|text| self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(text)))
    }
}

/// `"name": value` for each of the names, the value as far as broken JSON shows it: a string to its
/// closing quote or the end, a list or object to the end, anything else to the next comma or bracket.
#[expect(
    clippy::expect_used,
    reason = "the names are escaped, and the rest is a constant that a test compiles"
)]
fn named_values(names: &[&str]) -> Option<Regex> {
    if names.is_empty() {
        return None;
    }
    let names: Vec<String> = names.iter().map(|name| regex::escape(name)).collect();
    let pattern = format!(
        r#"(?is)(?<name>["']?(?:{})["']?\s*[:=]\s*)(?:"(?:[^"\\]|\\.)*"?|'[^']*'?|[\[{{].*|[^,}}\]\s"']+)"#,
        names.join("|")
    );
    Some(Regex::new(&pattern).expect("escaped names in a constant pattern compile, by test"))
}

fn map_text<'a>(values: &'a ArrayRef, redact: impl Fn(&'a str) -> Cow<'a, str>) -> ArrayRef {
    match values.as_string_opt::<i32>() {
        Some(texts) => Arc::new(texts.iter().map(|text| text.map(&redact)).collect::<StringArray>()),
        // The contract allows mask and scan on text only; anything else would be a caller's mistake.
        None => new_null_array(values.data_type(), values.len()),
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn cut(mut record: String) -> String {
    if record.len() > RECORD_BYTES_MAX {
        record.truncate(record.floor_char_boundary(RECORD_BYTES_MAX - CUT.len()));
        record.push_str(CUT);
    }
    record
}

#[cfg(test)]
mod tests;
