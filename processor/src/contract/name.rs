//! Names in a contract: they become paths, SQL identifiers and ids of rules.

use std::collections::BTreeSet;

use super::problem::Problems;

/// A name is 1 to 64 of `[A-Za-z0-9_]`, no digit first.
pub(super) fn check_name(what: &str, name: &str, problems: &mut Problems) {
    // That the key is missing is told already.
    if name.is_empty() {
        return;
    }
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit();
    if !fits {
        problems.push(format!("{what}: {name:?} is not 1 to 64 of A-Z a-z 0-9 _ with a letter first"));
    }
}

/// No name is there twice; `list` is where they stand.
pub(super) fn check_unique<'a>(
    what: &str,
    list: &str,
    names: impl Iterator<Item = &'a String>,
    problems: &mut Problems,
) {
    let mut seen = BTreeSet::new();
    for (position, name) in names.enumerate() {
        if !seen.insert(name) {
            problems.at(format!("{list}.{position}")).push(format!("{what} {name} is there twice"));
        }
    }
}
