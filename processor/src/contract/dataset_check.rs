//! Checks of a dataset: one number over a window of silver, and what it must be.
//!
//! The standard's library metrics, its `sql` rules, and the freshness of its `slaProperties` all become one
//! SQL query here. What is run and written down is [`crate::dataset_check`].

use std::fmt;

use serde_json::Value;

use super::name::check_name;
use super::problem::Problems;
use super::{Check, Column, LogicalType, Severity, odcs};
use crate::quoted;

/// The standard's metrics.
const METRICS: [&str; 5] = ["rowCount", "nullValues", "missingValues", "invalidValues", "duplicateValues"];

/// A rule on a window of silver.
#[derive(Clone, Debug)]
pub struct DatasetCheck {
    /// Its name in results and reports.
    pub id: String,
    /// For people.
    pub description: String,
    /// Gives one number; or a column `subject`, and then the number is that of its rows.
    pub sql: String,
    /// What the number must be; all of it.
    pub limits: Vec<Limit>,
    /// [`Severity::Warn`] or [`Severity::Fail`].
    pub severity: Severity,
    /// What it looks at.
    pub window: CheckWindow,
}

/// What a dataset check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckWindow {
    /// The rows of objects that came since the checks were last held: normally those of the run.
    Run,
    /// Each day that is over and whose rows changed, by itself.
    Day,
    /// All of silver.
    All,
    /// The newest day, in every run, also in one that brought nothing.
    Newest,
}

/// What a check's number must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Equal.
    Be(f64),
    /// Not equal.
    NotBe(f64),
    /// Greater.
    Above(f64),
    /// Greater or equal.
    AtLeast(f64),
    /// Less.
    Below(f64),
    /// Less or equal.
    AtMost(f64),
    /// From one to the other, both included.
    Between(f64, f64),
    /// Outside of both.
    NotBetween(f64, f64),
}

impl Limit {
    /// Whether the number is as it must be; NaN never is.
    pub fn holds(self, value: f64) -> bool {
        !value.is_nan()
            && match self {
                Self::Be(other) => value == other,
                Self::NotBe(other) => value != other,
                Self::Above(other) => value > other,
                Self::AtLeast(other) => value >= other,
                Self::Below(other) => value < other,
                Self::AtMost(other) => value <= other,
                Self::Between(low, high) => (low..=high).contains(&value),
                Self::NotBetween(low, high) => !(low..=high).contains(&value),
            }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Be(other) => write!(f, "{other}"),
            Self::NotBe(other) => write!(f, "not {other}"),
            Self::Above(other) => write!(f, "more than {other}"),
            Self::AtLeast(other) => write!(f, "at least {other}"),
            Self::Below(other) => write!(f, "less than {other}"),
            Self::AtMost(other) => write!(f, "at most {other}"),
            Self::Between(low, high) => write!(f, "between {low} and {high}"),
            Self::NotBetween(low, high) => write!(f, "not between {low} and {high}"),
        }
    }
}

/// The dataset's checks, those of its columns, and those of its service levels.
pub(super) fn dataset_checks(
    quality: &[odcs::Quality],
    of_columns: &[(String, Vec<odcs::Quality>)],
    levels: &[odcs::ServiceLevel],
    columns: &[Column],
    row_checks: &[Check],
    problems: &mut Problems,
) -> Vec<DatasetCheck> {
    let mut checks: Vec<DatasetCheck> = Vec::new();
    let of_dataset = quality.iter().enumerate();
    let mut places: Vec<(String, Option<&str>, &odcs::Quality)> =
        of_dataset.map(|(position, rule)| (format!("schema.0.quality.{position}"), None, rule)).collect();
    for (position, (column, rules)) in of_columns.iter().enumerate() {
        let list = format!("schema.0.properties.{position}.quality");
        let of_column = rules.iter().enumerate();
        places.extend(of_column.map(|(at, rule)| (format!("{list}.{at}"), Some(column.as_str()), rule)));
    }
    for (place, column, rule) in places {
        let is_metric = matches!(rule.kind.as_deref(), Some("library") | None) && rule.metric.is_some();
        if !is_metric && rule.kind.as_deref() != Some("sql") {
            continue;
        }
        let id = rule.id.clone().unwrap_or_default();
        problems.at(format!("{place}.id"));
        if id.is_empty() {
            problems.push("a dataset check must have an id, which names it in results".into());
        }
        check_name("check", &id, problems);
        if row_checks.iter().any(|check| check.id == id) || checks.iter().any(|check| check.id == id) {
            problems.push(format!("check {id} is there twice"));
        }
        let sql = if is_metric { metric(rule, column, columns) } else { sql(rule, column) };
        let sql = sql.unwrap_or_else(|problem| {
            problems.at(&place).push(format!("check {id}: {problem}"));
            String::new()
        });
        let limits = limits(rule).unwrap_or_else(|problem| {
            problems.at(&place).push(format!("check {id}: {problem}"));
            Vec::new()
        });
        checks.push(DatasetCheck {
            description: rule.description.clone().unwrap_or_default(),
            sql,
            limits,
            severity: severity(rule, problems.at(format!("{place}.severity")), &id),
            window: window(rule, problems.at(format!("{place}.customProperties")), &id),
            id,
        });
    }
    for (position, level) in levels.iter().enumerate() {
        problems.at(format!("slaProperties.{position}"));
        if matches!(level.property.as_str(), "latency" | "freshness") {
            match freshness(level, columns) {
                Ok(check) if checks.iter().any(|other| other.id == check.id) => {
                    problems.push(format!("check {} is there twice", check.id));
                }
                Ok(check) => checks.push(check),
                Err(problem) => problems.push(format!("{}: {problem}", level.property)),
            }
        }
    }
    checks
}

