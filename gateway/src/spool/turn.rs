//! Whose turn it is when both spools have frames: priority first, and a part that is left to the others.
//!
//! Priority frames go first, whatever waits. So that a flood of them does not starve the others for ever,
//! ordinary frames keep [`ORDINARY_SHARE_PERCENT`] of the bytes while both wait, measured by credit: each
//! priority frame adds to it, and when it is worth the longest frame, one ordinary frame goes. What one
//! class does not use the other takes.

use super::segment::FRAME_BYTES_MAX;

/// Part of the bytes sent that ordinary frames get while priority frames wait too, in percent. One of them
/// goes for at most 1.2 MB of priority frames.
pub const ORDINARY_SHARE_PERCENT: u64 = 10;

/// What the longest ordinary frame costs.
const CREDIT_WANTED: u64 = FRAME_BYTES_MAX as u64 * (100 - ORDINARY_SHARE_PERCENT);

/// What the longest priority frame brings is kept, and no more, so that no burst goes ahead.
const CREDIT_MAX: u64 = CREDIT_WANTED + FRAME_BYTES_MAX as u64 * ORDINARY_SHARE_PERCENT;

/// How a frame is treated at the cap and in the order of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Sent first, given up last.
    Priority,
    /// Everything else.
    Ordinary,
}

impl Class {
    /// Both, the one to be sent first in front.
    pub const BOTH: [Self; 2] = [Self::Priority, Self::Ordinary];
}

/// The account of shares.
#[derive(Default)]
pub(super) struct Turn {
    /// Bytes that ordinary frames may send before priority frames, times 100.
    credit: u64,
}

impl Turn {
    /// The classes, the one to be served first in front.
    pub fn order(&self) -> [Class; 2] {
        if self.credit < CREDIT_WANTED {
            [Class::Priority, Class::Ordinary]
        } else {
            [Class::Ordinary, Class::Priority]
        }
    }

    /// A frame of the class was taken.
    pub fn carried(&mut self, class: Class, bytes: usize) {
        let bytes = bytes as u64;
        self.credit = match class {
            Class::Priority => (self.credit + bytes * ORDINARY_SHARE_PERCENT).min(CREDIT_MAX),
            Class::Ordinary => self.credit.saturating_sub(bytes * (100 - ORDINARY_SHARE_PERCENT)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes frames while both classes have some; ordinary bytes, and all.
    fn flood(turn: &mut Turn, frames: usize, priority_bytes: usize, ordinary_bytes: usize) -> (usize, usize) {
        let (mut ordinary, mut all) = (0, 0);
        for _ in 0..frames {
            let class = turn.order()[0];
            let bytes = if class == Class::Priority { priority_bytes } else { ordinary_bytes };
            turn.carried(class, bytes);
            ordinary += if class == Class::Ordinary { bytes } else { 0 };
            all += bytes;
        }
        (ordinary, all)
    }

    #[test]
    fn in_a_flood_the_others_keep_their_share_whatever_the_sizes() {
        for (priority, ordinary) in
            [(50_000, 50_000), (500, 50_000), (50_000, 500), (FRAME_BYTES_MAX, FRAME_BYTES_MAX)]
        {
            let mut turn = Turn::default();
            flood(&mut turn, 10_000, priority, ordinary);
            let (ordinary, all) = flood(&mut turn, 100_000, priority, ordinary);
            let percent = ordinary as f64 * 100.0 / all as f64;
            assert!((percent - ORDINARY_SHARE_PERCENT as f64).abs() < 0.5, "{percent}");
        }
    }

    #[test]
    fn priority_goes_first_and_a_long_flood_saves_up_a_frame_for_the_others() {
        let mut turn = Turn::default();
        turn.carried(Class::Ordinary, FRAME_BYTES_MAX);
        assert_eq!(
            turn.order()[0],
            Class::Priority,
            "what was sent while nothing else waited is not held against it"
        );
        for _ in 0..1_000 {
            turn.carried(Class::Priority, FRAME_BYTES_MAX);
        }
        assert_eq!(turn.order()[0], Class::Ordinary);
        turn.carried(Class::Ordinary, FRAME_BYTES_MAX / 5);
        assert_eq!(turn.order()[0], Class::Priority);
    }
}
