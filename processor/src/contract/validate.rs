//! From the file as it is written to a valid contract: every problem is noted, none stops the search.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::{Check, Column, Contract, GoldQuery, LogicalType, Reference, Severity, Window, columns, odcs};

/// The contract in the document; what is wrong with it goes to `problems`.
pub(super) fn contract(document: odcs::Document, problems: &mut Vec<String>) -> Contract {
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
    let columns = columns::columns(properties, problems);
    let checks = checks(quality, problems);
    let partition_by = partition_column(&document.custom_properties, &columns, problems);
    let references = references(&document.custom_properties, &columns, problems);
    let gold = gold_queries(&document.custom_properties, problems);
    Contract {
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

/// Names become paths, SQL identifiers and rule ids: 1 to 64 of `[A-Za-z0-9_]`, no digit first.
pub(super) fn check_name(what: &str, name: &str, problems: &mut Vec<String>) {
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit();
    if !fits {
        problems.push(format!("{what}: {name:?} is not 1 to 64 of A-Z a-z 0-9 _ with a letter first"));
    }
}

pub(super) fn check_unique<'a>(
    what: &str,
    names: impl Iterator<Item = &'a String>,
    problems: &mut Vec<String>,
) {
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