fn severity(rule: &odcs::Quality, problems: &mut Problems, id: &str) -> Severity {
    match rule.severity.as_deref() {
        Some("warn" | "warning" | "info") | None => Severity::Warn,
        Some("fail" | "error") => Severity::Fail,
        Some(other) => {
            problems.push(format!(
                "check {id}: severity {other} is not warn or fail; a dataset check has no row to discard"
            ));
            Severity::Warn
        }
    }
}

fn window(rule: &odcs::Quality, problems: &mut Problems, id: &str) -> CheckWindow {
    match odcs::custom(&rule.custom_properties, "window").map(|value| value.as_str().unwrap_or_default()) {
        Some("run") | None => CheckWindow::Run,
        Some("day") => CheckWindow::Day,
        Some("all") => CheckWindow::All,
        Some("newest") => CheckWindow::Newest,
        Some(other) => {
            problems.push(format!("check {id}: window {other:?} is not one of run, day, all, newest"));
            CheckWindow::Run
        }
    }
}

fn sql(rule: &odcs::Quality, column: Option<&str>) -> Result<String, String> {
    let query = rule.query.as_deref().unwrap_or_default().trim();
    if query.is_empty() {
        return Err("query must be SQL that gives one number, or a column subject".into());
    }
    let mut query = query.replace("${object}", "silver").replace("${table}", "silver");
    if let Some(column) = column {
        query =
            query.replace("${property}", &quoted::name(column)).replace("${column}", &quoted::name(column));
    }
    Ok(query)
}

fn metric(rule: &odcs::Quality, column: Option<&str>, columns: &[Column]) -> Result<String, String> {
    let metric = rule.metric.as_deref().unwrap_or_default();
    let is_percent = match rule.unit.as_deref() {
        None | Some("rows") => false,
        Some("percent") => true,
        Some(other) => return Err(format!("unit {other} is not rows or percent")),
    };
    let argument = |name: &str| rule.arguments.as_ref().and_then(|arguments| arguments.get(name));
    let names: Vec<&str> = match (column, argument("properties").and_then(Value::as_array)) {
        (Some(column), _) => vec![column],
        (None, Some(names)) => names.iter().filter_map(Value::as_str).collect(),
        (None, None) => Vec::new(),
    };
    let unknown = format!("metric {metric} is not one of {}", METRICS.join(", "));
    if !METRICS.contains(&metric) {
        return Err(unknown);
    }
    if let Some(unknown) = names.iter().find(|name| columns.iter().all(|column| column.name != **name)) {
        return Err(format!("{unknown} is no column"));
    }
    let fields: Vec<String> = names.iter().map(|name| quoted::name(name)).collect();
    if metric != "rowCount" && fields.is_empty() {
        return Err(format!("{metric} must stand at a column, or name columns in arguments.properties"));
    }
    let any = |bad: &dyn Fn(&String) -> String| -> String {
        fields.iter().map(|field| format!("({})", bad(field))).collect::<Vec<_>>().join(" OR ")
    };
    let bad = match metric {
        "rowCount" if is_percent => return Err("rowCount is counted in rows".into()),
        "rowCount" => return Ok("SELECT count(*) FROM silver".into()),
        "duplicateValues" => {
            let rows = format!("SELECT count(*) AS n FROM silver GROUP BY {}", fields.join(", "));
            let sum = if is_percent { "100.0 * sum(n - 1) / sum(n)" } else { "coalesce(sum(n - 1), 0)" };
            return Ok(format!("SELECT {sum} FROM ({rows})"));
        }
        "nullValues" => any(&|field| format!("{field} IS NULL")),
        "missingValues" => {
            let missing = texts(argument("missingValues"));
            any(&|field| match missing.as_str() {
                "" => format!("{field} IS NULL"),
                missing => format!("{field} IS NULL OR CAST({field} AS VARCHAR) IN ({missing})"),
            })
        }
        "invalidValues" => {
            let valid = texts(argument("validValues"));
            let pattern = argument("pattern").and_then(Value::as_str).map(quoted::text);
            if valid.is_empty() && pattern.is_none() {
                return Err("invalidValues needs arguments.validValues or arguments.pattern".into());
            }
            any(&|field| {
                let text = format!("CAST({field} AS VARCHAR)");
                let list = (!valid.is_empty()).then(|| format!("{text} NOT IN ({valid})"));
                let shape = pattern.as_ref().map(|pattern| format!("NOT regexp_like({text}, {pattern})"));
                list.into_iter().chain(shape).collect::<Vec<_>>().join(" OR ")
            })
        }
        _ => return Err(unknown),
    };
    let count = format!("count(*) FILTER (WHERE {bad})");
    Ok(if is_percent {
        format!("SELECT 100.0 * {count} / nullif(count(*), 0) FROM silver")
    } else {
        format!("SELECT {count} FROM silver")
    })
}

