//! From the file as it is written to a valid contract: every problem is noted, none stops the search.

use super::beside::Beside;
use super::custom::{custom_list, custom_path};
use super::dataset_check::dataset_checks;
use super::list::csv_rows;
use super::name::{check_name, check_unique};
use super::problem::Problems;
use super::{
    Check, Column, Contract, GoldQuery, LogicalType, Reference, Severity, Window, alert, columns, example,
    odcs, retention,
};

/// The contract in the document; what is wrong with it goes to `problems`.
///
/// Also whether its columns and references are sound, so that SQL can be held against them.
pub(super) fn contract(
    document: odcs::Document,
    beside: &mut Beside,
    problems: &mut Problems,
) -> (Contract, bool) {
    if !document.api_version.is_empty() && !document.api_version.starts_with("v3.") {
        problems
            .at("apiVersion")
            .push(format!("apiVersion {} is not read here; write v3.1.0", document.api_version));
    }
    if !document.kind.is_empty() && document.kind != "DataContract" {
        problems.at("kind").push(format!("kind is {}, not DataContract", document.kind));
    }
    check_name("id", &document.id, problems.at("id"));
    if document.schema.len() != 1 {
        problems
            .at("schema")
            .push(format!("schema has {} objects; a dataset has exactly one", document.schema.len()));
    }
    let table = document.schema.into_iter().next();
    let (description, properties, quality) = match table {
        Some(table) => (table.description, table.properties, table.quality),
        None => (None, Vec::new(), Vec::new()),
    };
    let mut properties = properties;
    let of_columns: Vec<_> = properties
        .iter_mut()
        .map(|property| (property.name.clone(), std::mem::take(&mut property.quality)))
        .collect();
    let key = key_columns(&properties, problems);
    let before_columns = problems.len();
    let columns = columns::columns(properties, problems);
    let references = references(&document.custom_properties, &columns, beside, problems);
    let columns_are_sound = !columns.is_empty() && problems.len() == before_columns;
    let checks = checks(&quality, problems);
    let dataset_checks =
        dataset_checks(&quality, &of_columns, &document.sla_properties, &columns, &checks, problems);
    let partition_by = partition_column(&document.custom_properties, &columns, problems);
    let latest_by = latest_by(&document.custom_properties, problems);
    let gold = gold_queries(&document.custom_properties, problems);
    let examples = example::examples(&document.custom_properties, &columns, &checks, problems);
    let alerts = alert::alerts(&document.custom_properties, problems);
    let retention = retention::retention(&document.custom_properties, problems);
    let contract = Contract {
        name: document.name.unwrap_or_else(|| document.id.clone()),
        dataset: document.id,
        version: document.version,
        description: description.unwrap_or_default(),
        columns,
        key,
        checks,
        dataset_checks,
        references,
        gold,
        alerts,
        retention,
        examples,
        partition_by,
        latest_by,
        pseudonym_key: None,
        fingerprint: String::new(),
    };
    (contract, columns_are_sound)
}

fn key_columns(properties: &[odcs::Property], problems: &mut Problems) -> Vec<String> {
    let mut key: Vec<&odcs::Property> = properties.iter().filter(|p| p.primary_key).collect();
    key.sort_by_key(|p| p.primary_key_position.unwrap_or(i64::MAX));
    if key.is_empty() {
        problems
            .at("schema.0.properties")
            .push("no column has primaryKey: true; without a key no row can be counted once".into());
    }
    for property in &key {
        if !property.required {
            problems
                .at(format!("schema.0.properties.{}", property.name))
                .push(format!("column {} is part of the key, so it must be required", property.name));
        }
    }
    key.into_iter().map(|property| property.name.clone()).collect()
}

