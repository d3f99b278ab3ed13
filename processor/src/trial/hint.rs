//! Rows on which a mutant may judge otherwise: the examples' good row with one field at an edge of a rule.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, TimeDelta};
use datafusion::sql::sqlparser::ast::Value as Literal;
use serde_json::{Map, Number, Value};

use crate::contract::{Column, Contract, Examples, LogicalType};
use crate::mutant::sql;

/// Candidates at most: what is tried on each survivor in one pass.
const CANDIDATES_MAX: usize = 5_000;

/// Lines of NDJSON, in an order that puts simple changes first.
pub(super) fn candidates(contract: &Contract, examples: &Examples) -> Vec<String> {
    let edges = Edges::of(contract);
    let mut lines = Vec::new();
    for row in rows(contract, examples) {
        for column in &contract.columns {
            for value in edges.values(column, examples.now_ms) {
                let mut changed = row.clone();
                changed.insert(column.name.clone(), value);
                lines.push(Value::from(changed).to_string());
            }
        }
    }
    lines.truncate(CANDIDATES_MAX);
    lines
}

/// The good row, and it under each of the references' keys.
fn rows(contract: &Contract, examples: &Examples) -> Vec<Map<String, Value>> {
    let mut rows = vec![examples.row.clone()];
    for reference in &contract.references {
        for key in reference.places.keys().collect::<BTreeSet<_>>() {
            let mut row = examples.row.clone();
            row.insert(reference.on.clone(), Value::from(key.as_str()));
            rows.push(row);
        }
    }
    rows
}

/// The constants of the contract's rules.
#[derive(Default)]
struct Edges {
    numbers: Vec<String>,
    texts: Vec<String>,
    minutes: Vec<i64>,
}

impl Edges {
    fn of(contract: &Contract) -> Self {
        let mut edges = Self { numbers: vec!["0".into(), "1".into()], ..Self::default() };
        for check in &contract.checks {
            for literal in sql::literals(&check.predicate) {
                match literal {
                    Literal::Number(number, _) => edges.numbers.push(number),
                    Literal::SingleQuotedString(text) => edges.texts.push(text),
                    _ => {}
                }
            }
            edges.minutes.extend(minutes(&check.predicate));
        }
        for reference in &contract.references {
            for column in reference.rows.columns() {
                let cells = (0..reference.rows.num_rows()).filter_map(|row| {
                    datafusion::arrow::util::display::array_value_to_string(column, row).ok()
                });
                edges.numbers.extend(cells.filter(|cell| cell.parse::<f64>().is_ok()));
            }
            edges.texts.extend(reference.places.keys().cloned());
        }
        edges.numbers.sort();
        edges.numbers.dedup();
        edges
    }

    fn values(&self, column: &Column, now_ms: i64) -> Vec<Value> {
        let mut values = vec![Value::Null];
        match column.logical_type {
            LogicalType::String => {
                values.extend(self.texts.iter().map(|text| Value::from(text.as_str())));
                values.extend([Value::from("x"), Value::from("")]);
            }
            LogicalType::Integer => values.extend(self.numbers(Some(0))),
            LogicalType::Number => values.extend(self.numbers(None)),
            LogicalType::Decimal { scale, .. } => values.extend(self.numbers(Some(usize::from(scale)))),
            LogicalType::Boolean => values.extend([Value::from(true), Value::from(false)]),
            LogicalType::Timestamp => values.extend(self.times(now_ms)),
            LogicalType::Date => {}
        }
        values
    }

    /// Each constant, and a step to either side.
    fn numbers(&self, decimals: Option<usize>) -> impl Iterator<Item = Value> {
        let around = move |number: &String| {
            let mut around = vec![number.clone()];
            around.extend(sql::steps(number, decimals));
            around
        };
        let texts = self.numbers.iter().flat_map(around);
        let numbers = texts
            .filter_map(|text| text.parse::<Number>().ok().or_else(|| Number::from_f64(text.parse().ok()?)));
        numbers.map(Value::from)
    }

    /// The time of the examples, shifted by each interval, and a microsecond to either side.
    fn times(&self, now_ms: i64) -> Vec<Value> {
        let Some(now) = DateTime::from_timestamp_millis(now_ms) else { return Vec::new() };
        let shifts = [0].into_iter().chain(self.minutes.iter().flat_map(|minutes| [*minutes, -minutes]));
        shifts
            .flat_map(|minutes| {
                [-1, 0, 1].map(|us| TimeDelta::minutes(minutes) + TimeDelta::microseconds(us))
            })
            .filter_map(|shift| now.checked_add_signed(shift))
            .map(|at| Value::from(at.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
            .collect()
    }
}

/// The intervals of a predicate that are whole minutes, hours or days.
fn minutes(predicate: &str) -> Vec<i64> {
    let Ok(interval) = regex::Regex::new(r"(?i)interval\s*'(\d{1,6})\s*(minute|hour|day)s?'") else {
        return Vec::new();
    };
    interval
        .captures_iter(predicate)
        .filter_map(|found| {
            let count: i64 = found[1].parse().ok()?;
            Some(
                count
                    * match found[2].to_lowercase().as_str() {
                        "minute" => 1,
                        "hour" => 60,
                        _ => 1_440,
                    },
            )
        })
        .collect()
}
