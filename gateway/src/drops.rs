//! Readings that the edge gave up, counted by cause.

use ingot_agent::Drop;
use serde::{Serialize, Serializer, ser::SerializeMap};

/// Readings given up, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; Drop::ALL.len()]);

impl Drops {
    /// Counts `readings` more.
    pub fn add(&mut self, cause: Drop, readings: u64) {
        let sum = &mut self.0[cause as usize];
        *sum = sum.saturating_add(readings); // a node's frame may claim any number
    }

    /// Counts what another count holds.
    pub fn add_all(&mut self, other: Self) {
        for cause in Drop::ALL {
            self.add(cause, other.get(cause));
        }
    }

    /// Readings given up for this cause.
    pub fn get(&self, cause: Drop) -> u64 {
        self.0[cause as usize]
    }

    /// Readings given up for any cause.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, readings| sum.saturating_add(*readings))
    }
}

impl Serialize for Drops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for cause in Drop::ALL {
            map.serialize_entry(cause.name(), &self.get(cause))?;
        }
        map.end()
    }
}
