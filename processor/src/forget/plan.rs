//! What goes: the objects that hold rows of the subject, and the places of these rows in them.
//!
//! The plan is stored under the subject's hash until all is done. It holds keys, places and counts, no value. The same
//! command again searches again ([`super::search`]) and joins what it finds to the stored plan, so that what came meanwhile
//! goes too, and the receipt is of all runs.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ForgetError;
use super::receipt::Erased;
use crate::lake::Lake;

/// Where plans are, below the lake.
const DIR: &str = "forgetting";

/// What goes, by dataset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Plan {
    /// When it was made: milliseconds since 1970-01-01 UTC.
    pub made_ms: i64,
    pub datasets: BTreeMap<String, Dataset>,
}

/// What goes of one dataset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Dataset {
    pub objects: Vec<Object>,
    /// By object that was read, rows of others that have the value in their text.
    #[serde(default)]
    pub mentions: BTreeMap<String, u64>,
}

/// An object that holds, or held, rows of the subject.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Object {
    pub key: String,
    pub etag: String,
    /// Whether bronze has it in this state.
    pub in_bronze: bool,
    pub places: Places,
    /// Of these, the rows of silver, or of versions.
    pub silver: Places,
    /// Of these, the rows of discard that are not known as forgotten yet.
    pub discard: Places,
    /// Of these, the rows that neither has any more: retention let them go, and they stay counted as that.
    pub expired: Places,
}

impl Object {
    /// The places at which the books have a row.
    pub(super) fn in_books(&self) -> BTreeSet<i64> {
        &self.places.all() - &self.expired.all()
    }

    fn and(&mut self, other: &Self) {
        let both = |one: &Places, other: &Places| (&one.all() | &other.all()).into_iter().collect();
        self.in_bronze |= other.in_bronze;
        // A row that was erased from one table and not written to the other yet only looks as if it had expired.
        self.expired = (&(&self.expired.all() - &other.in_books())
            | &(&other.expired.all() - &self.in_books()))
            .into_iter()
            .collect();
        self.places = both(&self.places, &other.places);
        self.silver = both(&self.silver, &other.silver);
        self.discard = both(&self.discard, &other.discard);
    }
}

/// Places in an object, as runs: the first one and how many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Places(Vec<(i64, i64)>);

impl Places {
    pub(super) fn all(&self) -> BTreeSet<i64> {
        self.0.iter().flat_map(|(first, count)| *first..first + count).collect()
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count.unsigned_abs()).sum()
    }
}

impl FromIterator<i64> for Places {
    fn from_iter<I: IntoIterator<Item = i64>>(places: I) -> Self {
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for place in places {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == place => *count += 1,
                _ => runs.push((place, 1)),
            }
        }
        Self(runs)
    }
}

impl Dataset {
    pub(super) fn erased(&self) -> Erased {
        let sum = |rows: fn(&Object) -> u64| self.objects.iter().map(rows).sum();
        Erased {
            bronze_objects: sum(|object| u64::from(object.in_bronze)),
            bronze_rows: sum(|object| if object.in_bronze { object.places.count() } else { 0 }),
            silver_rows: sum(|object| object.silver.count()),
            discard_rows: sum(|object| object.discard.count()),
            mentions: self.mentions.values().sum(),
        }
    }

    fn and(&mut self, other: &Self) {
        let mut objects: BTreeMap<(String, String), Object> = BTreeMap::new();
        for object in self.objects.drain(..).chain(other.objects.iter().cloned()) {
            match objects.entry((object.key.clone(), object.etag.clone())) {
                Entry::Occupied(known) => known.into_mut().and(&object),
                Entry::Vacant(new) => drop(new.insert(object)),
            }
        }
        self.objects = objects.into_values().collect();
        for (key, rows) in &other.mentions {
            let known = self.mentions.entry(key.clone()).or_default();
            *known = (*known).max(*rows);
        }
    }
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.objects() == 0
    }

    pub(super) fn objects(&self) -> u64 {
        self.datasets.values().map(|dataset| dataset.objects.len() as u64).sum()
    }

    /// Joins it to the stored one, if there is one, and stores what both say.
    pub(super) async fn stored(self, lake: &Lake, mark: &str) -> Result<Self, ForgetError> {
        loop {
            let (mut plan, version) = match lake.newest_document(&dir(mark)).await? {
                Some((version, bytes)) => {
                    let mut known: Self = serde_json::from_slice(&bytes).map_err(ForgetError::Plan)?;
                    known.and(&self);
                    (known, version + 1)
                }
                None => (self.clone(), 0),
            };
            plan.made_ms = plan.made_ms.min(self.made_ms);
            let bytes = serde_json::to_vec(&plan).map_err(ForgetError::Plan)?;
            // Another run of the same command may have been faster: what it found is joined.
            if lake.put_document(&dir(mark), version, bytes).await? {
                return Ok(plan);
            }
        }
    }

    fn and(&mut self, other: &Self) {
        for (name, dataset) in &other.datasets {
            self.datasets.entry(name.clone()).or_default().and(dataset);
        }
    }

    /// All of it is done.
    pub(super) async fn finish(lake: &Lake, mark: &str) -> Result<(), ForgetError> {
        Ok(lake.drop_documents(&dir(mark), true).await?)
    }
}

fn dir(mark: &str) -> String {
    format!("{DIR}/{mark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(etag: &str, places: &[i64], silver: &[i64], expired: &[i64]) -> Object {
        let some = |places: &[i64]| places.iter().copied().collect();
        let (places, silver, expired) = (some(places), some(silver), some(expired));
        Object { etag: etag.into(), in_bronze: true, places, silver, expired, ..Object::default() }
    }

    #[test]
    fn joined_plans_count_each_row_once_and_only_what_both_miss_has_expired() {
        let mut plan =
            Dataset { objects: vec![object("a", &[1, 2, 5], &[1, 2], &[5])], ..Dataset::default() };
        // A run erased row 1 and was cut; row 7 came, and another state of the object.
        let now = [object("a", &[1, 2, 5, 7], &[2, 7], &[1, 5]), object("b", &[0], &[0], &[])];
        plan.and(&Dataset { objects: now.into(), ..Dataset::default() });
        assert_eq!(plan.objects[0].in_books(), BTreeSet::from([1, 2, 7]));
        let erased = plan.erased();
        assert_eq!((erased.bronze_objects, erased.bronze_rows, erased.silver_rows), (2, 5, 4));
        let before = plan.erased();
        plan.and(&plan.clone());
        assert_eq!(plan.erased(), before);
    }
}
