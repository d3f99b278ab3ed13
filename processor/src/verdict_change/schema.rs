//! What differs between two versions of a contract, in words: columns, keys, checks, references, gold.

use std::collections::BTreeSet;

use crate::contract::{Check, Column, Contract, GoldQuery, Reference};

/// One line per difference; none if a row would be stored and summed up in the same way.
pub fn changes(old: &Contract, new: &Contract) -> Vec<String> {
    let mut changes = Vec::new();
    let mut differs = |what: &str, old: &str, new: &str| {
        if old != new {
            changes.push(format!("{what}: {old} becomes {new}"));
        }
    };
    differs("version", &old.version, &new.version);
    differs("key", &old.key.join(", "), &new.key.join(", "));
    differs("partitionBy", &old.partition_by, &new.partition_by);
    each("column", &old.columns, &new.columns, |column| &column.name, column, &mut changes);
    each("check", &old.checks, &new.checks, |check| &check.id, check, &mut changes);
    each("reference", &old.references, &new.references, |list| &list.name, reference, &mut changes);
    each("gold", &old.gold, &new.gold, |query| &query.name, gold, &mut changes);
    changes
}

/// What was added, removed or changed, told apart by name.
fn each<T>(
    what: &str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &String,
    shown: impl Fn(&T) -> String,
    changes: &mut Vec<String>,
) {
    let names: BTreeSet<&String> = old.iter().chain(new).map(&name).collect();
    for named in names {
        let find = |list: &[T]| list.iter().find(|item| name(item) == named).map(&shown);
        match (find(old), find(new)) {
            (Some(_), None) => changes.push(format!("{what} {named} is removed")),
            (None, Some(new)) => changes.push(format!("{what} {named} is added: {new}")),
            (Some(old), Some(new)) if old != new => {
                changes.push(format!("{what} {named}: {old} becomes {new}"));
            }
            _ => {}
        }
    }
}

fn column(column: &Column) -> String {
    let mut shown = format!("{:?}", column.logical_type);
    if column.required {
        shown += ", required";
    }
    if let Some(pattern) = &column.pattern {
        shown += &format!(", pattern {pattern}");
    }
    if column.epoch_ms {
        shown += ", whole numbers are milliseconds";
    }
    shown + &format!(", redact {:?}", column.redact).to_lowercase()
}

fn check(check: &Check) -> String {
    format!("{} where {}", check.severity.word(), check.predicate.trim())
}

fn reference(reference: &Reference) -> String {
    let rows = reference.rows.num_rows();
    let cells: Vec<String> = reference
        .rows
        .columns()
        .iter()
        .flat_map(|column| {
            (0..rows)
                .filter_map(|row| datafusion::arrow::util::display::array_value_to_string(column, row).ok())
        })
        .collect();
    format!("{rows} rows on {} ({})", reference.on, cells.join(", "))
}

fn gold(query: &GoldQuery) -> String {
    let sql: Vec<&str> = query.sql.split_whitespace().collect();
    format!("window {:?}, {}", query.window, sql.join(" "))
}
