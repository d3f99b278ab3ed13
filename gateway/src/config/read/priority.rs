//! `spool.priority_channels`: what is sent first and given up last.

use super::Keys;
use crate::key::is_name;

pub(super) fn channels(keys: &mut Keys<'_>) -> Vec<String> {
    let mut channels = keys.texts("priority_channels");
    for channel in channels.iter().filter(|channel| !is_name(channel)) {
        keys.problem(
            "priority_channels",
            format!("wants names of 1 to 64 characters of A-Z a-z 0-9 . _ - and not {channel:?}"),
        );
    }
    channels.sort_unstable();
    channels.dedup();
    channels
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::config::{Config, Overrides};

    #[test]
    fn channels_are_names_and_every_other_text_is_told() {
        let lake = || Overrides { lake: Some("file:///lake".into()), ..Overrides::default() };
        assert!(Config::from_toml("", lake()).unwrap().priority_channels.is_empty());
        let text = "[spool]\npriority_channels = [\"voltage\", \"door\", \"voltage\"]";
        let config = Config::from_toml(text, lake()).unwrap();
        assert_eq!(config.priority_channels, ["door", "voltage"]);
        assert!(config.effective().contains("priority channels: [\"door\", \"voltage\"]"));

        let text = "[spool]\npriority_channels = [\"a b\", \"door\", \"\"]\nfsync_interval_ms = -1";
        let told = Config::from_toml(text, lake()).unwrap_err().to_string();
        for part in ["and not \"a b\"", "and not \"\"", "3 problem(s)", "spool.fsync_interval_ms"] {
            assert!(told.contains(part), "{told}");
        }
    }
}
