//! New settings without a restart: on SIGHUP the file is read and judged as at the start.
//!
//! Settings with any problem are logged, all of them, and the old ones stay; a half-written file is one
//! of those. Good ones take effect part by part and no reading is lost: the batcher takes new ranges and
//! limits between two chunks, changed sources are ended in order and started anew, and the uplink always
//! connects anew, so that a renewed certificate is used. What is bound to the spool's directory (name,
//! spool) and the health server's address need a restart, and the log says so.

use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::config::{Config, ConfigError, Overrides, SourceConfig};

/// Where settings come from, to read them again.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The file, if one was given.
    pub path: Option<PathBuf>,
    /// The flags above it.
    pub overrides: Overrides,
}

impl Origin {
    /// Reads and judges the settings.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.path.as_deref(), self.overrides.clone())
    }
}

/// A run's way to new settings: the sender asks for a reload.
#[derive(Debug)]
pub struct Reloads {
    origin: Origin,
    asked: mpsc::Receiver<()>,
}

impl Reloads {
    /// Reads from `origin` each time that `asked` brings something.
    pub fn new(origin: Origin, asked: mpsc::Receiver<()>) -> Self {
        Self { origin, asked }
    }

    /// A run that is never reloaded.
    pub fn never() -> Self {
        Self::new(Origin::default(), mpsc::channel(1).1)
    }

    /// Waits until a reload is asked for; for ever when nobody can ask any more.
    pub async fn asked(&mut self) {
        if self.asked.recv().await.is_none() {
            std::future::pending().await
        }
    }

    /// The settings to go on with, or `None` (and why in the log) when the old ones stay.
    pub fn load(&self, old: &Config) -> Option<Config> {
        let loaded = self.origin.load().and_then(|new| {
            if new.name == old.name {
                return Ok(new);
            }
            // What derives from the name (client id, device) keeps to the name that stays.
            let mut origin = self.origin.clone();
            origin.overrides.name = Some(old.name.clone());
            let kept = origin.load();
            tracing::warn!(old = old.name, new = new.name, "a new name needs a restart; the old one stays");
            kept
        });
        match loaded {
            Ok(new) => Some(settle(old, new)),
            Err(error) => {
                tracing::error!(%error, "the new settings are not valid; the old ones stay in effect");
                None
            }
        }
    }
}

/// The new settings, with what only a restart can change put back.
fn settle(old: &Config, mut new: Config) -> Config {
    for key in needs_restart(old, &new) {
        tracing::warn!(key, "this change needs a restart; the old setting stays");
    }
    new.clock.clone_from(&old.clock);
    new.spool.clone_from(&old.spool);
    new.priority_channels.clone_from(&old.priority_channels);
    new.health.clone_from(&old.health);
    // Standard input is read once; a second reader would take lines from the first.
    let stdin = |config: &Config| config.sources.iter().find(|source| is_stdin(source)).cloned();
    let before = stdin(old);
    if stdin(&new) != before {
        new.sources.retain(|source| !is_stdin(source));
        new.sources.extend(before);
    }
    new
}

fn is_stdin(source: &SourceConfig) -> bool {
    matches!(source, SourceConfig::Ndjson { .. })
}

/// Keys that differ and that a running gateway cannot change.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let stdin = |config: &Config| config.sources.iter().find(|source| is_stdin(source)).cloned();
    [
        ("name", old.name != new.name),
        ("clock", old.clock != new.clock),
        ("spool", old.spool != new.spool),
        ("spool.priority_channels", old.priority_channels != new.priority_channels),
        ("health.listen", old.health != new.health),
        ("source of kind \"ndjson\"", stdin(old) != stdin(new)),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_toml(&format!("{text}\n[uplink.mqtt]\nhost = \"localhost\""), Overrides::default())
            .unwrap()
    }

    #[test]
    fn what_needs_a_restart_is_named_and_put_back() {
        let old = config("[batch]\nage_ms_max = 100");
        let new = config(
            "source = []\n[batch]\nage_ms_max = 200\n[spool]\ndir = \"/elsewhere\"\n[health]\nlisten = \"off\"",
        );
        assert_eq!(needs_restart(&old, &new), ["spool", "health.listen", "source of kind \"ndjson\""]);
        let settled = settle(&old, new);
        assert_eq!((&settled.spool, &settled.health), (&old.spool, &old.health));
        assert_eq!((settled.batch.age_ms_max, &settled.sources), (200, &old.sources));
        assert!(needs_restart(&old, &config("[batch]\nage_ms_max = 9")).is_empty());
        let door = config("[spool]\npriority_channels = [\"door\"]");
        assert_eq!(needs_restart(&old, &door), ["spool.priority_channels"]);
        assert!(settle(&old, door).priority_channels.is_empty());
    }

    #[test]
    fn a_new_name_does_not_reach_what_derives_from_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "name = \"new\"\n[uplink.mqtt]\nhost = \"localhost\"").unwrap();
        let origin = Origin { path: Some(file.path().into()), overrides: Overrides::default() };
        let reloads = Reloads { origin, ..Reloads::never() };
        let old = config("name = \"old\"");
        let new = reloads.load(&old).unwrap();
        assert_eq!((&new.name, &new.uplink), (&old.name, &old.uplink));

        std::fs::write(file.path(), "name = \"new\"\n[uplink.mq").unwrap();
        assert!(reloads.load(&old).is_none(), "a half-written file changes nothing");
    }
}
