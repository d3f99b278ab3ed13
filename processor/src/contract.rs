//! A dataset's contract: its columns, keys, checks, references and gold queries, valid as a whole.
//!
//! Written in YAML (Open Data Contract Standard v3.1), read by [`Contract::parse`], which reports all
//! problems at once. A check's SQL is judged by [`crate::check::Checker::new`], a gold query's by gold.

mod odcs;
mod reference;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use regex::Regex;
use serde::de::DeserializeOwned;

pub use reference::Reference;

/// Digits that a 128-bit decimal holds.
const DECIMAL_PRECISION_MAX: u8 = 38;

/// A valid contract.
#[derive(Clone, Debug)]
pub struct Contract {
    /// The dataset: the first folder under `bronze/`, and the name of its silver table.
    pub dataset: String,
    /// The contract's own version, kept with every discard row and ledger row.
    pub version: String,
    /// Name for people.
    pub name: String,
    /// What one row is.
    pub description: String,
    /// In the order of the file.
    pub columns: Vec<Column>,
    /// Names of the columns that make a row unique, in key order.
    pub key: Vec<String>,
    /// In the order of the file, which is the order of a row's failing rules.
    pub checks: Vec<Check>,
    /// Lists that checks may join.
    pub references: Vec<Reference>,
    /// What is computed from silver.
    pub gold: Vec<GoldQuery>,
    /// The timestamp or date column whose UTC day is a row's `dt`.
    pub partition_by: String,
}

/// A column of silver.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name in bronze and silver.
    pub name: String,
    /// What it holds.
    pub logical_type: LogicalType,
    /// Whether a row without it is discarded, by rule `required.<name>`.
    pub required: bool,
    /// Whether it carries personal data, and what becomes of it.
    pub redact: Redact,
    /// For a string: what the whole value must match. A value that does not fails `type.<name>`.
    pub pattern: Option<Regex>,
    /// For a timestamp: whether a whole number is read as milliseconds since 1970-01-01 UTC.
    pub epoch_ms: bool,
    /// For people.
    pub description: String,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogicalType {
    /// UTF-8 text.
    String,
    /// A whole number in 64 bits.
    Integer,
    /// A 64-bit float.
    Number,
    /// An exact decimal number.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// True or false.
    Boolean,
    /// A moment in UTC, in microseconds.
    Timestamp,
    /// A calendar day.
    Date,
}

/// What becomes of a column's personal data, in silver as in discard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redact {
    /// It holds none.
    None,
    /// A value becomes `[REDACTED]`.
    Mask,
    /// A value becomes null.
    Drop,
    /// E-mail addresses and phone numbers in it become `[EMAIL]` and `[PHONE]`.
    Scan,
}

/// A rule on each row.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name in discard, ledger and reports.
    pub id: String,
    /// For people.
    pub description: String,
    /// SQL that is TRUE for a bad row; NULL counts as not bad.
    pub predicate: String,
    /// What a bad row causes.
    pub severity: Severity,
}

/// What a bad row causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The row is discarded.
    Discard,
    /// The row is accepted and counted.
    Warn,
    /// Every row of its object is discarded.
    Quarantine,
    /// The object is not processed, and the run reports it.
    Fail,
}

/// A query over silver whose result is a gold table.
#[derive(Clone, Debug)]
pub struct GoldQuery {
    /// The gold table.
    pub name: String,
    /// For people.
    pub description: String,
    /// What is recomputed together.
    pub window: Window,
    /// Reads the table `silver`.
    pub sql: String,
}

/// What a gold query recomputes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The days (`dt`) whose silver changed.
    Day,
    /// All of it.
    All,
}

/// Everything that is wrong with a contract.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct ContractErrors {
    /// One line each, in the order of the file.
    pub problems: Vec<String>,
}

