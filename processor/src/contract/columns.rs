//! The columns of a contract: their types, patterns, and how personal data in them is treated.

use regex::Regex;
use serde_json::Value;

use super::name::{check_name, check_unique};
use super::problem::Problems;
use super::{Column, LogicalType, Redact, odcs};

/// Columns of a dataset.
const COLUMNS_MAX: usize = 128;
/// Digits that a 128-bit decimal holds.
const DECIMAL_PRECISION_MAX: u8 = 38;

/// The columns, each with its type and what the contract wants of it.
pub(super) fn columns(properties: Vec<odcs::Property>, problems: &mut Problems) -> Vec<Column> {
    problems.at("schema.0.properties");
    if properties.is_empty() {
        problems.push("the schema has no properties".into());
    }
    if properties.len() > COLUMNS_MAX {
        problems
            .push(format!("the schema has {} properties; at most {COLUMNS_MAX} are read", properties.len()));
    }
    check_unique("column", "schema.0.properties", properties.iter().map(|p| &p.name), problems);
    properties
        .into_iter()
        .enumerate()
        .map(|(position, property)| {
            let at = format!("column {}", property.name);
            let path = format!("schema.0.properties.{position}");
            problems.at(format!("{path}.name"));
            check_name("column", &property.name, problems);
            if matches!(property.name.as_str(), "ordinal" | "dt" | "bronze_key" | "bronze_etag") {
                problems.push(format!("{at}: the name is Ingot's own; choose another"));
            }
            problems.at(format!("{path}.logicalType"));
            let logical_type = logical_type(&property.logical_type, property.physical_type.as_deref())
                .unwrap_or_else(|problem| {
                    problems.push(format!("{at}: {problem}"));
                    LogicalType::String
                });
            problems.at(format!("{path}.customProperties"));
            Column {
                redact: redact(&at, &property, logical_type, problems),
                pattern: pattern(
                    &at,
                    &property,
                    logical_type,
                    problems.at(format!("{path}.logicalTypeOptions")),
                ),
                epoch_ms: epoch_ms(
                    &at,
                    &property,
                    logical_type,
                    problems.at(format!("{path}.customProperties")),
                ),
                unit: odcs::custom(&property.custom_properties, "unit")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                name: property.name,
                logical_type,
                required: property.required,
                personal: property.classification.as_deref().is_some_and(is_personal),
                description: property.description.unwrap_or_default(),
            }
        })
        .collect()
}

/// The standard leaves the words of `classification` open; these are in use for personal data.
fn is_personal(classification: &str) -> bool {
    let words = ["pii", "phi", "personal", "sensitive"];
    words.iter().any(|word| classification.to_lowercase().contains(word))
}

fn redact(at: &str, property: &odcs::Property, logical: LogicalType, problems: &mut Problems) -> Redact {
    let Some(value) = odcs::custom(&property.custom_properties, "redact") else {
        return Redact::None;
    };
    let redact = match value.as_str() {
        Some("none") => Redact::None,
        Some("mask") => Redact::Mask,
        Some("drop") => Redact::Drop,
        Some("pseudonym") => Redact::Pseudonym,
        Some("scan") => Redact::Scan,
        _ => {
            problems.push(format!("{at}: redact is {value}, not one of none, mask, drop, pseudonym, scan"));
            return Redact::None;
        }
    };
    if matches!(redact, Redact::Mask | Redact::Scan | Redact::Pseudonym) && logical != LogicalType::String {
        problems.push(format!("{at}: only a string can be masked, scanned or given a pseudonym; use drop"));
    }
    if redact == Redact::Drop && property.required {
        problems.push(format!("{at}: a required column cannot be dropped"));
    }
    if !matches!(redact, Redact::None | Redact::Pseudonym) && property.primary_key {
        problems.push(format!("{at}: a redacted key would no longer tell rows apart; a pseudonym does"));
    }
    redact
}

fn pattern(
    at: &str,
    property: &odcs::Property,
    logical: LogicalType,
    problems: &mut Problems,
) -> Option<Regex> {
    let pattern = property.logical_type_options.pattern.as_deref()?;
    if logical != LogicalType::String {
        problems.push(format!("{at}: only a string has a pattern"));
    }
    Regex::new(&format!("^(?:{pattern})$"))
        .map_err(|error| problems.push(format!("{at}: pattern: {error}")))
        .ok()
}

fn epoch_ms(at: &str, property: &odcs::Property, logical: LogicalType, problems: &mut Problems) -> bool {
    let Some(unit) = odcs::custom(&property.custom_properties, "epochUnit") else {
        return false;
    };
    if unit.as_str() != Some("ms") || logical != LogicalType::Timestamp {
        problems.push(format!("{at}: epochUnit is {unit}; only ms, on a timestamp, is known"));
    }
    true
}

fn logical_type(logical: &str, physical: Option<&str>) -> Result<LogicalType, String> {
    match logical {
        "string" => Ok(LogicalType::String),
        "integer" => Ok(LogicalType::Integer),
        "number" => match physical {
            Some(physical) if physical.starts_with("decimal") => decimal(physical),
            _ => Ok(LogicalType::Number),
        },
        "boolean" => Ok(LogicalType::Boolean),
        "timestamp" => Ok(LogicalType::Timestamp),
        "date" => Ok(LogicalType::Date),
        // That the key is missing is told already.
        "" => Ok(LogicalType::String),
        other => Err(format!(
            "logicalType {other} is not one of string, integer, number, boolean, timestamp, date"
        )),
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
