//! What of a table in the catalog is not as it should be, in words. Glue's JSON on both sides.

use serde_json::Value;

/// In words, what of `wanted` is not so in `found`.
pub(super) fn changes(wanted: &Value, found: &Value) -> Vec<String> {
    let mut changes = Vec::new();
    let columns = |table: &Value| -> Vec<Value> {
        table["StorageDescriptor"]["Columns"].as_array().cloned().unwrap_or_default()
    };
    let (ours, theirs) = (columns(wanted), columns(found));
    for column in &ours {
        let name = column["Name"].as_str().unwrap_or_default();
        match theirs.iter().find(|there| there["Name"] == column["Name"]) {
            None => changes.push(format!("column {name} is added")),
            Some(there) if there["Type"] != column["Type"] => {
                changes.push(format!("column {name} becomes {}", column["Type"].as_str().unwrap_or_default()))
            }
            Some(there) if !same(&there["Comment"], &column["Comment"]) => {
                changes.push(format!("the comment of {name}"));
            }
            Some(there) if !same(&there["Parameters"], &column["Parameters"]) => {
                changes.push(format!("the marks of {name}"));
            }
            Some(_) => {}
        }
    }
    let gone = theirs.iter().filter(|there| !ours.iter().any(|column| column["Name"] == there["Name"]));
    changes
        .extend(gone.map(|there| format!("column {} is gone", there["Name"].as_str().unwrap_or_default())));
    let order = |columns: &[Value]| columns.iter().map(|column| column["Name"].clone()).collect::<Vec<_>>();
    if changes.is_empty() && order(&ours) != order(&theirs) {
        changes.push("the order of columns".to_owned());
    }
    for (what, path) in [
        ("the description", "/Description"),
        ("the kind of table", "/TableType"),
        ("the parameters", "/Parameters"),
        ("the partition keys", "/PartitionKeys"),
        ("the location", "/StorageDescriptor/Location"),
        ("the format", "/StorageDescriptor/InputFormat"),
        ("the format", "/StorageDescriptor/OutputFormat"),
        ("the format", "/StorageDescriptor/SerdeInfo/SerializationLibrary"),
        ("the format", "/StorageDescriptor/SerdeInfo/Parameters"),
    ] {
        let at = |table: &Value| table.pointer(path).cloned().unwrap_or(Value::Null);
        if !same(&at(wanted), &at(found)) && changes.last().is_none_or(|last| last != what) {
            changes.push(what.to_owned());
        }
    }
    changes
}

/// Equal, where nothing is as good as empty.
fn same(one: &Value, other: &Value) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    one == other || (is_empty(one) && is_empty(other))
}
