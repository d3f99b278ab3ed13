//! Settings: a TOML file plus flags, validated into [`Config`] before any port or file is opened.
//!
//! Every problem is reported at once, with its key and what is allowed there. Each key has a default,
//! given here and in `config/gateway.example.toml`; only the uplink must be chosen.

mod keys;
mod read;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::clock::ClockConfig;
use crate::contract_update::UpdatesConfig;
use crate::health::server::Listen;
use crate::range::{RangePolicy, RangeTable};
use crate::source::i2c::I2cConfig;
use crate::source::modbus::ModbusConfig;
use crate::source::mqtt::MqttSourceConfig;
use crate::source::serial::SerialConfig;
use crate::source::w1::W1Config;
use crate::spool::SpoolConfig;
use crate::uplink::BackoffConfig;
#[cfg(feature = "aws")]
use crate::uplink::bulk::BulkConfig;
use crate::uplink::lake::LakeConfig;
use crate::uplink::mqtt::MqttConfig;
use keys::Keys;

/// Everything a run needs, valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// The gateway's name: part of every topic and key.
    pub name: String,
    /// Longest time to send what is left at the end, in milliseconds.
    pub drain_ms_max: u64,
    /// Where readings come from.
    pub sources: Vec<SourceConfig>,
    /// What is known of the channels.
    pub range: RangeTable,
    /// What happens outside the ranges.
    pub range_policy: RangePolicy,
    /// Contracts that are pushed, over MQTT only; `None`: nobody may.
    pub contract_updates: Option<UpdatesConfig>,
    /// When a batch is sealed.
    pub batch: BatchConfig,
    /// How to know that the clock is set.
    pub clock: ClockConfig,
    /// Where frames wait.
    pub spool: SpoolConfig,
    /// Channels whose readings are sent first and given up last.
    pub priority_channels: Vec<String>,
    /// Where frames go.
    pub uplink: UplinkConfig,
    /// How long to wait after a failure there.
    pub backoff: BackoffConfig,
    /// The direct path of a large backlog, beside MQTT.
    #[cfg(feature = "aws")]
    pub bulk: Option<BulkConfig>,
    /// Where it shows how it is doing.
    pub health: Listen,
}

/// One source of readings.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceConfig {
    /// Readings as JSON lines on standard input.
    Ndjson {
        /// A longer line is skipped and counted, in bytes.
        line_bytes_max: usize,
    },
    /// Sensor chips on an I2C bus.
    I2c(I2cConfig),
    /// Frames of microcontrollers over a serial port.
    Serial(SerialConfig),
    /// Messages of a local broker.
    Mqtt(MqttSourceConfig),
    /// Registers of Modbus devices.
    Modbus(ModbusConfig),
    /// 1-Wire thermometers.
    W1(W1Config),
}

/// When a batch is sealed: at the first limit that it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// Aimed size of a frame, in bytes.
    pub frame_bytes_max: usize,
    /// Age of its oldest reading here, in milliseconds.
    pub age_ms_max: u64,
}

/// Where frames go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one for the whole run")]
pub enum UplinkConfig {
    /// Bronze objects below a directory.
    Lake(LakeConfig),
    /// An MQTT 5 broker, e.g. AWS IoT Core.
    Mqtt(MqttConfig),
}

/// Flags that stand above the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--name`
    pub name: Option<String>,
    /// `--spool`
    pub spool: Option<PathBuf>,
    /// `--lake`; replaces the file's uplink.
    pub lake: Option<String>,
}

/// Why there is no valid configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML. The line itself is not shown: it may hold what is nobody's business.
    #[error("the configuration is not TOML, line {line}: {why}")]
    Toml {
        /// Where, counted from 1.
        line: usize,
        /// What the parser said.
        why: String,
    },
    /// All that is wrong with it, a line each: key, what is allowed.
    #[error("the configuration has {} problem(s):\n  {}", .0.len(), .0.join("\n  "))]
    Problems(Vec<String>),
}

/// Longest line of NDJSON taken by default, in bytes.
pub const LINE_BYTES_MAX: usize = 65_536;

impl Config {
    /// Reads the file (none: defaults), puts the flags above it, validates.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has problems: all of them.
    pub fn load(path: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let text = match path {
            Some(path) => {
                fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?
            }
            None => String::new(),
        };
        Self::from_toml(&text, overrides)
    }

    /// The same from a text.
    ///
    /// # Errors
    /// It is not TOML, or has problems: all of them.
    pub fn from_toml(text: &str, overrides: Overrides) -> Result<Self, ConfigError> {
        let mut table: Table = text.parse().map_err(|error| not_toml(text, &error))?;
        overrides.apply(&mut table);
        let problems = RefCell::new(Vec::new());
        let config = read::config(Keys::new(table, &problems));
        let problems = problems.into_inner();
        config.filter(|_| problems.is_empty()).ok_or(ConfigError::Problems(problems))
    }

    /// The settings as they take effect, defaults filled in; names of files, never their content.
    pub fn effective(&self) -> String {
        let Self { name, drain_ms_max, sources, range, batch, clock, spool, .. } = self;
        let Self { priority_channels, uplink, backoff, health, contract_updates, .. } = self;
        #[cfg(feature = "aws")]
        let bulk = self.bulk.as_ref().map(|bulk| format!("uplink bulk: {bulk:?}\n")).unwrap_or_default();
        #[cfg(not(feature = "aws"))]
        let bulk = "";
        let sources: Vec<_> = sources.iter().map(|source| format!("source: {source:?}\n")).collect();
        format!(
            "name: {name}\ndrain_ms_max: {drain_ms_max}\n{}range: {} channels\npushed contracts: {contract_updates:?}\nbatch: {batch:?}\nclock: {clock:?}\n\
             spool: {spool:?}\npriority channels: {priority_channels:?}\nuplink: {uplink:?}\nuplink backoff: {backoff:?}\n{bulk}health: {health:?}\n",
            sources.concat(),
            range.len(),
        )
    }
}

