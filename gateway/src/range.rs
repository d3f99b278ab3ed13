//! The edge's range table: read from the data contract that the cloud checks with too.
//!
//! A channel that the contract does not know is kept as it is; the cloud discards it with a reason.

use std::collections::HashMap;

use ingot_agent::{ChannelSpec, Quality};
use serde::Deserialize;

/// The contract that is built in.
pub const DEFAULT_CONTRACT: &str = include_str!("../../contracts/sensor_readings.yaml");

/// What happens to a reading outside its channel's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfRange {
    /// It is kept and flagged.
    Keep,
    /// It is dropped and counted.
    Drop,
}

/// What the settings say of readings outside the ranges, whichever contract gives these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangePolicy {
    /// For all channels.
    pub otherwise: OutOfRange,
    /// Channels whose readings outside are dropped.
    pub drop_channels: Vec<String>,
}

impl Default for RangePolicy {
    fn default() -> Self {
        Self { otherwise: OutOfRange::Keep, drop_channels: Vec::new() }
    }
}

impl RangePolicy {
    /// A contract's ranges under this policy.
    ///
    /// # Errors
    /// All that is wrong with the contract, or that the policy names and the contract does not.
    pub fn table(&self, yaml: &str) -> Result<RangeTable, Vec<String>> {
        let mut table =
            RangeTable::from_contract(yaml, self.otherwise).map_err(|error| vec![error.to_string()])?;
        let unknown: Vec<String> = self
            .drop_channels
            .iter()
            .filter(|channel| !table.drop_out_of_range(channel))
            .map(|channel| format!("range.drop_channels: {channel:?} is not a channel of the contract"))
            .collect();
        if unknown.is_empty() { Ok(table) } else { Err(unknown) }
    }
}

/// The channels that are known, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeTable {
    channels: HashMap<String, Channel>,
}

#[derive(Clone, Debug, PartialEq)]
struct Channel {
    row: Row,
    policy: OutOfRange,
}

