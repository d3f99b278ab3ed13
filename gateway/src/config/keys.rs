//! Walks a TOML table key by key and collects every problem, so that the user sees all of them at once.
//!
//! (Serde stops at the first unknown key or wrong type; a second start would show the second one.)

use std::cell::RefCell;
use std::ops::RangeInclusive;

use toml::{Table, Value};

/// A table whose keys are taken one by one; what is left at [`Keys::end`] is unknown.
pub(super) struct Keys<'a> {
    path: String,
    table: Table,
    known: Vec<&'static str>,
    problems: &'a RefCell<Vec<String>>,
}

impl<'a> Keys<'a> {
    pub fn new(table: Table, problems: &'a RefCell<Vec<String>>) -> Self {
        Self { path: String::new(), table, known: Vec::new(), problems }
    }

    /// With an empty `key`: of the table itself.
    pub fn problem(&self, key: &str, what: impl std::fmt::Display) {
        let place = format!("{}{key}", self.path);
        self.problems.borrow_mut().push(format!("{}: {what}", place.trim_end_matches('.')));
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A whole number in `allowed`.
    pub fn number(&mut self, key: &'static str, default: u64, allowed: RangeInclusive<u64>) -> u64 {
        let want = || format!("wants a whole number from {} to {}", allowed.start(), allowed.end());
        match self.take(key) {
            None => default,
            Some(Value::Integer(found)) => {
                match u64::try_from(found).ok().filter(|found| allowed.contains(found)) {
                    Some(number) => number,
                    None => {
                        self.problem(key, format!("{} and not {found}", want()));
                        default
                    }
                }
            }
            Some(other) => {
                self.problem(key, format!("{} and not {}", want(), kind(&other)));
                default
            }
        }
    }

    /// Any finite number, whole or not.
    pub fn real(&mut self, key: &'static str, default: f64) -> f64 {
        match self.take(key) {
            None => default,
            Some(Value::Integer(number)) => number as f64,
            Some(Value::Float(number)) if number.is_finite() => number,
            Some(other) => {
                self.problem(key, format!("wants a finite number and not {}", kind(&other)));
                default
            }
        }
    }

    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.take(key) {
            None => default,
            Some(Value::Boolean(flag)) => flag,
            Some(other) => {
                self.problem(key, format!("wants true or false and not {}", kind(&other)));
                default
            }
        }
    }

    pub fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            other => {
                self.problem(key, format!("wants a text in quotes and not {}", kind(&other)));
                None
            }
        }
    }

    /// Notes a problem if the key is not there.
    pub fn needed(&self, key: &'static str, what: &str) {
        if !self.has(key) {
            self.problem(key, format!("is missing: {what}"));
        }
    }

    /// A text that must be there; empty when it is not.
    pub fn text_needed(&mut self, key: &'static str, what: &str) -> String {
        self.needed(key, what);
        self.text(key).unwrap_or_default()
    }

    /// A text out of a list.
    pub fn choice<T: Copy>(&mut self, key: &'static str, default: T, choices: &[(&str, T)]) -> T {
        let Some(text) = self.text(key) else {
            return default;
        };
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => *value,
            None => {
                let names: Vec<_> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
                self.problem(key, format!("wants one of {} and not {text:?}", names.join(", ")));
                default
            }
        }
    }

    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Value::Array(values) = value else {
            self.problem(key, format!("wants a list of texts and not {}", kind(&value)));
            return Vec::new();
        };
        let texts: Vec<_> = values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect();
        if texts.len() < values.len() {
            self.problem(key, "wants texts only");
        }
        texts
    }

    /// A table of texts `{ name = "text" }`, in the order of its names; empty when it is missing.
    pub fn pairs(&mut self, key: &'static str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        match self.take(key) {
            None => {}
            Some(Value::Table(table)) => {
                for (name, value) in table {
                    match value {
                        Value::String(text) => pairs.push((name, text)),
                        other => {
                            self.problem(key, format!("wants texts only and not {name} = {}", kind(&other)));
                        }
                    }
                }
            }
            Some(other) => self.problem(key, format!("wants a table of texts and not {}", kind(&other))),
        }
        pairs
    }

    /// A table below this one; empty when it is missing.
    pub fn below(&mut self, key: &'static str) -> Keys<'a> {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.problem(key, format!("wants a table [{}{key}] and not {}", self.path, kind(&other)));
                Table::new()
            }
        };
        Keys { path: format!("{}{key}.", self.path), table, known: Vec::new(), problems: self.problems }
    }

    /// A list of tables `[[key]]`; `None` when it is missing.
    pub fn list(&mut self, key: &'static str) -> Option<Vec<Keys<'a>>> {
        let value = self.take(key)?;
        let Value::Array(values) = value else {
            self.problem(key, format!("wants tables [[{}{key}]] and not {}", self.path, kind(&value)));
            return Some(Vec::new());
        };
        let mut tables = Vec::new();
        for (place, value) in values.into_iter().enumerate() {
            match value {
                Value::Table(table) => tables.push(Keys {
                    path: format!("{}{key}[{place}].", self.path),
                    table,
                    known: Vec::new(),
                    problems: self.problems,
                }),
                other => self.problem(key, format!("[{place}] wants a table and not {}", kind(&other))),
            }
        }
        Some(tables)
    }

    /// Every key that nobody asked for is a mistake.
    pub fn end(self) {
        for key in self.table.keys() {
            self.problem(key, format!("is unknown here; known: {}", self.known.join(", ")));
        }
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text {text:?}"),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(flag) => format!("{flag}"),
        Value::Datetime(_) => "a date".into(),
        Value::Array(_) => "a list".into(),
        Value::Table(_) => "a table".into(),
    }
}
