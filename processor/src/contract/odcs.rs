//! A contract as it is written: the part of the Open Data Contract Standard v3.1 that Ingot reads.
//!
//! Keys that the standard has and Ingot does not need (servers, slaProperties, team …) are passed over.
//! What the standard leaves open stands under `customProperties`; [`super::Contract::parse`] judges it.
//! A missing key is no error here: [`super::shape`] tells of all of them at once.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub id: String,
    pub name: Option<String>,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub schema: Vec<Table>,
    #[serde(default)]
    pub custom_properties: Vec<Custom>,
    #[serde(default)]
    pub sla_properties: Vec<ServiceLevel>,
}

/// One object of `schema`; a dataset has one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Table {
    pub description: Option<String>,
    #[serde(default)]
    pub properties: Vec<Property>,
    #[serde(default)]
    pub quality: Vec<Quality>,
}

/// A column.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Property {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub logical_type: String,
    pub physical_type: Option<String>,
    #[serde(default)]
    pub logical_type_options: TypeOptions,
    #[serde(default)]
    pub required: bool,
    #[serde(default)]
    pub primary_key: bool,
    pub primary_key_position: Option<i64>,
    pub classification: Option<String>,
    pub description: Option<String>,
    #[serde(default)]
    pub custom_properties: Vec<Custom>,
    #[serde(default)]
    pub quality: Vec<Quality>,
}

/// What narrows a logical type.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TypeOptions {
    pub pattern: Option<String>,
}

/// A quality rule; Ingot runs those of `engine: ingot`, and those of the types `library` and `sql`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quality {
    pub id: Option<String>,
    pub description: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub engine: Option<String>,
    pub severity: Option<String>,
    pub implementation: Option<Value>,
    pub metric: Option<String>,
    pub arguments: Option<Map<String, Value>>,
    pub unit: Option<String>,
    pub query: Option<String>,
    pub must_be: Option<Value>,
    pub must_not_be: Option<Value>,
    pub must_be_greater_than: Option<Value>,
    pub must_be_greater_or_equal_to: Option<Value>,
    pub must_be_less_than: Option<Value>,
    pub must_be_less_or_equal_to: Option<Value>,
    pub must_be_between: Option<Value>,
    pub must_not_be_between: Option<Value>,
    #[serde(default)]
    pub custom_properties: Vec<Custom>,
}

/// A service level; Ingot reads those about freshness.
#[derive(Debug, Deserialize)]
pub(super) struct ServiceLevel {
    #[serde(default)]
    pub property: String,
    #[serde(default)]
    pub value: Value,
    pub unit: Option<String>,
    pub element: Option<String>,
}

/// A property that the standard does not know.
#[derive(Debug, Deserialize)]
pub(super) struct Custom {
    pub property: String,
    pub value: Value,
}

/// The value of the custom property `references`, one list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReferenceList {
    pub name: String,
    pub on: String,
    #[serde(default)]
    pub rows: Vec<Map<String, Value>>,
    pub file: Option<String>,
}

/// The value of the custom property `gold`, one query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gold {
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub window: String,
    pub sql: String,
}

/// The custom property's value, if it is there.
pub(super) fn custom<'a>(properties: &'a [Custom], name: &str) -> Option<&'a Value> {
    properties.iter().find(|custom| custom.property == name).map(|custom| &custom.value)
}

/// The value of the custom property `examples`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Examples {
    pub now: String,
    pub row: Map<String, Value>,
    pub cases: Vec<Case>,
    #[serde(default)]
    pub equivalent: Vec<String>,
}

/// One of the examples.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub name: Option<String>,
    pub set: Option<Map<String, Value>>,
    pub line: Option<String>,
    pub expect: String,
    #[serde(default)]
    pub rules: Vec<String>,
}

/// The value of the custom property `alerts`, one alert.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Alert {
    pub name: String,
    pub watch: String,
    pub open_above_percent: Option<f64>,
    pub resolve_below_percent: Option<f64>,
    pub open_above_minutes: Option<f64>,
    pub resolve_below_minutes: Option<f64>,
    pub open_above_count: Option<f64>,
    pub resolve_below_count: Option<f64>,
    pub window_minutes: Option<u32>,
    pub rows_min: Option<u64>,
}
