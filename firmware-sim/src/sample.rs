//! One reading with its full identity, as a simulated device produced it.

use std::sync::Arc;

/// A reading of a device: unique by `device`, `boot` and `seq`.
///
/// Equality is by bits: two samples are equal only where every tier would find them the same.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The device's name.
    pub device: Arc<str>,
    /// The device's run.
    pub boot: u64,
    /// Position in the device's count since its boot, from 0; one count for all its channels.
    pub seq: u64,
    /// What was measured.
    pub channel: Arc<str>,
    /// When the device says that it was measured: milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The finite value in the channel's unit; `None` where the sensor gave none.
    pub value: Option<f64>,
}

impl Sample {
    /// The value's bits, which tell 0.0 from -0.0.
    pub fn value_bits(&self) -> Option<u64> {
        self.value.map(f64::to_bits)
    }
}

impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        self.device == other.device
            && self.boot == other.boot
            && self.seq == other.seq
            && self.channel == other.channel
            && self.at_ms == other.at_ms
            && self.value_bits() == other.value_bits()
    }
}

impl Eq for Sample {}
