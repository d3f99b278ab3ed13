//! Every key of a contract held against what may stand there; a misspelt key is told what it may have meant.

use super::keys::Want::{Any, Bool, Custom, Instead, List, Number, One, Text};
use super::keys::{CONTRACT, CUSTOM, Keys, Known, Want};
use super::outline::{Entry, Kind, Node};
use super::problem::Problems;

/// How many letters a misspelt key may be away from the one that was meant.
const TYPING_ERRORS_MAX: usize = 2;

/// Notes every key that is unknown, missing, or has the wrong kind of value under it; whether there were
/// keys at all.
pub(super) fn check(problems: &mut Problems) -> bool {
    let outline = problems.outline().clone();
    object(&outline, &CONTRACT, problems);
    matches!(outline.kind, Kind::Map(_))
}

fn object(node: &Node, keys: &'static Keys, problems: &mut Problems) {
    let Kind::Map(entries) = &node.kind else {
        problems.at_place(node.place).push(format!(
            "{} is keys and values; it must have {}",
            keys.what,
            keys.required.join(", ")
        ));
        return;
    };
    for entry in entries {
        problems.at_place(entry.place);
        match keys.known.iter().find(|(key, _)| *key == entry.key) {
            Some((_, want)) => value(entry, *want, problems),
            None => problems.push(unknown(&entry.key, keys)),
        }
    }
    for key in keys.required.iter().filter(|key| entries.iter().all(|entry| entry.key != **key)) {
        problems.at_place(node.place).push(format!("{} must have the key {key}", keys.what));
    }
}

fn value(entry: &Entry, want: Want, problems: &mut Problems) {
    let (key, node) = (&entry.key, &entry.value);
    let wanted = match (want, &node.kind) {
        (Any, _) | (Text, Kind::Text(_)) | (Bool, Kind::Bool) | (Number, Kind::Number) => return,
        (One(keys), Kind::Map(_)) => return object(node, keys, problems),
        (List(keys), Kind::List(items)) => {
            return items.iter().for_each(|item| object(item, keys, problems));
        }
        (Custom(known), Kind::List(items)) => {
            return items.iter().for_each(|item| custom(item, known, problems));
        }
        (Instead(instead), _) => {
            return problems.push(format!("Ingot does not run {key}; {instead}"));
        }
        (Text, _) => "text; put it in quotes if it looks like something else",
        (Bool, _) => "true or false",
        (Number, _) => "a number",
        (One(_), _) => "keys and values",
        (List(_) | Custom(_), _) => "a list",
    };
    problems.at_place(node.place).push(format!("{key} must be {wanted}"));
}

/// A custom property's value is judged if Ingot reads it; its name may be anything that is not a misspelling.
fn custom(node: &Node, known: &'static [Known], problems: &mut Problems) {
    object(node, &CUSTOM, problems);
    let Kind::Map(entries) = &node.kind else { return };
    let (Some(name), Some(entry)) =
        (node.get("property").and_then(Node::text), entries.iter().find(|entry| entry.key == "value"))
    else {
        return;
    };
    match known.iter().find(|(known, _)| *known == name) {
        Some((_, want)) => {
            let named = Entry { key: name.to_owned(), place: entry.place, value: entry.value.clone() };
            value(&named, *want, problems);
        }
        None => {
            if let Some(meant) = nearest(name, known) {
                problems.at_place(node.place).push(format!("property {name}: did you mean {meant}?"));
            }
        }
    }
}

fn unknown(key: &str, keys: &Keys) -> String {
    match nearest(key, keys.known) {
        Some(meant) => format!("{key} is no key of {}; did you mean {meant}?", keys.what),
        None => {
            let known: Vec<&str> = keys.known.iter().map(|(known, _)| *known).collect();
            format!("{key} is no key of {}; it may have {}", keys.what, known.join(", "))
        }
    }
}

fn nearest(key: &str, known: &'static [Known]) -> Option<&'static str> {
    let distance = |known: &str| strsim::damerau_levenshtein(&key.to_lowercase(), &known.to_lowercase());
    known
        .iter()
        .map(|(known, _)| (distance(known), *known))
        .min()
        .filter(|(distance, known)| *distance <= TYPING_ERRORS_MAX && *distance < known.len() / 2)
        .map(|(_, known)| known)
}
