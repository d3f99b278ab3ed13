//! What the table knows of a device and of a series: names for good, learned odds for one frame.

use super::name::Name;
use super::probability::Probability;
use super::residual::Residual;
use super::scale::{self, Form};
use super::time::{Clock, Rhythm};
use super::value::Values;

/// No series.
pub(crate) const NONE: u16 = u16::MAX;

/// What a value that does not fit the decimals adds to a series' balance; one that fits takes 1.
const MISFIT: u8 = 8;
/// The balance at which the series is given more decimals: rare misfits are cheaper to bear.
const MISFITS_MAX: u8 = 64;
/// The balance of a new series, and the highest: its first misfits count at once.
const MISFITS_START: u8 = 80;

/// A device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    pub(crate) name: Name,
    pub(crate) boot: u64,
    pub(crate) clock: Clock,
    /// Its number in this frame, or [`NONE`] until it is declared there.
    pub(crate) frame_id: u16,
    /// The `seq` after its last one in this frame.
    pub(crate) seq_next: u64,
}

impl Device {
    pub(crate) const NEW: Self =
        Self { name: Name::EMPTY, boot: 0, clock: Clock::NEW, frame_id: NONE, seq_next: 0 };

    /// Forgets what one frame taught.
    pub(crate) fn forget(&mut self) {
        self.frame_id = NONE;
        self.seq_next = 0;
        self.clock.forget();
    }
}

/// A series: one channel of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series {
    pub(crate) channel: Name,
    pub(crate) device: u16,
    /// Decimals of its scaled values; kept over seals.
    pub(crate) decimals: u8,
    /// Balance of values that did not fit the decimals; kept over seals, only the encoder counts.
    pub(crate) misfits: u8,
    /// Its number in this frame, or [`NONE`] until it is declared there.
    pub(crate) frame_id: u16,
    /// The series whose reading followed this one's last time.
    pub(crate) successor: u16,
    pub(crate) quality: u8,
    /// Odds that the next reading, expected of this series, is in no way special.
    pub(crate) is_usual: Probability,
    pub(crate) is_exact: Probability,
    pub(crate) rhythm: Rhythm,
    pub(crate) values: Values,
}

impl Series {
    pub(crate) const NEW: Self = Self {
        channel: Name::EMPTY,
        device: 0,
        decimals: 0,
        misfits: MISFITS_START,
        frame_id: NONE,
        successor: NONE,
        quality: 0,
        is_usual: Probability::EVEN,
        is_exact: Probability::EVEN,
        rhythm: Rhythm::NEW,
        values: Values::NEW,
    };

    /// Forgets what the frame before taught, and takes its number in this one.
    pub(crate) fn declare(&mut self, frame_id: u16) {
        self.frame_id = frame_id;
        self.successor = NONE;
        self.quality = 0;
        self.is_usual = Probability::EVEN;
        self.is_exact = Probability::EVEN;
        self.rhythm = Rhythm::NEW;
        self.values = Values::NEW;
    }

    /// The encoder's choice of how to write `value`, and of more decimals first where they pay.
    #[inline]
    pub(crate) fn form(&mut self, value: f64) -> (Form, Option<u8>) {
        let form = scale::form(value, self.decimals);
        if scale::is_close(form) {
            self.misfits = self.misfits.saturating_sub(1);
            return (form, None);
        }
        let Some(decimals) = scale::more_decimals(value, self.decimals) else {
            return (form, None);
        };
        self.misfits = (self.misfits + MISFIT).min(MISFITS_START);
        if self.misfits < MISFITS_MAX {
            return (form, None);
        }
        (scale::form(value, decimals), Some(decimals))
    }
}

/// Odds that belong to no single series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    pub(crate) is_successor: Probability,
    pub(crate) is_new: Probability,
    pub(crate) is_device_new: Probability,
    pub(crate) is_channel_known: Probability,
    pub(crate) is_next_seq: Probability,
    pub(crate) is_same_quality: Probability,
    pub(crate) is_regraded: Probability,
    pub(crate) is_near: Probability,
    /// Place in the list of series, the one longest silent first.
    pub(crate) rank: Residual,
    /// Units in the last place.
    pub(crate) ulps: Residual,
    /// All that is rare: jumps of `seq`, times off the tick, declarations.
    pub(crate) odd: Residual,
    pub(crate) letters: super::name::Letters,
}

impl Shared {
    pub(crate) const NEW: Self = Self {
        is_successor: Probability::EVEN,
        is_new: Probability::EVEN,
        is_device_new: Probability::EVEN,
        is_channel_known: Probability::EVEN,
        is_next_seq: Probability::EVEN,
        is_same_quality: Probability::EVEN,
        is_regraded: Probability::EVEN,
        is_near: Probability::EVEN,
        rank: Residual::NEW,
        ulps: Residual::NEW,
        odd: Residual::NEW,
        letters: super::name::Letters::NEW,
    };
}
