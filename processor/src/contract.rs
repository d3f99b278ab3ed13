//! A dataset's contract: its columns, keys, checks, references and gold queries, valid as a whole.
//!
//! Written in YAML (Open Data Contract Standard v3.1), read by [`Contract::parse`], which reports all
//! problems at once, each with its line. SQL is judged by [`crate::check::Checker::new`] and by gold;
//! [`crate::lint`] puts it all together.

mod alert;
mod beside;
mod columns;
mod custom;
mod dataset_check;
mod example;
mod keys;
mod list;
mod name;
mod odcs;
mod outline;
mod problem;
mod reference;
mod retention;
mod shape;
mod validate;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use regex::Regex;

use crate::pseudonym::{NoKey, PseudonymKey};

pub use alert::{AlertRule, Watch};
use beside::Beside;
pub use dataset_check::{CheckWindow, DatasetCheck, Limit};
pub use example::{Case, Examples, Expect};
pub(crate) use problem::Problems;
pub use problem::{ContractErrors, Place, Problem};
pub use reference::Reference;
pub use retention::Retention;

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
    /// Checks of what has landed, over windows.
    pub dataset_checks: Vec<DatasetCheck>,
    /// Lists that checks may join.
    pub references: Vec<Reference>,
    /// What is computed from silver.
    pub gold: Vec<GoldQuery>,
    /// What is told when the dataset is not as it should be.
    pub alerts: Vec<AlertRule>,
    /// For how long each tier is kept.
    pub retention: Retention,
    /// Rows and what becomes of them, by which `contract test` tries the rules.
    pub examples: Option<Examples>,
    /// The timestamp or date column whose UTC day is a row's `dt`.
    pub partition_by: String,
    /// What makes one version of a row later than another, as SQL over silver's columns, the first one first.
    /// Empty: a key's first row counts, and there are no versions.
    pub latest_by: Vec<String>,
    /// By which pseudonyms are made; it is not in the contract, whoever runs it gives it.
    pub pseudonym_key: Option<PseudonymKey>,
    /// Differs when the text of the contract or of a file that it names differs.
    pub fingerprint: String,
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
    /// Whether its classification says that it holds personal data.
    pub personal: bool,
    /// The unit of its values, as the contract says it (e.g. UCUM's `Cel`).
    pub unit: Option<String>,
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
    /// A value becomes its pseudonym: the same one wherever it stands.
    Pseudonym,
    /// What [`crate::redact::scan`] finds in it becomes `[EMAIL]`, `[PHONE]`, `[CARD]`, `[IBAN]` or `[IP]`.
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
    /// Its object is set aside whole, until its bytes or the contract change.
    Quarantine,
    /// Its object is not processed, and the run stops for the dataset and fails.
    Fail,
}

impl Severity {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Warn => "warn",
            Self::Quarantine => "quarantine",
            Self::Fail => "fail",
        }
    }
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

impl Contract {
    /// Whether what its pseudonyms need is there.
    ///
    /// # Errors
    /// It makes pseudonyms and was given no key.
    pub fn check_key(&self) -> Result<(), NoKey> {
        let column = self.columns.iter().find(|column| column.redact == Redact::Pseudonym);
        match column.filter(|_| self.pseudonym_key.is_none()) {
            Some(column) => Err(NoKey { dataset: self.dataset.clone(), column: column.name.clone() }),
            None => Ok(()),
        }
    }

    /// Reads a contract; on failure every problem that was found.
    ///
    /// A contract that names other files needs [`Self::parse_beside`].
    pub fn parse(text: &str) -> Result<Self, ContractErrors> {
        Self::read(text, None).whole()
    }

    /// Reads a contract that stands in the folder, as the files do that it names.
    pub fn parse_beside(text: &str, folder: &Path) -> Result<Self, ContractErrors> {
        Self::read(text, Some(folder)).whole()
    }

    /// Reads as much of a contract as can be read.
    pub(crate) fn read(text: &str, folder: Option<&Path>) -> Read {
        let outline: outline::Node = match serde_saphyr::from_str(text) {
            Ok(outline) => outline,
            Err(error) => return Read::nothing(Problems::default(), &error),
        };
        let mut problems = Problems::new(outline);
        if !shape::check(&mut problems) {
            return Read { contract: None, columns_are_sound: false, problems };
        }
        match serde_saphyr::from_str::<odcs::Document>(text) {
            Ok(document) => {
                let mut beside = Beside::new(folder);
                let (mut contract, columns_are_sound) =
                    validate::contract(document, &mut beside, &mut problems);
                // Another hash in another version of this program costs a second look, nothing else.
                let mut hasher = DefaultHasher::new();
                (text, beside.read()).hash(&mut hasher);
                contract.fingerprint = format!("{:016x}", hasher.finish());
                Read { contract: Some(contract), columns_are_sound, problems }
            }
            // What the structure's check found says it better.
            Err(_) if problems.len() > 0 => Read { contract: None, columns_are_sound: false, problems },
            Err(error) => Read::nothing(problems, &error),
        }
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

    /// The same of rows that may lack what is required: those are taken out later.
    pub(crate) fn unjudged_row_schema(&self) -> SchemaRef {
        let fields = self.row_schema();
        let fields = fields.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        Arc::new(Schema::new(fields.collect::<Vec<Field>>()))
    }

    /// The place of the named column.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// A contract's text, read as far as it goes.
pub(crate) struct Read {
    /// The contract; sound only if there are no problems.
    pub contract: Option<Contract>,
    /// Whether SQL can be held against the columns and references.
    pub columns_are_sound: bool,
    /// What is wrong.
    pub problems: Problems,
}

impl Read {
    fn whole(self) -> Result<Contract, ContractErrors> {
        let problems = self.problems.finish();
        self.contract.filter(|_| problems.is_empty()).ok_or(ContractErrors { problems })
    }

    fn nothing(mut problems: Problems, error: &serde_saphyr::Error) -> Self {
        problems.at_place(error.location().map(outline::place).unwrap_or_default());
        problems.push(format!("not a contract: {}", error.without_snippet()));
        Self { contract: None, columns_are_sound: false, problems }
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
mod tests;
