//! A reference: a small list in a contract that checks join by one of the row's columns.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Field, Schema};
use serde_json::{Map, Value};

/// A list whose column `on` names each of its rows; a row of the dataset sees the one of its own value.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The name before the dot in a check: `channels` in `channels.value_min`.
    pub name: String,
    /// The string column, here and in the dataset, that joins them.
    pub on: String,
    /// The list.
    pub rows: RecordBatch,
    /// Row by value of `on`.
    pub(crate) places: HashMap<String, u32>,
}

impl Reference {
    /// Types each column by its values: all whole numbers, all numbers, all text, or all true/false.
    pub(super) fn build(name: String, on: String, rows: &[Map<String, Value>]) -> Result<Self, String> {
        let mut places = HashMap::new();
        for (place, row) in (0u32..).zip(rows) {
            let value = row.get(&on).and_then(Value::as_str);
            let value = value.ok_or_else(|| format!("row {} has no text in {on}", place + 1))?;
            if places.insert(value.to_string(), place).is_some() {
                return Err(format!("{on} {value} is there twice"));
            }
        }
        let names: BTreeSet<&String> = rows.iter().flat_map(Map::keys).collect();
        if names.is_empty() {
            return Err("it has no rows".into());
        }
        let mut fields = Vec::new();
        let mut arrays = Vec::new();
        for column in names {
            let values: Vec<&Value> =
                rows.iter().map(|row| row.get(column).unwrap_or(&Value::Null)).collect();
            let array = array(&values).ok_or_else(|| format!("column {column} mixes types"))?;
            fields.push(Field::new(column, array.data_type().clone(), true));
            arrays.push(array);
        }
        let rows =
            RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|error| error.to_string())?;
        Ok(Self { name, on, rows, places })
    }
}

fn array(values: &[&Value]) -> Option<ArrayRef> {
    let all = |fits: fn(&Value) -> bool| values.iter().all(|value| value.is_null() || fits(value));
    if all(Value::is_i64) {
        Some(Arc::new(values.iter().map(|value| value.as_i64()).collect::<Int64Array>()))
    } else if all(Value::is_number) {
        Some(Arc::new(values.iter().map(|value| value.as_f64()).collect::<Float64Array>()))
    } else if all(Value::is_string) {
        Some(Arc::new(values.iter().map(|value| value.as_str()).collect::<StringArray>()))
    } else if all(Value::is_boolean) {
        Some(Arc::new(values.iter().map(|value| value.as_bool()).collect::<BooleanArray>()))
    } else {
        None
    }
}