/// Why a contract gives no range table.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// Not a contract.
    #[error("the contract cannot be read: {0}")]
    Yaml(String),
    /// No reference list of channels.
    #[error(
        "the contract has no customProperties entry `references` with a list named `channels` that has rows"
    )]
    NoChannels,
    /// Channels without sense, their names.
    #[error("channels {0:?}: want a name, value_min <= value_max, step_max >= 0 and decimals <= 9")]
    Channels(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Contract {
    #[serde(default)]
    custom_properties: Vec<CustomProperty>,
}

#[derive(Deserialize)]
struct CustomProperty {
    property: String,
    #[serde(default)]
    value: serde_json::Value,
}

#[derive(Deserialize)]
struct Reference {
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Row {
    channel: String,
    #[serde(default)]
    unit: String,
    value_min: f64,
    value_max: f64,
    #[serde(default = "no_limit")]
    step_max: f64,
    #[serde(default)]
    decimals: u8,
}

fn no_limit() -> f64 {
    f64::INFINITY
}

impl RangeTable {
    /// Reads the rows of the reference list `channels` of an ODCS contract.
    ///
    /// # Errors
    /// It is not YAML, has no such list, or a row makes no sense.
    pub fn from_contract(yaml: &str, policy: OutOfRange) -> Result<Self, ContractError> {
        let contract: Contract =
            serde_saphyr::from_str(yaml).map_err(|error| ContractError::Yaml(error.to_string()))?;
        let references = contract
            .custom_properties
            .into_iter()
            .find(|custom| custom.property == "references")
            .ok_or(ContractError::NoChannels)?;
        let lists = references.value.as_array().cloned().unwrap_or_default();
        let list = lists
            .into_iter()
            .find(|list| list.get("name").and_then(|name| name.as_str()) == Some("channels"))
            .ok_or(ContractError::NoChannels)?;
        let Reference { rows } =
            serde_json::from_value(list).map_err(|error| ContractError::Yaml(error.to_string()))?;

        if rows.is_empty() {
            return Err(ContractError::NoChannels);
        }
        let (mut channels, mut wrong) = (HashMap::new(), Vec::new());
        for row in rows {
            let sane = crate::key::is_name(&row.channel)
                && row.value_min <= row.value_max
                && row.step_max >= 0.0
                && row.decimals <= 9;
            if sane {
                channels.insert(row.channel.clone(), Channel { row, policy });
            } else {
                wrong.push(row.channel);
            }
        }
        if wrong.is_empty() { Ok(Self { channels }) } else { Err(ContractError::Channels(wrong)) }
    }

    /// Drops this channel's readings when they are out of range; `false` if it is not known.
    pub fn drop_out_of_range(&mut self, channel: &str) -> bool {
        self.channels.get_mut(channel).map(|known| known.policy = OutOfRange::Drop).is_some()
    }

    /// What the contract says of a channel, and what happens to its readings outside the range.
    pub fn get(&self, channel: &str) -> Option<(ChannelSpec<'_>, OutOfRange)> {
        self.channels.get(channel).map(|Channel { row, policy }| {
            let spec = ChannelSpec {
                channel: &row.channel,
                unit: &row.unit,
                value_min: row.value_min,
                value_max: row.value_max,
                step_max: row.step_max,
                decimals: row.decimals,
            };
            (spec, *policy)
        })
    }

    /// Whether this value is out of the channel's range; a channel that is not known has none.
    pub fn is_out(&self, channel: &str, value: f64) -> bool {
        self.get(channel).is_some_and(|(spec, _)| {
            ingot_agent::range::check(&spec, None, value).contains(Quality::OUT_OF_RANGE)
        })
    }

    /// How many channels are known.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }
}

/// The flags to add, or `None` if the reading is to be dropped.
pub fn judge(
    known: Option<(ChannelSpec<'_>, OutOfRange)>,
    previous: Option<f64>,
    value: f64,
) -> Option<Quality> {
    let Some((spec, policy)) = known else {
        return Some(Quality::GOOD);
    };
    let quality = ingot_agent::range::check(&spec, previous, value);
    let drop = policy == OutOfRange::Drop && quality.contains(Quality::OUT_OF_RANGE);
    (!drop).then_some(quality)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_built_in_contract_gives_its_channels() {
        let table = RangeTable::from_contract(DEFAULT_CONTRACT, OutOfRange::Keep).unwrap();
        let (spec, policy) = table.get("pressure").unwrap();
        assert_eq!((spec.unit, spec.value_min, spec.value_max, spec.step_max), ("hPa", 300.0, 1100.0, 10.0));
        assert_eq!(policy, OutOfRange::Keep);
        assert!(table.get("colour").is_none());
    }

    #[test]
    fn out_of_range_is_flagged_or_dropped_and_unknown_channels_pass() {
        let mut table = RangeTable::from_contract(DEFAULT_CONTRACT, OutOfRange::Keep).unwrap();
        assert!(table.drop_out_of_range("voltage") && !table.drop_out_of_range("colour"));
        let hot = judge(table.get("temperature"), Some(80.0), 90.5).unwrap();
        assert_eq!(hot, Quality::OUT_OF_RANGE.with(Quality::STEP));
        assert_eq!(judge(table.get("voltage"), None, -1.0), None);
        assert_eq!(judge(table.get("colour"), None, 1e300), Some(Quality::GOOD));
    }

    #[test]
    fn a_contract_without_sense_is_refused() {
        for (yaml, part) in [
            ("- 1", "cannot be read"),
            ("kind: DataContract", "references"),
            (
                "customProperties: [{ property: references, value: [{ name: channels, rows: [{ channel: t, value_min: 2, value_max: 1 }] }] }]",
                "value_min <= value_max",
            ),
        ] {
            let error = RangeTable::from_contract(yaml, OutOfRange::Keep).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
