//! What each column of the catalog means: from the contract, from the silver columns that a gold column is made
//! of, and, for Ingot's own columns, from here.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::Schema;

use super::column::{Column, hive_type};
use crate::contract::{Column as ContractColumn, Contract, Redact};
use crate::origin::ColumnOrigin;

pub(super) const DISCARD_TABLE: &str =
    "Every row of every dataset that is not in silver, with the reason, after redaction";
pub(super) const LEDGER_TABLE: &str =
    "One row per bronze object: rows_in = silver + discarded + duplicates, and what its gateway says";
pub(super) const CHECKS_TABLE: &str = "Every result of every check over a whole dataset";

const DT: (&str, &str) =
    ("dt", "The row's day in UTC, YYYY-MM-DD; the partition: a condition on it saves money");
const BRONZE_KEY: (&str, &str) = ("bronze_key", "The bronze object that the row came in");
const BRONZE_ETAG: (&str, &str) = ("bronze_etag", "The tag of that object's content");
const ORDINAL: (&str, &str) = ("ordinal", "The row's place in its bronze object, from 0");
const DATASET: (&str, &str) = ("dataset", "The dataset, as its contract calls it");
const VERSION: (&str, &str) = ("contract_version", "The version of the contract that judged");

const SILVER: &[(&str, &str)] = &[DT, BRONZE_KEY, BRONZE_ETAG, ORDINAL];
pub(super) const DISCARD: &[(&str, &str)] = &[
    DATASET,
    ("dt", "The day of the bronze object, YYYY-MM-DD; a partition: a condition on it saves money"),
    ("rule", "The first rule that the row failed; duplicate: silver had its key"),
    ("rules", "All rules that it failed, with commas between"),
    VERSION,
    BRONZE_KEY,
    BRONZE_ETAG,
    ORDINAL,
    ("byte_offset", "Where the row begins in its object"),
    ("byte_len", "How long it is there, in bytes"),
    ("record", "The row as JSON, redacted"),
    ("discarded_at", "When it was discarded"),
];
pub(super) const LEDGER: &[(&str, &str)] = &[
    DATASET,
    ("bronze_key", "The bronze object"),
    BRONZE_ETAG,
    ("bytes", "The object's size"),
    ("rows_in", "Rows in it"),
    ("silver", "Of these, promoted"),
    ("discarded", "Of these, discarded by a rule"),
    ("duplicates", "Of these, in silver already"),
    ("rules", "Discarded rows by rule, as JSON"),
    ("warnings", "Rows that were warned of by check, as JSON"),
    ("batches", "The gateway's batches in it, as JSON, with readings that the edge gave up by cause"),
    VERSION,
    ("processed_at", "When it was processed"),
];
pub(super) const CHECKS: &[(&str, &str)] = &[
    DATASET,
    ("check", "The check's id in the contract"),
    ("window", "The day that was checked, or the run"),
    ("value", "What was measured; null: it could not be"),
    ("expected", "What the contract wants"),
    ("passed", "Whether it is so"),
    ("severity", "warn or fail"),
    ("subjects", "Some of what was found, as a JSON list"),
    ("subjects_more", "How many more were found"),
    ("problem", "Why it could not be measured"),
    VERSION,
    ("checked_at", "When it was checked"),
];

/// Columns of one of Ingot's own tables.
pub(super) fn of_own(comments: &[(&str, &str)], schema: &Schema) -> Vec<Column> {
    let known: BTreeMap<&str, &str> = comments.iter().copied().collect();
    let fields = schema.fields().iter();
    fields
        .map(|field| {
            let comment = known.get(field.name().as_str()).copied().unwrap_or_default();
            Column::plain(field.name(), hive_type(field.data_type()), comment)
        })
        .collect()
}

/// Columns of silver.
pub(super) fn of_silver(contract: &Contract, schema: &Schema) -> Vec<Column> {
    let mut columns = of_own(SILVER, schema);
    for column in &mut columns {
        if let Some(source) = contract.columns.iter().find(|source| source.name == column.name) {
            column.comment.clone_from(&source.description);
            column.unit.clone_from(&source.unit);
            column.personal = is_personal(source);
            column.redact = redact(source);
        }
    }
    columns
}

/// Columns of gold: one that is a column of silver means the same, another names what it is made of.
pub(super) fn of_gold(
    contract: &Contract,
    schema: &Schema,
    origins: &BTreeMap<String, ColumnOrigin>,
) -> Vec<Column> {
    let mut columns = of_own(&[DT], schema);
    let nothing = ColumnOrigin::default();
    for column in &mut columns {
        let origin = origins.get(&column.name).unwrap_or(&nothing);
        let sources = || contract.columns.iter().filter(|source| origin.columns.contains(&source.name));
        column.personal = sources().any(is_personal);
        if let Some(source) = sources().next().filter(|_| origin.unchanged) {
            column.comment.clone_from(&source.description);
            column.unit.clone_from(&source.unit);
            column.redact = redact(source);
        } else if column.comment.is_empty() {
            let names: Vec<&str> = origin.columns.iter().map(String::as_str).collect();
            column.comment = match (origin.summed, names.is_empty()) {
                (true, true) => "Over the rows of silver".to_owned(),
                (true, false) => format!("Over {}", names.join(", ")),
                (false, true) => String::new(),
                (false, false) => format!("From {}", names.join(", ")),
            };
        }
    }
    columns
}

/// Whether the contract says so, by its classification or by what becomes of the column.
fn is_personal(column: &ContractColumn) -> bool {
    column.personal || matches!(column.redact, Redact::Mask | Redact::Drop | Redact::Pseudonym)
}

fn redact(column: &ContractColumn) -> Option<&'static str> {
    match column.redact {
        Redact::None => None,
        Redact::Mask => Some("mask"),
        Redact::Drop => Some("drop"),
        Redact::Pseudonym => Some("pseudonym"),
        Redact::Scan => Some("scan"),
    }
}