/// What is written for a limit of one number, and the limit.
type Single<'a> = (&'a Option<Value>, fn(f64) -> Limit);

fn limits(rule: &odcs::Quality) -> Result<Vec<Limit>, String> {
    let number = |value: &Value| value.as_f64().ok_or_else(|| format!("{value} is not a number"));
    let pair = |value: &Value| match value.as_array().map(Vec::as_slice) {
        Some([low, high]) => Ok((number(low)?, number(high)?)),
        _ => Err(format!("{value} is not a list of two numbers")),
    };
    let single: [Single<'_>; 6] = [
        (&rule.must_be, Limit::Be),
        (&rule.must_not_be, Limit::NotBe),
        (&rule.must_be_greater_than, Limit::Above),
        (&rule.must_be_greater_or_equal_to, Limit::AtLeast),
        (&rule.must_be_less_than, Limit::Below),
        (&rule.must_be_less_or_equal_to, Limit::AtMost),
    ];
    let mut limits = Vec::new();
    for (value, limit) in single {
        if let Some(value) = value {
            limits.push(limit(number(value)?));
        }
    }
    if let Some(value) = &rule.must_be_between {
        let (low, high) = pair(value)?;
        limits.push(Limit::Between(low, high));
    }
    if let Some(value) = &rule.must_not_be_between {
        let (low, high) = pair(value)?;
        limits.push(Limit::NotBetween(low, high));
    }
    if limits.is_empty() {
        return Err("say what the number must be: mustBe, mustBeLessThan, mustBeBetween …".into());
    }
    Ok(limits)
}

/// `latency` (the standard's word) or `freshness`: the age of the newest row.
fn freshness(level: &odcs::ServiceLevel, columns: &[Column]) -> Result<DatasetCheck, String> {
    let seconds = match level.unit.as_deref() {
        Some("s" | "second" | "seconds") => 1.0,
        Some("m" | "min" | "minute" | "minutes") => 60.0,
        Some("h" | "hour" | "hours") => 3600.0,
        Some("d" | "day" | "days") | None => 86_400.0,
        Some(other) => return Err(format!("unit {other} is not s, m, h or d")),
    };
    let age = level.value.as_f64().ok_or_else(|| format!("value {} is not a number", level.value))?;
    let element = level.element.as_deref().unwrap_or_default();
    let name = element.rsplit('.').next().unwrap_or_default();
    if !columns.iter().any(|column| column.name == name && column.logical_type == LogicalType::Timestamp) {
        return Err(format!("element {element:?} is not <dataset>.<timestamp column>"));
    }
    Ok(DatasetCheck {
        id: level.property.clone(),
        description: format!("Age of the newest {name}, in {}", level.unit.as_deref().unwrap_or("d")),
        sql: format!(
            "SELECT (${{now_s}} - date_part('epoch', max({}))) / {seconds:?} FROM silver",
            quoted::name(name)
        ),
        limits: vec![Limit::AtMost(age)],
        severity: Severity::Warn,
        window: CheckWindow::Newest,
    })
}

/// A list of values as SQL text; what is null is left out.
fn texts(list: Option<&Value>) -> String {
    let values = list.and_then(Value::as_array).into_iter().flatten().filter(|value| !value.is_null());
    let texts =
        values.map(|value| value.as_str().map_or_else(|| quoted::text(&value.to_string()), quoted::text));
    texts.collect::<Vec<_>>().join(", ")
}
