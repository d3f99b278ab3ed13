//! `[clock]`: how to know that the clock is set, and what may wait until it is.

use std::path::PathBuf;

use super::Keys;
use crate::clock::ClockConfig;

pub(super) fn read(mut keys: Keys<'_>) -> ClockConfig {
    let set_marker = keys.text("set_marker").map(PathBuf::from);
    if set_marker.as_ref().is_some_and(|path| !path.is_absolute()) {
        keys.problem("set_marker", "wants the absolute path of a file that is there once the clock is set");
    }
    let clock = ClockConfig {
        set_marker,
        held_bytes_max: keys.number("held_bytes_max", 64 << 20, 1 << 20..=1 << 40),
    };
    keys.end();
    clock
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::config::{Config, Overrides};

    #[test]
    fn a_marker_is_a_place_and_the_cap_takes_any_frame() {
        let lake = || Overrides { lake: Some("file:///lake".into()), ..Overrides::default() };
        let config = Config::from_toml("", lake()).unwrap();
        assert_eq!((config.clock.set_marker, config.clock.held_bytes_max), (None, 64 << 20));
        let told = Config::from_toml("[clock]\nset_marker = \"synced\"\nheld_bytes_max = 1000\n", lake());
        let told = told.unwrap_err().to_string();
        assert!(told.contains("clock.set_marker: wants the absolute path"), "{told}");
        assert!(told.contains("clock.held_bytes_max: wants a whole number from 1048576"), "{told}");
    }
}