fn not_toml(text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    ConfigError::Toml { line: before.matches('\n').count() + 1, why: error.message().into() }
}

impl Overrides {
    fn apply(self, table: &mut Table) {
        if let Some(name) = self.name {
            table.insert("name".into(), Value::String(name));
        }
        let mut set = |section: &str, key: &str, value: Value| {
            if let Value::Table(table) = table.entry(section).or_insert_with(|| Value::Table(Table::new())) {
                table.insert(key.into(), value);
                if key == "lake" {
                    table.remove("mqtt");
                }
            }
        };
        if let Some(dir) = self.spool {
            set("spool", "dir", Value::String(dir.to_string_lossy().into_owned()));
        }
        if let Some(url) = self.lake {
            let lake = Table::from_iter([("url".to_owned(), Value::String(url))]);
            set("uplink", "lake", Value::Table(lake));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::spool::WhenFull;

    fn lake() -> Overrides {
        Overrides { lake: Some("file:///lake".into()), ..Overrides::default() }
    }

    fn problems(text: &str) -> Vec<String> {
        match Config::from_toml(text, Overrides::default()).unwrap_err() {
            ConfigError::Problems(problems) => problems,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn defaults_need_only_an_uplink() {
        let config = Config::from_toml("", lake()).unwrap();
        assert_eq!((config.name.as_str(), config.batch.frame_bytes_max), ("gateway", 50_000));
        assert_eq!(config.sources, [SourceConfig::Ndjson { line_bytes_max: LINE_BYTES_MAX }]);
        assert_eq!(config.spool.when_full, WhenFull::DropOldest);
        assert!(problems("")[0].starts_with("uplink: nowhere to send to"));
    }

    #[test]
    fn flags_stand_above_the_file() {
        let text = "name = \"a\"\n[spool]\ndir = \"x\"\n[uplink.mqtt]\nhost = \"127.0.0.1\"";
        let flags = Overrides { name: Some("b".into()), spool: Some("y".into()), ..lake() };
        let config = Config::from_toml(text, flags).unwrap();
        assert_eq!((config.name.as_str(), config.spool.dir.to_str().unwrap()), ("b", "y"));
        assert!(matches!(config.uplink, UplinkConfig::Lake(_)));
    }

    #[test]
    fn the_example_is_valid() {
        let text = include_str!("../../config/gateway.example.toml");
        let config = Config::from_toml(text, lake()).unwrap();
        assert_eq!(config.sources.len(), 2);
        // Its certificates are not here; everything else in it is right.
        let told = problems(text);
        assert!(told.iter().all(|problem| problem.starts_with("uplink.mqtt.tls.")), "{told:?}");
    }

    #[test]
    fn every_problem_is_told_with_its_key_and_what_is_allowed() {
        let text = r#"
            name = "no/name"
            drain_ms_max = "soon"
            colour = 1
            [[source]]
            kind = "telepathy"
            [[source]]
            kind = "i2c"
            bus = "simulated"
            [[source.sensor]]
            chip = "bme280"
            address = 5
            [range]
            drop_channels = ["colour"]
            [batch]
            frame_bytes_max = 10
            [spool]
            bytes_max = 16384
            [uplink.mqtt]
            host = "broker.example"
            in_flight_max = 101
            topic_prefix = "no-slash"
        "#;
        let told = problems(text);
        for start in [
            "name: wants 1 to 64",
            "drain_ms_max: wants a whole number from 0 to 3600000 and not the text \"soon\"",
            "colour: is unknown here; known: name, drain_ms_max, source",
            "source[0].kind: wants \"ndjson\", \"i2c\", \"serial\", \"mqtt\", \"modbus\" or \"w1\" and not \"telepathy\"",
            "source[1].sensor[0].address: wants a whole number from 118 to 119 and not 5",
            "range.drop_channels: \"colour\" is not a channel of the contract",
            "batch.frame_bytes_max: wants a whole number from 256 to 131072 and not 10",
            "spool.bytes_max: wants at least four times segment_bytes_max",
            "uplink.mqtt.tls: is missing",
            "uplink.mqtt.in_flight_max: wants a whole number from 1 to 100 and not 101",
            "uplink.mqtt.topic_prefix: wants",
        ] {
            assert!(told.iter().any(|problem| problem.starts_with(start)), "{start}\n{told:#?}");
        }
        assert_eq!(told.len(), 11, "{told:#?}");
    }

    #[test]
    fn plain_tcp_stays_on_this_machine_unless_it_is_asked_for() {
        let mqtt = |rest: &str| Config::from_toml(&format!("[uplink.mqtt]\n{rest}"), Overrides::default());
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(mqtt(&format!("host = {host:?}")).is_ok(), "{host}");
        }
        for host in ["10.0.0.1", "localhost.example", "broker", "0.0.0.0"] {
            assert!(mqtt(&format!("host = {host:?}")).is_err(), "{host}");
        }
        assert!(mqtt("host = \"10.0.0.1\"\ninsecure = true").is_ok());
    }

    #[test]
    fn both_uplinks_or_another_lake_are_refused() {
        let told = problems("[uplink.lake]\nurl = \"s3://bucket\"\n[uplink.mqtt]\nhost = \"localhost\"");
        assert!(told.iter().any(|problem| problem.contains("exclude each other")), "{told:?}");
        let told = problems("[uplink.lake]\nurl = \"s3://bucket\"");
        assert!(told[0].starts_with("uplink.lake.url: wants file:///absolute/path"), "{told:?}");
    }
}