impl fmt::Display for ContractErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the contract has {} problem(s):", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl Contract {
    /// Reads a contract; on failure every problem that was found.
    pub fn parse(text: &str) -> Result<Self, ContractErrors> {
        let document: odcs::Document = serde_saphyr::from_str(text)
            .map_err(|error| ContractErrors { problems: vec![format!("not a contract: {error}")] })?;
        let mut problems = Vec::new();
        let contract = Self::from_document(document, &mut problems);
        if problems.is_empty() { Ok(contract) } else { Err(ContractErrors { problems }) }
    }

    /// The contracts that Ingot brings along: `sensor_readings` and `orders`.
    #[expect(clippy::expect_used, reason = "the files are compiled in, and a test parses them")]
    pub fn embedded() -> Vec<Self> {
        [include_str!("../../contracts/sensor_readings.yaml"), include_str!("../../contracts/orders.yaml")]
            .into_iter()
            .map(|text| Self::parse(text).expect("an embedded contract is valid, by test"))
            .collect()
    }

    /// The columns as Arrow types: no unsigned numbers, timestamps in UTC microseconds.
    pub fn row_schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|column| Field::new(&column.name, column.logical_type.arrow(), !column.required))
            .collect();
        Arc::new(Schema::new(fields))
    }

    /// The place of the named column.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    fn from_document(document: odcs::Document, problems: &mut Vec<String>) -> Self {
        if !document.api_version.starts_with("v3.") {
            problems.push(format!("apiVersion {} is not read here; write v3.1.0", document.api_version));
        }
        if document.kind != "DataContract" {
            problems.push(format!("kind is {}, not DataContract", document.kind));
        }
        check_name("id", &document.id, problems);
        if document.schema.len() != 1 {
            problems.push(format!("schema has {} objects; a dataset has exactly one", document.schema.len()));
        }
        let table = document.schema.into_iter().next();
        let (description, properties, quality) = match table {
            Some(table) => (table.description, table.properties, table.quality),
            None => (None, Vec::new(), Vec::new()),
        };
        let key = key_columns(&properties, problems);
        let columns = columns(properties, problems);
        let checks = checks(quality, problems);
        let partition_by = partition_column(&document.custom_properties, &columns, problems);
        let references = references(&document.custom_properties, &columns, problems);
        let gold = gold_queries(&document.custom_properties, problems);
        Self {
            name: document.name.unwrap_or_else(|| document.id.clone()),
            dataset: document.id,
            version: document.version,
            description: description.unwrap_or_default(),
            columns,
            key,
            checks,
            references,
            gold,
            partition_by,
        }
    }
}

impl LogicalType {
    /// The column's Arrow type.
    pub fn arrow(self) -> DataType {
        match self {
            Self::String => DataType::Utf8,
            Self::Integer => DataType::Int64,
            Self::Number => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale.cast_signed()),
            Self::Boolean => DataType::Boolean,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Date => DataType::Date32,
        }
    }

    fn parse(logical: &str, physical: Option<&str>) -> Result<Self, String> {
        match logical {
            "string" => Ok(Self::String),
            "integer" => Ok(Self::Integer),
            "number" => match physical {
                Some(physical) if physical.starts_with("decimal") => decimal(physical),
                _ => Ok(Self::Number),
            },
            "boolean" => Ok(Self::Boolean),
            "timestamp" => Ok(Self::Timestamp),
            "date" => Ok(Self::Date),
            other => Err(format!(
                "logicalType {other} is not one of string, integer, number, boolean, timestamp, date"
            )),
        }
    }
}

/// `decimal(precision,scale)`.
fn decimal(physical: &str) -> Result<LogicalType, String> {
    let wrong = || {
        format!(
            "physicalType {physical} is not decimal(p,s) with 1 <= p <= {DECIMAL_PRECISION_MAX} and s <= p"
        )
    };
    let (precision, scale) = physical
        .strip_prefix("decimal(")
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|inside| inside.split_once(','))
        .ok_or_else(wrong)?;
    let precision: u8 = precision.trim().parse().map_err(|_| wrong())?;
    let scale: u8 = scale.trim().parse().map_err(|_| wrong())?;
    if precision == 0 || precision > DECIMAL_PRECISION_MAX || scale > precision {
        return Err(wrong());
    }
    Ok(LogicalType::Decimal { precision, scale })
}

