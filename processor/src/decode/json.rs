//! A JSON object's fields as the text of their values: nothing is built that a column does not need.
//!
//! The text is checked to be JSON as a whole, nested values included, without recursion.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Fault, Field, UnknownFields, place};
use crate::contract::Column;

/// Reads objects of one dataset. Its rows mostly have the same fields in the same order, so where a
/// name stood last time is looked at first.
pub(super) struct FieldReader<'c> {
    columns: &'c [Column],
    /// The column of each field of the last row.
    order: Vec<usize>,
}

/// Reads one object into `fields`, one per column.
struct Row<'r, 'a, 'c> {
    reader: &'r mut FieldReader<'c>,
    fields: &'r mut Vec<Field<'a>>,
    unknown: &'r mut UnknownFields,
    duplicate: &'r mut bool,
}

/// Finds a name's column; `None` if the contract does not have it.
struct Name<'r, 'c> {
    reader: &'r mut FieldReader<'c>,
    unknown: &'r mut UnknownFields,
    position: usize,
}

impl<'c> FieldReader<'c> {
    pub(super) fn new(columns: &'c [Column]) -> Self {
        Self { columns, order: Vec::with_capacity(columns.len()) }
    }

    /// The object's fields by column, or why there are none.
    pub(super) fn read<'a>(
        &mut self,
        text: &'a str,
        fields: &mut Vec<Field<'a>>,
        unknown: &mut UnknownFields,
    ) -> Result<(), Fault> {
        fields.clear();
        fields.resize(self.columns.len(), Field::Missing);
        let mut duplicate = false;
        let row = Row { reader: self, fields, unknown, duplicate: &mut duplicate };
        let mut json = serde_json::Deserializer::from_str(text);
        match row.deserialize(&mut json).and_then(|()| json.end()) {
            Ok(()) if duplicate => Err(Fault::DuplicateKey),
            Ok(()) => Ok(()),
            Err(_) if serde_json::from_str::<IgnoredAny>(text).is_ok() => Err(Fault::NotAnObject),
            Err(_) => Err(Fault::MalformedJson),
        }
    }
}

impl<'a> DeserializeSeed<'a> for Row<'_, 'a, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Row<'_, 'a, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let mut seen: u128 = 0;
        let mut position = 0;
        while let Some(column) =
            map.next_key_seed(Name { reader: &mut *self.reader, unknown: &mut *self.unknown, position })?
        {
            let value: &'a RawValue = map.next_value()?;
            if let Some(column) = column {
                // A contract has at most 128 columns.
                let bit = 1_u128.checked_shl(column as u32).unwrap_or_default();
                *self.duplicate |= seen & bit != 0;
                seen |= bit;
                let value = value.get();
                self.fields[column] = if value == "null" { Field::Missing } else { Field::Json(value) };
            }
            position += 1;
        }
        Ok(())
    }
}

impl<'a> DeserializeSeed<'a> for Name<'_, '_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<Option<usize>, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_, '_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        let FieldReader { columns, order } = self.reader;
        if let Some(&last) = order.get(self.position)
            && columns.get(last).is_some_and(|column| column.name == name)
        {
            return Ok(Some(last));
        }
        let Some(column) = place(columns, name) else {
            self.unknown.count(name, 1);
            return Ok(None);
        };
        if self.position < columns.len() {
            order.resize(order.len().max(self.position + 1), usize::MAX);
            order[self.position] = column;
        }
        Ok(Some(column))
    }
}

/// An object's fields in the order of its text, or `None` if it is not one.
pub(crate) fn pairs(text: &str) -> Option<Vec<(String, &RawValue)>> {
    struct Pairs;

    impl<'a> Visitor<'a> for Pairs {
        type Value = Vec<(String, &'a RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry::<String, &'a RawValue>()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }

    let mut json = serde_json::Deserializer::from_str(text);
    let pairs = json.deserialize_map(Pairs).ok()?;
    json.end().ok()?;
    Some(pairs)
}
