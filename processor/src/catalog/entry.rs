//! One table of the catalog as it should be, and what would have to change for it to be so.
//!
//! Pure: Glue's JSON in, Glue's JSON out. Parameters that others have set stay; those that begin with `ingot.` are
//! kept as they should be.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, AsArray};
use serde::Serialize;
use serde_json::{Value, json};

use super::column::{Column, one_line};
use super::difference::changes;
use crate::contract::{Contract, GoldQuery};

/// Glue's limit of a description.
const DESCRIPTION_CHARS_MAX: usize = 2_048;
/// The parameter that says that a table is Ingot's, and what it is in the lake.
const TIER: &str = "ingot.tier";
/// Begins the parameters that [`super::sync`] keeps about views.
pub(super) const VIEW: &str = "ingot.view.";

/// A table as it should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its name in the catalog, e.g. `silver_orders`.
    pub name: String,
    /// What it is in the lake: `silver`, `gold`, `discard`, `ledger` or `checks`.
    pub tier: &'static str,
    /// For people.
    pub description: String,
    /// Where it is, with a closing slash.
    pub location: String,
    /// In the order of the table.
    pub columns: Vec<Column>,
    /// What Athena and Spark need to know, and what the contract says of the table.
    pub parameters: BTreeMap<String, String>,
}

/// What a table of this name in the catalog is, if it is not the wanted one.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} is in the catalog and is not Ingot's: {what}; drop or rename it there, or choose another --database"
)]
pub struct NotOurs {
    name: String,
    what: String,
}

impl Entry {
    pub(super) fn silver(contract: &Contract, path: &str, location: &str, columns: Vec<Column>) -> Self {
        let mut entry = Self::new("silver", &format!("silver_{}", contract.dataset), path, location, columns);
        entry.description = described(&contract.name, &contract.description);
        entry.of_contract(contract);
        entry
    }

    pub(super) fn gold(
        contract: &Contract,
        query: &GoldQuery,
        path: &str,
        location: &str,
        columns: Vec<Column>,
    ) -> Self {
        let mut entry = Self::new("gold", &format!("gold_{}", query.name), path, location, columns);
        entry.description.clone_from(&query.description);
        entry.of_contract(contract);
        entry
    }

    pub(super) fn own(path: &'static str, location: &str, description: &str, columns: Vec<Column>) -> Self {
        let mut entry = Self::new(path, path, path, location, columns);
        entry.description = description.to_owned();
        entry
    }

