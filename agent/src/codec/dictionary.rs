//! The values that a coarse sensor keeps coming back to, sorted; a value is then a few steps away
//! from the guess in this list, however wide the steps are.
//!
//! At most [`ENTRIES_MAX`] values; when they are many and seldom met again, it switches itself off
//! for the rest of the frame.

use super::probability::Probability;
use super::range_coder::BitCoder;
use super::residual::Residual;

/// Values kept.
pub(crate) const ENTRIES_MAX: usize = 64;

/// The sorted values of one series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dictionary {
    entries: [i64; ENTRIES_MAX],
    len: u8,
    /// Rises with values that are met again, falls with new ones; at zero the list is off.
    worth: u8,
    known: [Probability; 4],
    /// Whether the last two were known.
    history: u8,
    rank: Residual,
}

/// The worth at the start: so many new values in a row switch the list off.
const WORTH_START: u8 = 48;
/// The highest worth.
const WORTH_MAX: u8 = 192;
/// What a known value adds.
const WORTH_KNOWN: u8 = 3;

impl Dictionary {
    pub(crate) const NEW: Self = Self {
        entries: [0; ENTRIES_MAX],
        len: 0,
        worth: WORTH_START,
        known: [Probability::EVEN; 4],
        history: 0,
        rank: Residual::NEW,
    };

    /// Codes `value` if the list knows it; else `None`, and the caller codes it and calls [`Self::add`].
    #[inline]
    pub(crate) fn code<C: BitCoder>(&mut self, coder: &mut C, value: i64, guess: i64) -> Option<i64> {
        if self.worth == 0 || self.len == 0 {
            return None;
        }
        let entries = &self.entries[..usize::from(self.len)];
        let found = if C::DECODES { Err(0) } else { entries.binary_search(&value) };
        let known = coder.bit(&mut self.known[usize::from(self.history)], found.is_ok());
        self.history = (self.history << 1 | u8::from(known)) & 3;
        if !known {
            self.worth -= 1;
            return None;
        }
        self.worth = (self.worth + WORTH_KNOWN).min(WORTH_MAX);
        let start = nearest(entries, guess);
        let steps = found.unwrap_or(0) as i64 - start as i64;
        let steps = self.rank.code(coder, steps);
        // A damaged body can step outside: stay on the list.
        let index = (start as i64).saturating_add(steps).clamp(0, entries.len() as i64 - 1);
        Some(entries[index as usize])
    }

    /// Adds a value that the list did not know, if there is room.
    #[inline]
    pub(crate) fn add(&mut self, value: i64) {
        let len = usize::from(self.len);
        if self.worth == 0 || len == ENTRIES_MAX {
            return;
        }
        if let Err(place) = self.entries[..len].binary_search(&value) {
            self.entries.copy_within(place..len, place + 1);
            self.entries[place] = value;
            self.len += 1;
        }
    }
}

/// The entry nearest to `guess`, the lower one of two; `entries` is not empty.
#[inline]
fn nearest(entries: &[i64], guess: i64) -> usize {
    let above = entries.partition_point(|entry| *entry < guess);
    if above == 0 {
        return 0;
    }
    if above == entries.len() || guess.abs_diff(entries[above - 1]) <= entries[above].abs_diff(guess) {
        return above - 1;
    }
    above
}