/// Names become paths, SQL identifiers and rule ids: 1 to 64 of `[A-Za-z0-9_]`, no digit first.
fn check_name(what: &str, name: &str, problems: &mut Vec<String>) {
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit();
    if !fits {
        problems.push(format!("{what}: {name:?} is not 1 to 64 of A-Z a-z 0-9 _ with a letter first"));
    }
}

fn check_unique<'a>(what: &str, names: impl Iterator<Item = &'a String>, problems: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            problems.push(format!("{what} {name} is there twice"));
        }
    }
}

fn key_columns(properties: &[odcs::Property], problems: &mut Vec<String>) -> Vec<String> {
    let mut key: Vec<&odcs::Property> = properties.iter().filter(|p| p.primary_key).collect();
    key.sort_by_key(|p| p.primary_key_position.unwrap_or(i64::MAX));
    if key.is_empty() {
        problems.push("no column has primaryKey: true; without a key no row can be counted once".into());
    }
    for property in &key {
        if !property.required {
            problems.push(format!("column {} is part of the key, so it must be required", property.name));
        }
    }
    key.into_iter().map(|property| property.name.clone()).collect()
}

fn columns(properties: Vec<odcs::Property>, problems: &mut Vec<String>) -> Vec<Column> {
    if properties.is_empty() {
        problems.push("the schema has no properties".into());
    }
    check_unique("column", properties.iter().map(|p| &p.name), problems);
    properties
        .into_iter()
        .map(|property| {
            let at = format!("column {}", property.name);
            check_name("column", &property.name, problems);
            if matches!(property.name.as_str(), "ordinal" | "dt") {
                problems.push(format!("{at}: the name is Ingot's own; choose another"));
            }
            let logical_type = LogicalType::parse(&property.logical_type, property.physical_type.as_deref())
                .unwrap_or_else(|problem| {
                    problems.push(format!("{at}: {problem}"));
                    LogicalType::String
                });
            Column {
                redact: redact(&at, &property, logical_type, problems),
                pattern: pattern(&at, &property, logical_type, problems),
                epoch_ms: epoch_ms(&at, &property, logical_type, problems),
                name: property.name,
                logical_type,
                required: property.required,
                description: property.description.unwrap_or_default(),
            }
        })
        .collect()
}

fn redact(at: &str, property: &odcs::Property, logical: LogicalType, problems: &mut Vec<String>) -> Redact {
    let Some(value) = odcs::custom(&property.custom_properties, "redact") else {
        return Redact::None;
    };
    let redact = match value.as_str() {
        Some("none") => Redact::None,
        Some("mask") => Redact::Mask,
        Some("drop") => Redact::Drop,
        Some("scan") => Redact::Scan,
        _ => {
            problems.push(format!("{at}: redact is {value}, not one of none, mask, drop, scan"));
            return Redact::None;
        }
    };
    if matches!(redact, Redact::Mask | Redact::Scan) && logical != LogicalType::String {
        problems.push(format!("{at}: only a string can be masked or scanned; use drop"));
    }
    if redact == Redact::Drop && property.required {
        problems.push(format!("{at}: a required column cannot be dropped"));
    }
    if redact != Redact::None && property.primary_key {
        problems.push(format!("{at}: a redacted key would no longer tell rows apart"));
    }
    redact
}