    fn new(tier: &'static str, name: &str, path: &str, location: &str, columns: Vec<Column>) -> Self {
        let personal =
            columns.iter().filter(|column| column.personal).map(|column| column.name.to_lowercase());
        let personal: Vec<String> = personal.collect();
        let mut parameters = BTreeMap::from(
            [
                ("EXTERNAL", "TRUE"),
                ("classification", "delta"),
                ("spark.sql.sources.provider", "delta"),
                // By this Athena knows that it has to read Delta's log.
                ("table_type", "DELTA"),
                (TIER, tier),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        if !personal.is_empty() {
            parameters.insert("ingot.pii_columns".to_owned(), personal.join(","));
        }
        Self {
            name: name.to_lowercase(),
            tier,
            description: String::new(),
            location: format!("{location}/{path}/"),
            columns,
            parameters,
        }
    }

    /// What the contract says of the table: itself, and units that depend on a column's value.
    fn of_contract(&mut self, contract: &Contract) {
        let named = format!("{} {}", contract.dataset, contract.version);
        self.parameters.insert("ingot.contract".to_owned(), named);
        for (on, units) in units(contract) {
            if self.columns.iter().any(|column| column.name == on) {
                let units = units.into_iter();
                let named = units.map(|(value, unit)| (format!("ingot.unit.{on}.{value}"), unit));
                self.parameters.extend(named);
            }
        }
    }

    /// Glue's `TableInput` for a table that is not there yet.
    pub fn input(&self) -> Value {
        let columns: Vec<Value> = self.columns.iter().map(Column::json).collect();
        json!({
            "Name": self.name,
            "Description": one_line(&self.description, DESCRIPTION_CHARS_MAX),
            "TableType": "EXTERNAL_TABLE",
            "Parameters": self.parameters,
            "PartitionKeys": [],
            "StorageDescriptor": {
                "Columns": columns,
                "Location": self.location,
                // Placeholders, as Spark and Athena write them for Delta: neither reads through them.
                "InputFormat": "org.apache.hadoop.mapred.SequenceFileInputFormat",
                "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat",
                "SerdeInfo": {
                    "SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
                    "Parameters": {"path": self.location, "serialization.format": "1"},
                },
            },
        })
    }

    /// Glue's `TableInput` that makes the table `found` as it should be, with what changes in words; `None` where it
    /// already is.
    ///
    /// # Errors
    /// The table is somebody else's.
    pub fn update_of(&self, found: &Value) -> Result<Option<(Value, Vec<String>)>, NotOurs> {
        self.check_ours(found)?;
        let mut wanted = self.input();
        if let (Value::Object(parameters), Some(there)) =
            (&mut wanted["Parameters"], found["Parameters"].as_object())
        {
            for (name, value) in there {
                if !name.starts_with("ingot.") || name.starts_with(VIEW) {
                    parameters.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        let changes = changes(&wanted, found);
        for kept in ["Owner", "Retention"] {
            if !found[kept].is_null() {
                wanted[kept] = found[kept].clone();
            }
        }
        Ok((!changes.is_empty()).then_some((wanted, changes)))
    }

    /// A table with Ingot's mark is Ingot's; one at the very place is taken over.
    fn check_ours(&self, found: &Value) -> Result<(), NotOurs> {
        let not_ours = |what: String| NotOurs { name: self.name.clone(), what };
        if found["TableType"] == "VIRTUAL_VIEW" {
            return Err(not_ours("it is a view".to_owned()));
        }
        let location = found["StorageDescriptor"]["Location"].as_str().unwrap_or_default();
        let is_marked = found["Parameters"][TIER].is_string();
        if is_marked || location.trim_end_matches('/') == self.location.trim_end_matches('/') {
            return Ok(());
        }
        Err(not_ours(format!("its data is at {location}")))
    }
}

/// The value of `ingot.view.<name>` in a table's parameters.
pub(super) fn view_mark<'a>(found: &'a Value, view: &str) -> Option<&'a str> {
    found["Parameters"][format!("{VIEW}{view}")].as_str()
}

/// By column, what unit the values of a row have, from references with a column `unit`: `channel` → `temperature` → `Cel`.
pub(super) fn units(contract: &Contract) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut units: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for reference in &contract.references {
        let texts =
            |name: &str| reference.rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (Some(values), Some(named)) = (texts(&reference.on), texts("unit")) else { continue };
        let of_reference = units.entry(reference.on.clone()).or_default();
        for row in (0..values.len()).filter(|row| values.is_valid(*row) && named.is_valid(*row)) {
            of_reference.insert(values.value(row).to_owned(), named.value(row).to_owned());
        }
    }
    units
}

fn described(name: &str, description: &str) -> String {
    match (name.is_empty(), description.is_empty()) {
        (false, false) => format!("{name}: {description}"),
        _ => format!("{name}{description}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn contract(dataset: &str) -> Contract {
        Contract::embedded().into_iter().find(|contract| contract.dataset == dataset).unwrap()
    }

    fn orders() -> Entry {
        let contract = contract("orders");
        let columns = super::super::comment::of_silver(&contract, &crate::silver::schema(&contract));
        Entry::silver(&contract, "silver/orders", "s3://lake/a", columns)
    }

    #[test]
    fn personal_data_and_comments_come_from_the_contract() {
        let input = orders().input();
        assert_eq!(input["Name"], "silver_orders");
        assert_eq!(input["StorageDescriptor"]["Location"], "s3://lake/a/silver/orders/");
        assert_eq!(input["Parameters"]["table_type"], "DELTA");
        assert_eq!(input["Parameters"]["ingot.pii_columns"], "customer_email,phone");
        let columns = input["StorageDescriptor"]["Columns"].as_array().unwrap();
        let email = columns.iter().find(|column| column["Name"] == "customer_email").unwrap();
        assert_eq!(email["Parameters"], json!({"ingot.pii": "true", "ingot.redact": "mask"}));
        let amount = columns.iter().find(|column| column["Name"] == "amount").unwrap();
        assert_eq!(amount["Type"], "decimal(18,2)");
        assert_eq!(amount["Comment"], "Total in the order's currency");
        assert!(columns.iter().all(|column| column["Comment"] != ""), "{columns:#?}");
    }

    #[test]
    fn units_are_those_of_the_contracts_list() {
        let contract = contract("sensor_readings");
        let columns = super::super::comment::of_silver(&contract, &crate::silver::schema(&contract));
        let entry = Entry::silver(&contract, "silver/sensor_readings", "s3://lake", columns);
        assert_eq!(entry.parameters["ingot.unit.channel.temperature"], "Cel");
    }

    #[test]
    fn a_table_that_is_right_is_left() {
        let entry = orders();
        let mut found = entry.input();
        found["VersionId"] = "4".into();
        found["Parameters"]["lakeformation"] = "theirs".into();
        found["Parameters"]["ingot.view.orders_daily"] = "0123".into();
        found["StorageDescriptor"]["NumberOfBuckets"] = 0.into();
        assert_eq!(entry.update_of(&found).unwrap(), None);
    }

    #[test]
    fn changes_are_named_and_what_others_set_stays() {
        let entry = orders();
        let mut found = entry.input();
        found["Parameters"]["theirs"] = "kept".into();
        found["Parameters"]["ingot.old"] = "gone".into();
        found["StorageDescriptor"]["Columns"].as_array_mut().unwrap().remove(1);
        found["StorageDescriptor"]["Columns"][1]["Type"] = "double".into();
        let (input, changes) = entry.update_of(&found).unwrap().unwrap();
        assert_eq!(
            changes,
            ["column status is added", "column amount becomes decimal(18,2)", "the parameters"]
        );
        assert_eq!(input["Parameters"]["theirs"], "kept");
        assert!(input["Parameters"]["ingot.old"].is_null());
    }

    #[test]
    fn somebody_elses_table_is_not_touched() {
        let entry = orders();
        let found = json!({"Name": "silver_orders", "StorageDescriptor": {"Location": "s3://other/orders"}});
        let error = entry.update_of(&found).unwrap_err().to_string();
        assert!(error.contains("its data is at s3://other/orders"), "{error}");
        let view = json!({"Name": "silver_orders", "TableType": "VIRTUAL_VIEW"});
        assert!(entry.update_of(&view).is_err());
        let at_the_place = json!({"StorageDescriptor": {"Location": "s3://lake/a/silver/orders"}});
        assert!(entry.update_of(&at_the_place).unwrap().is_some());
    }
}
