//! One column of the catalog: its type in Hive's words, its comment, and the marks of units and personal data.

use datafusion::arrow::datatypes::DataType;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Glue's limit of a comment.
const COMMENT_CHARS_MAX: usize = 255;

/// A column as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type in Hive's words.
    pub hive_type: String,
    /// For people.
    pub comment: String,
    /// The unit of its values.
    pub unit: Option<String>,
    /// Whether it holds, or is made of, personal data.
    pub personal: bool,
    /// What became of the personal data: `mask`, `drop`, `pseudonym` or `scan`.
    pub redact: Option<&'static str>,
}

impl Column {
    pub(super) fn plain(name: &str, hive_type: String, comment: &str) -> Self {
        let (name, comment) = (name.to_owned(), comment.to_owned());
        Self { name, hive_type, comment, unit: None, personal: false, redact: None }
    }

    /// As Glue has it.
    pub(super) fn json(&self) -> Value {
        let comment = match &self.unit {
            Some(unit) => format!("{} [{unit}]", self.comment),
            None => self.comment.clone(),
        };
        let mut parameters = Map::new();
        if let Some(unit) = &self.unit {
            parameters.insert("ingot.unit".to_owned(), unit.as_str().into());
        }
        if self.personal {
            parameters.insert("ingot.pii".to_owned(), "true".into());
        }
        if let Some(redact) = self.redact {
            parameters.insert("ingot.redact".to_owned(), redact.into());
        }
        json!({
            "Name": self.name.to_lowercase(),
            "Type": self.hive_type,
            "Comment": one_line(&comment, COMMENT_CHARS_MAX),
            "Parameters": parameters,
        })
    }
}

/// A type in Hive's words, as Glue and Athena know them.
pub(super) fn hive_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "tinyint".to_owned(),
        DataType::Int16 => "smallint".to_owned(),
        DataType::Int32 => "int".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".to_owned(),
        DataType::List(item) | DataType::LargeList(item) => format!("array<{}>", hive_type(item.data_type())),
        // All that Delta has besides is text.
        _ => "string".to_owned(),
    }
}

/// Glue takes one line of bounded length.
pub(super) fn one_line(text: &str, chars_max: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(plain).take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_broken_texts_are_cut_to_what_glue_takes() {
        assert_eq!(one_line(" a\nb ", 255), "a b");
        assert_eq!(one_line(&"ä".repeat(300), COMMENT_CHARS_MAX).chars().count(), COMMENT_CHARS_MAX);
    }
}