fn pattern(
    at: &str,
    property: &odcs::Property,
    logical: LogicalType,
    problems: &mut Vec<String>,
) -> Option<Regex> {
    let pattern = property.logical_type_options.pattern.as_deref()?;
    if logical != LogicalType::String {
        problems.push(format!("{at}: only a string has a pattern"));
    }
    Regex::new(&format!("^(?:{pattern})$"))
        .map_err(|error| problems.push(format!("{at}: pattern: {error}")))
        .ok()
}

fn epoch_ms(at: &str, property: &odcs::Property, logical: LogicalType, problems: &mut Vec<String>) -> bool {
    let Some(unit) = odcs::custom(&property.custom_properties, "epochUnit") else {
        return false;
    };
    if unit.as_str() != Some("ms") || logical != LogicalType::Timestamp {
        problems.push(format!("{at}: epochUnit is {unit}; only ms, on a timestamp, is known"));
    }
    true
}

fn checks(quality: Vec<odcs::Quality>, problems: &mut Vec<String>) -> Vec<Check> {
    let mut checks = Vec::new();
    for rule in quality {
        // Rules of other engines, and the standard's own, belong to other tools.
        if rule.kind.as_deref() != Some("custom") || rule.engine.as_deref() != Some("ingot") {
            continue;
        }
        let id = rule.id.unwrap_or_default();
        check_name("check", &id, problems);
        let severity = match rule.severity.as_deref() {
            Some("discard") | None => Severity::Discard,
            Some("warn") => Severity::Warn,
            Some("quarantine") => Severity::Quarantine,
            Some("fail") => Severity::Fail,
            Some(other) => {
                problems.push(format!(
                    "check {id}: severity {other} is not one of discard, warn, quarantine, fail"
                ));
                Severity::Discard
            }
        };
        let predicate = rule.implementation.as_ref().and_then(|sql| sql.as_str()).unwrap_or_default();
        if predicate.trim().is_empty() {
            problems.push(format!("check {id}: implementation must be SQL that is TRUE for a bad row"));
        }
        checks.push(Check {
            description: rule.description.unwrap_or_default(),
            predicate: predicate.to_string(),
            id,
            severity,
        });
    }
    check_unique("check", checks.iter().map(|check| &check.id), problems);
    checks
}

fn partition_column(custom: &[odcs::Custom], columns: &[Column], problems: &mut Vec<String>) -> String {
    let name = odcs::custom(custom, "partitionBy").and_then(|value| value.as_str()).unwrap_or_default();
    let fits = columns.iter().any(|column| {
        column.name == name
            && column.required
            && matches!(column.logical_type, LogicalType::Timestamp | LogicalType::Date)
    });
    if !fits {
        problems.push(format!("partitionBy: {name:?} is not a required timestamp or date column"));
    }
    name.to_string()
}

fn references(custom: &[odcs::Custom], columns: &[Column], problems: &mut Vec<String>) -> Vec<Reference> {
    let lists: Vec<odcs::ReferenceList> = custom_list(custom, "references", problems);
    let mut references = Vec::new();
    for list in lists {
        let at = format!("reference {}", list.name);
        check_name("reference", &list.name, problems);
        if list.name == "rows" {
            problems.push("reference rows: the name is the batch's own".into());
        }
        let text = |column: &Column| column.name == list.on && column.logical_type == LogicalType::String;
        if !columns.iter().any(text) {
            problems.push(format!("{at}: on: {} is not a string column", list.on));
        }
        match Reference::build(list.name, list.on, &list.rows) {
            Ok(reference) => references.push(reference),
            Err(problem) => problems.push(format!("{at}: {problem}")),
        }
    }
    check_unique("reference", references.iter().map(|reference| &reference.name), problems);
    references
}

fn gold_queries(custom: &[odcs::Custom], problems: &mut Vec<String>) -> Vec<GoldQuery> {
    let written: Vec<odcs::Gold> = custom_list(custom, "gold", problems);
    let mut gold = Vec::new();
    for query in written {
        check_name("gold", &query.name, problems);
        let window = match query.window.as_str() {
            "day" => Window::Day,
            "all" => Window::All,
            other => {
                problems.push(format!("gold {}: window {other} is not day or all", query.name));
                Window::All
            }
        };
        gold.push(GoldQuery { name: query.name, description: query.description, window, sql: query.sql });
    }
    check_unique("gold", gold.iter().map(|query| &query.name), problems);
    gold
}

