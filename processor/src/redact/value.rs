//! The JSON values of a record: scanned in every text, name and number, and masked under the names of hidden columns.
//!
//! A name counts at every depth and in any case of its letters: an envelope (`{"after":{"card_holder":"Ann"}}`) holds
//! what the row itself should have held, and a header in capitals names the same column.

use std::borrow::Cow;

use serde_json::Value;

use super::scan::{scan, scan_emails, suspicious};
use super::{MASK, RedactedColumn, Redactor, quoted};
use crate::contract::Redact;

/// What takes addresses and numbers out of a text: borrowed if there were none.
type Scan = fn(&str) -> Cow<'_, str>;

impl Redactor {
    /// The JSON value of the named field, redacted, as JSON.
    pub(super) fn value<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        match self.column(name) {
            Some(column) if value != "null" && column.redact == Redact::Mask => Cow::Owned(quoted(MASK)),
            Some(column) if column.redact == Redact::Drop => Cow::Borrowed("null"),
            Some(column) if value != "null" && column.redact == Redact::Pseudonym => {
                let text = serde_json::from_str::<String>(value);
                Cow::Owned(quoted(&self.pseudonym(text.as_deref().unwrap_or(value))))
            }
            Some(column) if column.is_own_number(value) => Cow::Borrowed(value),
            Some(column) if column.is_key(value) => self.scanned(value, scan_emails),
            _ => self.scanned(value, scan),
        }
    }

    /// The column of that name; of a hidden one it may be spelled in another case.
    fn column(&self, name: &str) -> Option<&RedactedColumn> {
        let exact = self.columns.iter().find(|column| column.name == name);
        exact.or_else(|| self.hidden(name))
    }

    fn hidden(&self, name: &str) -> Option<&RedactedColumn> {
        self.columns.iter().find(|column| column.hidden() && column.name.eq_ignore_ascii_case(name))
    }

    fn scanned<'a>(&self, value: &'a str, scan: Scan) -> Cow<'a, str> {
        let may_name_hidden = value.starts_with(['{', '[']) && self.hides_any();
        if !may_name_hidden && !suspicious(value) {
            return Cow::Borrowed(value);
        }
        if is_number(value) {
            return match scan(value) {
                Cow::Borrowed(_) => Cow::Borrowed(value),
                Cow::Owned(found) => Cow::Owned(quoted(&found)),
            };
        }
        match serde_json::from_str::<Value>(value) {
            Ok(mut parsed) => {
                if self.scan_value(&mut parsed, scan) {
                    Cow::Owned(parsed.to_string())
                } else {
                    Cow::Borrowed(value)
                }
            }
            // Too deep or too large a number for a value: text then.
            Err(_) => Cow::Owned(quoted(&scan(&self.named_masked(value)))),
        }
    }

    /// Scans texts, field names and numbers in place, and masks what hidden names stand before; whether anything changed.
    fn scan_value(&self, value: &mut Value, scan: Scan) -> bool {
        match value {
            Value::Null | Value::Bool(_) => false,
            Value::String(text) => replace_if_found(text, scan),
            Value::Number(number) => {
                let mut text = number.to_string();
                let found = replace_if_found(&mut text, scan);
                if found {
                    *value = Value::String(text);
                }
                found
            }
            Value::Array(values) => {
                values.iter_mut().fold(false, |found, value| self.scan_value(value, scan) | found)
            }
            Value::Object(fields) => {
                let mut found = false;
                let scanned = std::mem::take(fields).into_iter().map(|(mut name, mut value)| {
                    found |= if self.hidden(&name).is_some() {
                        mask(&mut value)
                    } else {
                        self.scan_value(&mut value, scan)
                    };
                    found |= replace_if_found(&mut name, scan);
                    (name, value)
                });
                let scanned = scanned.collect();
                *fields = scanned;
                found
            }
        }
    }
}

/// Masks a value that is there, whatever it holds; whether it was not masked yet.
fn mask(value: &mut Value) -> bool {
    if value.is_null() || value == MASK {
        return false;
    }
    *value = Value::from(MASK);
    true
}

fn replace_if_found(text: &mut String, scan: Scan) -> bool {
    let found = match scan(text) {
        Cow::Owned(scanned) if scanned != *text => scanned,
        _ => return false,
    };
    *text = found;
    true
}

pub(super) fn is_number(value: &str) -> bool {
    value.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}
