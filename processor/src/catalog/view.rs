//! Views to explore the lake, made from the contracts. The SQL is plain: the same text runs in Athena and in
//! DataFusion, where the tests run it.

use std::collections::BTreeMap;
use std::fmt::Write;

use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::entry::{Entry, units};
use crate::contract::{Contract, LogicalType};
use crate::discard::DUPLICATE;
use crate::quoted;

/// How many days back the latest rows are looked for: without a limit each look would read all of silver.
pub const LATEST_DAYS: u32 = 30;

/// A view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The table that it reads.
    pub base: String,
    /// For people.
    pub description: String,
    /// The SELECT.
    pub select: String,
    /// The statement for Athena.
    pub statement: String,
}

impl View {
    fn new(database: &str, name: &str, base: &Entry, description: String, select: String) -> Self {
        let name = name.to_lowercase();
        let statement = format!("CREATE OR REPLACE VIEW {} AS\n{select}", of(database, &name));
        Self { name, base: base.name.clone(), description, select, statement }
    }

    /// Differs when the statement differs.
    pub fn fingerprint(&self) -> String {
        let hash = digest(&SHA256, self.statement.as_bytes());
        hash.as_ref().iter().take(8).fold(String::new(), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// The views that the tables allow:
/// - `latest_<dataset>`: each device's newest row, where the key counts a device's rows;
/// - a view per gold table, under its plain name, with the unit where it depends on another column;
/// - `discards_by_rule`, `data_quality_by_day` and `failing_checks` over all datasets.
pub(super) fn views(contracts: &[Contract], tables: &[Entry], database: &str) -> Vec<View> {
    let table = |name: String| tables.iter().find(|table| table.name == name.to_lowercase());
    let mut views = Vec::new();
    for contract in contracts {
        if let Some(silver) = table(format!("silver_{}", contract.dataset)) {
            views.extend(latest(contract, silver, database));
        }
        for query in &contract.gold {
            if let Some(gold) = table(format!("gold_{}", query.name)) {
                let select =
                    format!("SELECT {}\nFROM {} t", with_unit(contract, gold), of(database, &gold.name));
                views.push(View::new(database, &query.name, gold, query.description.clone(), select));
            }
        }
    }
    views.extend(table("discard".to_owned()).map(|discard| discards(contracts, discard, database)));
    views.extend(table("ledger".to_owned()).map(|ledger| quality(ledger, database)));
    views.extend(table("checks".to_owned()).map(|checks| failing(checks, database)));
    views
}

/// Each device's newest row by what tells its series apart; `None` where a key has one row anyway.
fn latest(contract: &Contract, silver: &Entry, database: &str) -> Option<View> {
    let is_text = |name: &String| {
        contract
            .columns
            .iter()
            .any(|column| column.name == *name && column.logical_type == LogicalType::String)
    };
    let (names, counts): (Vec<&String>, Vec<&String>) = contract.key.iter().partition(|name| is_text(name));
    if names.is_empty() || counts.is_empty() {
        return None;
    }
    // A reference's column is what was measured: each channel of a device is a series.
    let measured = contract.references.iter().map(|reference| &reference.on).filter(|on| !names.contains(on));
    let series: Vec<String> = names.iter().copied().chain(measured).map(|name| quoted::name(name)).collect();
    let order: Vec<String> = std::iter::once(&contract.partition_by)
        .chain(counts)
        .map(|name| format!("{} DESC", quoted::name(name)))
        .collect();
    let select = format!(
        "SELECT {columns}\nFROM (\n  SELECT s.*, row_number() OVER (PARTITION BY {series} ORDER BY {order}) AS newest\n  \
         FROM {table} s\n  WHERE s.\"dt\" >= CAST(current_date - INTERVAL '{LATEST_DAYS}' DAY AS VARCHAR)) t\nWHERE t.newest = 1",
        columns = with_unit(contract, silver),
        series = series.join(", "),
        order = order.join(", "),
        table = of(database, &silver.name),
    );
    let description =
        format!("The newest row of each {} in {LATEST_DAYS} days", series.join(" and ").replace('"', ""));
    Some(View::new(database, &format!("latest_{}", contract.dataset), silver, description, select))
}

/// All columns of the table `t`, and the unit of the row's values where the contract's list knows it.
fn with_unit(contract: &Contract, table: &Entry) -> String {
    let has = |name: &str| table.columns.iter().any(|column| column.name == name);
    let mut columns: Vec<String> =
        table.columns.iter().map(|column| format!("t.{}", quoted::name(&column.name))).collect();
    let listed = units(contract).into_iter().find(|(on, units)| has(on) && !units.is_empty());
    if let Some((on, units)) = listed.filter(|_| !has("unit")) {
        let cases: Vec<String> = units
            .iter()
            .map(|(value, unit)| format!("WHEN {} THEN {}", quoted::text(value), quoted::text(unit)))
            .collect();
        columns.push(format!("CASE t.{} {} END AS \"unit\"", quoted::name(&on), cases.join(" ")));
    }
    columns.join(", ")
}

fn discards(contracts: &[Contract], discard: &Entry, database: &str) -> View {
    let mut meanings: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for contract in contracts {
        for check in contract.checks.iter().filter(|check| !check.description.is_empty()) {
            meanings.insert((&contract.dataset, &check.id), &check.description);
        }
    }
    let mut cases: Vec<String> = meanings
        .iter()
        .map(|((dataset, rule), meaning)| {
            let (dataset, rule, meaning) = (quoted::text(dataset), quoted::text(rule), quoted::text(meaning));
            format!("    WHEN \"dataset\" = {dataset} AND \"rule\" = {rule} THEN {meaning}\n")
        })
        .collect();
    for (condition, meaning) in [
        (format!("= '{DUPLICATE}'"), "Silver has a row of this key"),
        ("LIKE 'type.%'".to_owned(), "A value is not of its column's type or pattern"),
        ("LIKE 'required.%'".to_owned(), "A required value is missing"),
    ] {
        cases.push(format!("    WHEN \"rule\" {condition} THEN {}\n", quoted::text(meaning)));
    }
    let select = format!(
        "SELECT \"dataset\", \"dt\", \"rule\",\n  CASE\n{cases}  END AS \"meaning\",\n  \
         count(*) AS \"row_count\", count(DISTINCT \"bronze_key\") AS \"object_count\",\n  \
         min(\"discarded_at\") AS \"first_at\", max(\"discarded_at\") AS \"last_at\"\n\
         FROM {table}\nGROUP BY \"dataset\", \"dt\", \"rule\"",
        cases = cases.concat(),
        table = of(database, &discard.name),
    );
    let description = "Discarded rows by dataset, day and rule, with the rule's meaning".to_owned();
    View::new(database, "discards_by_rule", discard, description, select)
}

fn quality(ledger: &Entry, database: &str) -> View {
    let select = format!(
        "SELECT \"dataset\", CAST(\"processed_at\" AS DATE) AS \"day\", count(*) AS \"objects\",\n  \
         sum(\"rows_in\") AS \"rows_in\", sum(\"silver\") AS \"silver\", sum(\"discarded\") AS \"discarded\",\n  \
         sum(\"duplicates\") AS \"duplicates\",\n  \
         CAST(sum(\"discarded\") AS DOUBLE) * 100 / nullif(sum(\"rows_in\"), 0) AS \"discarded_percent\"\n\
         FROM {}\nGROUP BY \"dataset\", CAST(\"processed_at\" AS DATE)",
        of(database, &ledger.name)
    );
    let description = "What became of the rows of each day on which they were processed".to_owned();
    View::new(database, "data_quality_by_day", ledger, description, select)
}

fn failing(checks: &Entry, database: &str) -> View {
    let columns: Vec<String> =
        checks.columns.iter().map(|column| format!("t.{}", quoted::name(&column.name))).collect();
    let select = format!(
        "SELECT {columns}\nFROM (\n  SELECT c.*, row_number() OVER (PARTITION BY \"dataset\", \"check\", \"window\" \
         ORDER BY \"checked_at\" DESC) AS newest\n  FROM {table} c) t\nWHERE t.newest = 1 AND t.\"passed\" = false",
        columns = columns.join(", "),
        table = of(database, &checks.name),
    );
    let description = "Checks of datasets whose newest result is a failure".to_owned();
    View::new(database, "failing_checks", checks, description, select)
}

/// A table or view of the database.
fn of(database: &str, table: &str) -> String {
    format!("{}.{}", quoted::name(database), quoted::name(table))
}