fn custom_list<T: DeserializeOwned>(
    custom: &[odcs::Custom],
    name: &str,
    problems: &mut Vec<String>,
) -> Vec<T> {
    let Some(value) = odcs::custom(custom, name) else {
        return Vec::new();
    };
    serde_json::from_value(value.clone()).unwrap_or_else(|error| {
        problems.push(format!("customProperties: {name}: {error}"));
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const ORDERS: &str = include_str!("../../contracts/orders.yaml");

    #[test]
    fn the_embedded_contracts_are_valid() {
        let contracts = Contract::embedded();
        let names: Vec<&str> = contracts.iter().map(|contract| contract.dataset.as_str()).collect();
        assert_eq!(names, ["sensor_readings", "orders"]);
        let readings = &contracts[0];
        assert_eq!(readings.key, ["device", "boot", "seq"]);
        assert_eq!(readings.partition_by, "at");
        assert_eq!(
            (readings.references[0].name.as_str(), readings.references[0].rows.num_rows()),
            ("channels", 5)
        );
        assert_eq!(readings.checks.iter().filter(|check| check.severity == Severity::Warn).count(), 1);
        assert!(readings.columns[readings.column_index("at").unwrap()].epoch_ms);
        let orders = &contracts[1];
        let schema = orders.row_schema();
        assert_eq!(schema.field_with_name("amount").unwrap().data_type(), &DataType::Decimal128(18, 2));
        assert!(!schema.field_with_name("order_id").unwrap().is_nullable());
        assert_eq!(
            orders.gold.iter().map(|gold| gold.window).collect::<Vec<_>>(),
            [Window::All, Window::Day]
        );
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = ORDERS
            .replace("id: orders\n", "id: web-orders\n")
            .replace("decimal(18,2)", "decimal(40,2)")
            .replace("value: mask", "value: hide")
            .replace("id: bad_currency", "id: bad_status")
            .replace("window: day", "window: week")
            .replacen("severity: discard", "severity: error", 1)
            .replace("value: created_at", "value: amount");
        let problems = Contract::parse(&text).unwrap_err().problems;
        let expected = [
            r#"id: "web-orders" is not"#,
            "column amount: physicalType decimal(40,2) is not",
            r#"column customer_email: redact is "hide", not one of"#,
            r#"column phone: redact is "hide", not one of"#,
            "check bad_status: severity error is not one of",
            "check bad_status is there twice",
            r#"partitionBy: "amount" is not"#,
            "gold orders_daily: window week is not",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, start) in problems.iter().zip(expected) {
            assert!(problem.starts_with(start), "{problem}");
        }
    }

    #[test]
    fn a_reference_joins_by_text_that_is_there_once() {
        let readings = include_str!("../../contracts/sensor_readings.yaml");
        let problem = |from: &str, to: &str| {
            Contract::parse(&readings.replace(from, to)).unwrap_err().problems.join("\n")
        };
        assert!(
            problem("channel: humidity", "channel: pressure").contains("channel pressure is there twice")
        );
        assert!(problem("channel: humidity", "channel: 7").contains("row 2 has no text in channel"));
        assert!(problem("\"on\": channel", "\"on\": seq").contains("seq is not a string column"));
        assert!(problem("value_min: 0.0", "value_min: low").contains("column value_min mixes types"));
    }

    #[test]
    fn what_is_not_a_contract_is_one_problem() {
        for text in ["", "- a\n- b\n", "id: [", "kind: DataContract\n"] {
            assert_eq!(Contract::parse(text).unwrap_err().problems.len(), 1, "{text}");
        }
    }
}