fn checks(quality: &[odcs::Quality], problems: &mut Problems) -> Vec<Check> {
    const LIST: &str = "schema.0.quality";
    let mut checks = Vec::new();
    let mut places = Vec::new();
    for (position, rule) in quality.iter().enumerate() {
        // The standard's own are checks of the dataset; rules of other engines belong to other tools.
        if rule.kind.as_deref() != Some("custom") || rule.engine.as_deref() != Some("ingot") {
            continue;
        }
        let id = rule.id.clone().unwrap_or_default();
        problems.at(format!("{LIST}.{position}.id"));
        if id.is_empty() {
            problems.push("a check must have an id, which names the rule in discard".into());
        }
        check_name("check", &id, problems);
        problems.at(format!("{LIST}.{position}.severity"));
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
            problems
                .at(format!("{LIST}.{position}.implementation"))
                .push(format!("check {id}: implementation must be SQL that is TRUE for a bad row"));
        }
        places.push(position);
        checks.push(Check {
            description: rule.description.clone().unwrap_or_default(),
            predicate: predicate.to_string(),
            id,
            severity,
        });
    }
    for (place, check) in checks.iter().enumerate().filter(|(_, check)| !check.id.is_empty()) {
        if checks[..place].iter().any(|before| before.id == check.id) {
            problems
                .at(format!("{LIST}.{}.id", places[place]))
                .push(format!("check {} is there twice", check.id));
        }
    }
    checks
}

fn partition_column(custom: &[odcs::Custom], columns: &[Column], problems: &mut Problems) -> String {
    let name = odcs::custom(custom, "partitionBy").and_then(|value| value.as_str()).unwrap_or_default();
    let fits = columns.iter().any(|column| {
        column.name == name
            && column.required
            && matches!(column.logical_type, LogicalType::Timestamp | LogicalType::Date)
    });
    if !fits {
        problems
            .at(custom_path("partitionBy"))
            .push(format!("partitionBy: {name:?} is not a required timestamp or date column"));
    }
    name.to_string()
}

fn latest_by(custom: &[odcs::Custom], problems: &mut Problems) -> Vec<String> {
    let expressions: Vec<String> = custom_list(custom, "latestBy", problems);
    if expressions.iter().any(|expression| expression.trim().is_empty()) {
        problems.at(custom_path("latestBy")).push("latestBy: an expression is empty".into());
    }
    expressions
}

fn references(
    custom: &[odcs::Custom],
    columns: &[Column],
    beside: &mut Beside,
    problems: &mut Problems,
) -> Vec<Reference> {
    let lists: Vec<odcs::ReferenceList> = custom_list(custom, "references", problems);
    let mut references = Vec::new();
    let path = custom_path("references");
    for (position, list) in lists.into_iter().enumerate() {
        problems.at(format!("{path}.{position}"));
        let at = format!("reference {}", list.name);
        check_name("reference", &list.name, problems);
        if list.name == "rows" {
            problems.push("reference rows: the name is the batch's own".into());
        }
        let text = |column: &Column| column.name == list.on && column.logical_type == LogicalType::String;
        if !columns.iter().any(text) {
            problems.push(format!("{at}: on: {} is not a string column", list.on));
        }
        let rows = match (&list.file, list.rows.is_empty()) {
            (None, _) => Ok(list.rows),
            (Some(_), false) => Err(vec!["rows and file exclude each other".into()]),
            (Some(file), true) => beside.open(file).and_then(|bytes| csv_rows(file, bytes, &list.on)),
        };
        let built = rows
            .and_then(|rows| Reference::build(list.name, list.on, &rows).map_err(|problem| vec![problem]));
        match built {
            Ok(reference) => references.push(reference),
            Err(found) => {
                found.into_iter().for_each(|problem| problems.push(format!("{at}: {problem}")));
            }
        }
    }
    check_unique("reference", &path, references.iter().map(|reference| &reference.name), problems);
    references
}

fn gold_queries(custom: &[odcs::Custom], problems: &mut Problems) -> Vec<GoldQuery> {
    let written: Vec<odcs::Gold> = custom_list(custom, "gold", problems);
    let mut gold = Vec::new();
    let path = custom_path("gold");
    for (position, query) in written.into_iter().enumerate() {
        problems.at(format!("{path}.{position}"));
        check_name("gold", &query.name, problems);
        let window = match query.window.as_str() {
            "day" => Window::Day,
            "all" => Window::All,
            other => {
                problems
                    .at(format!("{path}.{position}.window"))
                    .push(format!("gold {}: window {other} is not day or all", query.name));
                Window::All
            }
        };
        gold.push(GoldQuery { name: query.name, description: query.description, window, sql: query.sql });
    }
    check_unique("gold", &path, gold.iter().map(|query| &query.name), problems);
    gold
}
