//! The facets of Ingot's OpenLineage events. Each names the published schema that it follows.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::Schema;
use serde_json::{Map, Value, json};

use crate::contract::{Contract, Redact, Severity};
use crate::dataset_check::CheckResult;
use crate::origin::ColumnOrigin;
use crate::run::Sums;

/// Who says it.
pub(super) const PRODUCER: &str =
    concat!("https://github.com/ingot-iot/ingot/tree/v", env!("CARGO_PKG_VERSION"), "/processor");

/// A dataset's namespace and name.
pub(super) type Name = (String, String);

pub(super) fn event_schema() -> &'static str {
    "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
}

/// A facet: its content, who says it and by which schema.
fn facet(key: &str, version: &str, name: &str, content: Value) -> Value {
    let mut facet = Map::new();
    facet.insert("_producer".to_owned(), PRODUCER.into());
    let schema = format!("https://openlineage.io/spec/facets/{version}/{name}.json#/$defs/{name}");
    facet.insert("_schemaURL".to_owned(), schema.into());
    if let Value::Object(content) = content {
        facet.extend(content);
    }
    json!({ key: facet })
}

pub(super) fn engine() -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let content = json!({ "version": version, "name": "ingot-processor" });
    facet("processing_engine", "1-1-1", "ProcessingEngineRunFacet", content)
}

pub(super) fn failure(reason: &str) -> Value {
    let content = json!({ "message": reason, "programmingLanguage": "rust" });
    facet("errorMessage", "1-0-1", "ErrorMessageRunFacet", content)
}

pub(super) fn job(contract: &Contract) -> Value {
    let kind = json!({ "processingType": "BATCH", "integration": "INGOT", "jobType": "RUN" });
    let mut facets = facet("jobType", "2-0-4", "JobTypeJobFacet", kind);
    let text = format!("{}, contract {}: {}", contract.name, contract.version, contract.description);
    let documentation =
        facet("documentation", "1-1-0", "DocumentationJobFacet", json!({ "description": text }));
    super::extend(&mut facets, documentation);
    facets
}

/// The columns, with the contract's words where it knows them.
pub(super) fn schema(schema: &Schema, contract: &Contract) -> Value {
    let fields: Vec<Value> = schema
        .fields()
        .iter()
        .map(|field| {
            let mut column = json!({ "name": field.name(), "type": field.data_type().to_string() });
            let known = contract.columns.iter().find(|column| column.name == *field.name());
            if let Some(known) = known.filter(|known| !known.description.is_empty()) {
                column["description"] = known.description.clone().into();
            }
            column
        })
        .collect();
    facet("schema", "1-2-0", "SchemaDatasetFacet", json!({ "fields": fields }))
}

/// What the contract's checks found in what was read. A check failed if it was the first that a row
/// failed; of a required column it is known how often it was missing.
pub(super) fn quality(contract: &Contract, did: &Sums, held: &[CheckResult]) -> Value {
    let held = held.iter().filter(|result| result.dataset == contract.dataset).map(held_assertion);
    let assertions: Vec<Value> = contract
        .checks
        .iter()
        .map(|check| {
            let found = did.rules.get(&check.id).or_else(|| did.warnings.get(&check.id)).copied();
            let severity = if check.severity == Severity::Warn { "warn" } else { "error" };
            json!({
                "assertion": check.id,
                "success": found.unwrap_or_default() == 0,
                "severity": severity,
                "description": check.description,
                "expected": "0",
                "actual": found.unwrap_or_default().to_string(),
                "content": check.predicate,
                "contentType": "sql",
            })
        })
        .chain(held)
        .collect();
    let mut facets = facet(
        "dataQualityAssertions",
        "1-1-0",
        "DataQualityAssertionsDatasetFacet",
        json!({ "assertions": assertions }),
    );
    let missing = |name: &str| did.rules.get(&format!("required.{name}")).copied().unwrap_or_default();
    let required = contract.columns.iter().filter(|column| column.required);
    let metrics: Map<String, Value> =
        required.map(|column| (column.name.clone(), json!({ "nullCount": missing(&column.name) }))).collect();
    let metrics = json!({
        "rowCount": did.rows_in,
        "bytes": did.bytes,
        "fileCount": did.objects,
        "columnMetrics": metrics,
    });
    super::extend(
        &mut facets,
        facet("dataQualityMetrics", "1-0-3", "DataQualityMetricsInputDatasetFacet", metrics),
    );
    facets
}

/// A dataset check's result over one window.
fn held_assertion(result: &CheckResult) -> Value {
    json!({
        "assertion": result.check,
        "success": result.passed,
        "severity": if result.severity == Severity::Warn.word() { "warn" } else { "error" },
        "description": format!("over the window {}", result.window),
        "expected": result.expected,
        "actual": result.value.map_or_else(|| "null".to_owned(), |value| value.to_string()),
    })
}

pub(super) fn written(rows: u64) -> Value {
    let content = json!({ "rowCount": rows });
    facet("outputStatistics", "1-0-2", "OutputStatisticsOutputDatasetFacet", content)
}

/// Silver's columns: the same of bronze, redacted where the contract says so.
pub(super) fn silver_columns(contract: &Contract, bronze: &Name) -> Value {
    let mut fields = Map::new();
    for column in &contract.columns {
        let masking = column.redact != Redact::None;
        let subtype = if masking { "TRANSFORMATION" } else { "IDENTITY" };
        fields.insert(column.name.clone(), from([(column.name.as_str(), subtype, masking)], bronze));
    }
    let day = [(contract.partition_by.as_str(), "TRANSFORMATION", false)];
    fields.insert("dt".to_owned(), from(day, bronze));
    lineage(fields)
}

/// A discard row's record is made of all columns, redacted.
pub(super) fn discard_columns(contract: &Contract, bronze: &Name) -> Value {
    let all = contract
        .columns
        .iter()
        .map(|column| (column.name.as_str(), "TRANSFORMATION", column.redact != Redact::None));
    let mut fields = Map::new();
    fields.insert("record".to_owned(), from(all, bronze));
    lineage(fields)
}

pub(super) fn gold_columns(columns: &BTreeMap<String, ColumnOrigin>, silver: &Name) -> Value {
    let mut fields = Map::new();
    for (name, origin) in columns.iter().filter(|(_, origin)| !origin.columns.is_empty()) {
        let subtype = match origin {
            ColumnOrigin { summed: true, .. } => "AGGREGATION",
            ColumnOrigin { unchanged: true, .. } => "IDENTITY",
            ColumnOrigin { .. } => "TRANSFORMATION",
        };
        let inputs = origin.columns.iter().map(|column| (column.as_str(), subtype, false));
        fields.insert(name.clone(), from(inputs, silver));
    }
    lineage(fields)
}

fn from<'a>(columns: impl IntoIterator<Item = (&'a str, &'a str, bool)>, (namespace, name): &Name) -> Value {
    let inputs: Vec<Value> = columns
        .into_iter()
        .map(|(field, subtype, masking)| {
            json!({
                "namespace": namespace,
                "name": name,
                "field": field,
                "transformations": [{ "type": "DIRECT", "subtype": subtype, "masking": masking }],
            })
        })
        .collect();
    json!({ "inputFields": inputs })
}

fn lineage(fields: Map<String, Value>) -> Value {
    facet("columnLineage", "1-2-0", "ColumnLineageDatasetFacet", json!({ "fields": fields }))
}
