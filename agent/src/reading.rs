//! The words that every tier speaks: a reading, its quality, and the causes of a counted drop.
//!
//! Readings are unique by `(device, boot, seq)`; a series is a `(device, channel)` pair.

/// One measured value of one channel of one device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Position in the device's own count since its boot, from 0; one count for all its channels.
    pub seq: u64,
    /// When it was measured: milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The value in the channel's unit. Without meaning where `quality` says [`Quality::MISSING`].
    pub value: f64,
    /// What the edge knows against this value.
    pub quality: Quality,
}

/// Bit flags that the edge raises on a reading; a flagged reading is kept, never altered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality(pub u8);

impl Quality {
    /// Nothing is known against it.
    pub const GOOD: Self = Self(0);
    /// Outside the channel's range.
    pub const OUT_OF_RANGE: Self = Self(1);
    /// Further from the series' last value than the channel's largest step.
    pub const STEP: Self = Self(1 << 1);
    /// The sensor gave no value: a gap in the record, not a number.
    pub const MISSING: Self = Self(1 << 2);
    /// Taken before the clock was set: `at_ms` counts from an unknown origin.
    pub const CLOCK_UNSET: Self = Self(1 << 3);
    /// Taken before the clock was set, re-stamped when it was.
    pub const RESTAMPED: Self = Self(1 << 4);
    /// In a batch only: `at_ms` counts from the boot of the device that seals. The decoder gives
    /// [`Self::RESTAMPED`] where the frame's header dates it, else [`Self::CLOCK_UNSET`].
    pub const FROM_BOOT: Self = Self(Self::CLOCK_UNSET.0 | Self::RESTAMPED.0);

    /// Whether every flag of `other` is raised.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Both sets of flags.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Why a reading was given up on the edge; every one is counted and reported in a frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Drop {
    /// Out of range on a channel whose policy is to drop.
    Range = 0,
    /// The source's text or bytes were not a reading.
    Malformed = 1,
    /// The spool was at its cap.
    SpoolFull = 2,
    /// The channel's name or device's name cannot be carried.
    BadName = 3,
}

impl Drop {
    /// Every cause, in code order.
    pub const ALL: [Self; 4] = [Self::Range, Self::Malformed, Self::SpoolFull, Self::BadName];

    /// The cause's name in metrics, ledger and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::Malformed => "malformed",
            Self::SpoolFull => "spool_full",
            Self::BadName => "bad_name",
        }
    }
}
