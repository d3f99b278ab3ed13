//! A contract's text as a tree in which every key and value knows its line.
//!
//! Read by the same YAML parser as the contract itself, so the two cannot disagree about what is where.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::problem::Place;

/// A value and where it begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub place: Place,
    pub kind: Kind,
}

/// What stands there.
#[derive(Clone, Debug, Default)]
pub(super) enum Kind {
    /// Nothing, or `null`.
    #[default]
    Null,
    Bool,
    Number,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub value: Node,
}

impl Node {
    /// The place of the path's end, or of as much of the path as there is.
    ///
    /// Steps are joined by dots: a key, a position in a list, or what a list's item is called by
    /// (its `name`, `id` or `property`). A key's own place is the path's end where the key is the last step.
    pub(super) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in path.split('.').filter(|step| !step.is_empty()) {
            let found = match &node.kind {
                Kind::Map(entries) => {
                    entries.iter().find(|entry| entry.key == step).map(|entry| (entry.place, &entry.value))
                }
                Kind::List(items) => {
                    let by_position = step.parse::<usize>().ok().and_then(|position| items.get(position));
                    by_position
                        .or_else(|| items.iter().find(|item| item.is_called(step)))
                        .map(|item| (item.place, item))
                }
                _ => None,
            };
            let Some((found_at, found)) = found else { break };
            place = found_at;
            node = found;
        }
        place
    }

    /// The value under a key of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    fn is_called(&self, name: &str) -> bool {
        ["name", "id", "property"].iter().any(|key| self.get(key).and_then(Self::text) == Some(name))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(yaml: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Kind>::deserialize(yaml)?;
        Ok(Self { place: place(referenced), kind: value })
    }
}

pub(super) fn place(location: Location) -> Place {
    Place { line: location.line(), column: location.column() }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(yaml: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Kind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }

            fn visit_unit<E>(self) -> Result<Kind, E> {
                Ok(Kind::Null)
            }

            fn visit_none<E>(self) -> Result<Kind, E> {
                Ok(Kind::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Kind, E> {
                Ok(Kind::Bool)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Kind, E> {
                Ok(Kind::Number)
            }

            fn visit_i128<E>(self, _: i128) -> Result<Kind, E> {
                Ok(Kind::Number)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Kind, E> {
                Ok(Kind::Number)
            }

            fn visit_u128<E>(self, _: u128) -> Result<Kind, E> {
                Ok(Kind::Number)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Kind, E> {
                Ok(Kind::Number)
            }

            fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
                Ok(Kind::Text(text.to_owned()))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Kind, S::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Kind::List(items))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Kind, M::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let place = place(key.referenced);
                    entries.push(Entry { key: key.value, place, value: map.next_value()? });
                }
                Ok(Kind::Map(entries))
            }
        }

        yaml.deserialize_any(Any)
    }
}
