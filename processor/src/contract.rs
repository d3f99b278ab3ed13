//! A dataset's contract: its columns, keys, checks, references and gold queries, valid as a whole.
//!
//! Written in YAML (Open Data Contract Standard v3.1), read by [`Contract::parse`], which reports all
//! problems at once. A check's SQL is judged by [`crate::check::Checker::new`], a gold query's by gold.

mod columns;
mod odcs;
mod reference;
mod validate;

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use regex::Regex;

pub use reference::Reference;

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
        let contract = validate::contract(document, &mut problems);
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
