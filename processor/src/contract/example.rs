//! Examples in a contract: rows, and what must become of each.
//!
//! They stand in the custom property `examples`: one good `row`, and `cases` that each change some of its
//! fields (or give a whole `line` as it may stand in bronze), judged as NDJSON at the time `now`.

use std::collections::BTreeSet;

use chrono::DateTime;
use serde_json::{Map, Value};

use super::custom::{custom_path, custom_value};
use super::problem::Problems;
use super::{Check, Column, odcs};

/// What a contract's rules are tried on.
#[derive(Clone, Debug)]
pub struct Examples {
    /// What `now()` gives, in milliseconds since 1970-01-01 UTC.
    pub now_ms: i64,
    /// A good row, which the cases change.
    pub row: Map<String, Value>,
    /// In the order of the file.
    pub cases: Vec<Case>,
    /// Mutants of rules, as SQL, that judge every row as the rule does.
    pub equivalent: Vec<String>,
}

/// A row and what must become of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// For people: its name, or its row.
    pub name: String,
    /// Its line in the contract.
    pub at_line: u64,
    /// The row, a line of NDJSON.
    pub row: String,
    /// What must become of it.
    pub expect: Expect,
    /// All rules that it fails: those it is discarded by, or those it is warned of by.
    pub rules: BTreeSet<String>,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expect {
    /// It is in silver.
    Accept,
    /// It is in discard.
    Discard,
    /// Its object is set aside.
    Quarantine,
    /// Its object is not processed.
    Fail,
}

impl Expect {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Discard => "discard",
            Self::Quarantine => "quarantine",
            Self::Fail => "fail",
        }
    }
}

/// The examples, if there are any.
pub(super) fn examples(
    custom: &[odcs::Custom],
    columns: &[Column],
    checks: &[Check],
    problems: &mut Problems,
) -> Option<Examples> {
    let written: odcs::Examples = custom_value(custom, "examples", problems)?;
    let path = custom_path("examples");
    let now_ms = DateTime::parse_from_rfc3339(&written.now).map(|now| now.timestamp_millis());
    let now_ms = now_ms.unwrap_or_else(|_| {
        problems
            .at(format!("{path}.now"))
            .push(format!("examples: now is {:?}, not a time such as 2026-01-01T00:00:00Z", written.now));
        0
    });
    let known = |rule: &String| {
        let named = |prefix: &str| {
            rule.strip_prefix(prefix).is_some_and(|name| columns.iter().any(|column| column.name == name))
        };
        checks.iter().any(|check| check.id == *rule)
            || named("required.")
            || named("type.")
            || ["malformed_json", "not_an_object", "duplicate_key", "line_too_long"].contains(&rule.as_str())
    };
    let mut cases = Vec::with_capacity(written.cases.len());
    for (position, case) in written.cases.into_iter().enumerate() {
        let place = problems.at(format!("{path}.cases.{position}")).here();
        let expect = match case.expect.as_str() {
            "accept" => Expect::Accept,
            "discard" => Expect::Discard,
            "quarantine" => Expect::Quarantine,
            "fail" => Expect::Fail,
            other => {
                problems
                    .push(format!("example: expect is {other:?}, not accept, discard, quarantine or fail"));
                Expect::Accept
            }
        };
        if expect != Expect::Accept && case.rules.is_empty() {
            problems.push("example: rules must name every rule that the row fails".into());
        }
        for rule in case.rules.iter().filter(|rule| !known(rule)) {
            problems.push(format!(
                "example: {rule} is no rule; there are the checks, required.<column>, type.<column> and those of broken lines"
            ));
        }
        for field in case.set.iter().flat_map(|set| set.keys()) {
            if columns.iter().all(|column| column.name != *field) {
                problems.push(format!("example: set: {field} is no column"));
            }
        }
        let row = match (case.set, case.line) {
            (Some(_), Some(_)) => {
                problems.push("example: set and line exclude each other".into());
                String::new()
            }
            (_, Some(line)) => line,
            (set, None) => {
                let mut row = written.row.clone();
                row.extend(set.unwrap_or_default());
                Value::from(row).to_string()
            }
        };
        if row.trim().is_empty() || row.trim().contains('\n') {
            problems.push("example: a row is one line, and not an empty one".into());
        }
        cases.push(Case {
            name: case.name.unwrap_or_else(|| row.clone()),
            at_line: place.line,
            row,
            expect,
            rules: case.rules.into_iter().collect(),
        });
    }
    if cases.is_empty() {
        problems.at(&path).push("examples: cases is empty".into());
    }
    Some(Examples { now_ms, row: written.row, cases, equivalent: written.equivalent })
}
