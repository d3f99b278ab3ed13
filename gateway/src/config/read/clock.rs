//! `[clock]`: how to know that the clock is set, and what may wait until it is.

use std::path::PathBuf;

use super::Keys;
use crate::clock::ClockConfig;

pub(super) fn read(mut keys: Keys<'_>) -> ClockConfig {
    let set_marker = keys.text("set_marker").map(PathBuf::from);
    if set_marker.as_ref().is_some_and(|path| !path.is_absolute()) {
        keys.problem("set_marker", "wants the absolute path of a file that is there once the clock is set");
    }
    let clock =
        ClockConfig { set_marker, held_bytes_max: keys.number("held_bytes_max", 64 << 20, 1 << 20..=1 << 40) };
    keys.end();
    clock
}
