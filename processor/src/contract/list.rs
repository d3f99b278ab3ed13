//! A reference list from a CSV file: the header names its columns, an empty field is null. A column is of
//! whole numbers, numbers, or true and false if all its fields are; else of text, as the one that joins.

use csv::{Position, ReaderBuilder, StringRecord};
use serde_json::{Map, Number, Value};

/// Most rows of a list.
const ROWS_MAX: usize = 100_000;
/// Problems that are told of one file; the rest is counted.
const PROBLEMS_MAX: usize = 10;

/// The rows of the CSV `file`, as if they stood in the contract; `on` stays text.
pub(super) fn csv_rows(file: &str, bytes: &[u8], on: &str) -> Result<Vec<Map<String, Value>>, Vec<String>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(bytes);
    let at = |position: Option<&Position>| format!("{file}:{}", position.map_or(1, Position::line));
    let header = reader.headers().cloned().map_err(|error| vec![format!("{file}:1: {error}")])?;
    let names: Vec<&str> = header.iter().map(str::trim).collect();
    if !names.contains(&on) {
        return Err(vec![format!("{file}:1: the header has no column {on}")]);
    }
    if let Some(twice) = (1..names.len()).find(|place| names[..*place].contains(&names[*place])) {
        return Err(vec![format!("{file}:1: the header has {:?} twice", names[twice])]);
    }

    let mut records = Vec::new();
    let mut problems = Vec::new();
    let mut keys = std::collections::HashMap::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                problems.push(format!("{}: it is not UTF-8", at(error.position())));
                continue;
            }
        };
        let here = at(record.position());
        if record.len() != names.len() {
            problems.push(format!("{here}: {} fields, the header has {}", record.len(), names.len()));
            continue;
        }
        let key = names.iter().zip(&record).find(|(name, _)| **name == on).map_or("", |(_, key)| key);
        if key.is_empty() {
            problems.push(format!("{here}: {on} is empty"));
        } else if let Some(first) = keys.insert(key.to_owned(), here.clone()) {
            problems.push(format!("{here}: {on} {key} is there already, at {first}"));
        }
        if records.len() == ROWS_MAX {
            problems.push(format!("{here}: more than {ROWS_MAX} rows; a reference is a small list"));
            break;
        }
        records.push(record);
    }
    if problems.len() > PROBLEMS_MAX {
        let more = problems.len() - PROBLEMS_MAX;
        problems.truncate(PROBLEMS_MAX);
        problems.push(format!("{file}: and {more} more"));
    }
    if problems.is_empty() { Ok(typed(&names, on, &records)) } else { Err(problems) }
}

fn typed(names: &[&str], on: &str, records: &[StringRecord]) -> Vec<Map<String, Value>> {
    let mut rows = vec![Map::new(); records.len()];
    for (place, name) in names.iter().enumerate() {
        let fields: Vec<&str> = records.iter().map(|record| record.get(place).unwrap_or_default()).collect();
        let readings: [fn(&str) -> Option<Value>; 3] = [
            |field| field.parse::<i64>().ok().map(Value::from),
            |field| field.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number),
            |field| field.parse::<bool>().ok().map(Value::Bool),
        ];
        let reading = readings.into_iter().find(|reading| {
            *name != on && fields.iter().all(|field| field.is_empty() || reading(field).is_some())
        });
        for (row, field) in rows.iter_mut().zip(fields) {
            let value = match reading {
                _ if field.is_empty() => Value::Null,
                Some(reading) => reading(field).unwrap_or_default(),
                None => Value::from(field),
            };
            row.insert((*name).to_owned(), value);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn columns_get_the_types_of_their_fields() {
        let rows =
            csv_rows("c.csv", b"\xef\xbb\xbfid,n,x,ok,t\n7,1,1,true,a\n8,,1.5,false,\"b,\nc\"\n", "id");
        let rows: Vec<String> = rows.unwrap().into_iter().map(|row| Value::from(row).to_string()).collect();
        assert_eq!(
            rows,
            [
                r#"{"id":"7","n":1,"ok":true,"t":"a","x":1.0}"#,
                r#"{"id":"8","n":null,"ok":false,"t":"b,\nc","x":1.5}"#
            ]
        );
    }

    #[test]
    fn every_bad_line_is_told_by_its_number() {
        let text = b"id,n\na,1\nb\n,2\na,3\n\xff,4\n";
        assert_eq!(
            csv_rows("c.csv", text, "id").unwrap_err(),
            [
                "c.csv:3: 1 fields, the header has 2",
                "c.csv:4: id is empty",
                "c.csv:5: id a is there already, at c.csv:2",
                "c.csv:6: it is not UTF-8"
            ]
        );
        assert_eq!(csv_rows("c.csv", b"x,n\n", "id").unwrap_err(), ["c.csv:1: the header has no column id"]);
        assert_eq!(
            csv_rows("c.csv", b"id,id\n", "id").unwrap_err(),
            ["c.csv:1: the header has \"id\" twice"]
        );
    }
}
