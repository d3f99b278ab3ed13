//! Counts for devices that do not count themselves.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::clock;

/// Devices for which the gateway counts, before it starts their counts anew under a new boot.
pub const COUNTED_DEVICES_MAX: usize = 65_536;

/// The counts of one run.
pub(super) struct Counted {
    state_dir: PathBuf,
    boot: u64,
    next_seq: HashMap<Box<str>, u64>,
}

impl Counted {
    pub(super) fn new(state_dir: PathBuf, boot: u64) -> Self {
        Self { state_dir, boot, next_seq: HashMap::new() }
    }

    /// The next place in the count that the gateway keeps for this device.
    pub(super) fn next(&mut self, device: &str) -> (u64, u64) {
        if let Some(next) = self.next_seq.get_mut(device) {
            *next += 1;
            return (self.boot, *next - 1);
        }
        if self.next_seq.len() >= COUNTED_DEVICES_MAX {
            // Forgetting a count is only safe under a new boot.
            match clock::next_boot(&self.state_dir) {
                Ok(boot) => {
                    self.boot = boot;
                    self.next_seq.clear();
                }
                Err(error) => {
                    tracing::warn!(%error, "no new boot could be noted; the table of counted devices grows")
                }
            }
        }
        self.next_seq.insert(device.into(), 1);
        (self.boot, 0)
    }
}
