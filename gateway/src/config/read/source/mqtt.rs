//! `kind = "mqtt"`: a local broker and its mappings.

use std::fs;
use std::path::PathBuf;

use super::is_loopback;
use crate::clock;
use crate::config::keys::Keys;
use crate::key::is_name;
use crate::source::mqtt::MqttSourceConfig;
use crate::source::mqtt::mapping::{Mapping, TimeField, UnknownFields};
use crate::source::mqtt::pattern::TopicPattern;

/// Most mappings of one broker.
const MAPPINGS_MAX: usize = 64;

pub(super) fn read(keys: &mut Keys<'_>, name: &str) -> MqttSourceConfig {
    let host = keys.text("host").unwrap_or_else(|| "localhost".into());
    let ca = read_file(keys, "ca");
    let insecure = keys.flag("insecure", false);
    if ca.is_none() && !is_loopback(&host) && !insecure {
        keys.problem("ca", "is missing: plain TCP goes to this machine only; give ca, or insecure = true");
    }
    let client_id = keys.text("client_id").unwrap_or_else(|| format!("{name}-source"));
    if client_id.is_empty() || client_id.len() > 128 {
        keys.problem("client_id", "wants 1 to 128 bytes");
    }
    let login = match (keys.text("user"), read_file(keys, "password_file")) {
        (Some(user), Some(file)) => Some((user, file)),
        (None, None) => None,
        _ => {
            keys.problem("user", "wants user and password_file, or none of them");
            None
        }
    };
    MqttSourceConfig {
        port: keys.number("port", if ca.is_some() { 8883 } else { 1883 }, 1..=65_535) as u16,
        host,
        client_id,
        login,
        ca,
        keep_alive_s: keys.number("keep_alive_s", 30, 5..=1_200) as u16,
        devices_max: keys.number("devices_max", 1_000, 1..=50_000) as usize,
        unknown_fields: keys.choice(
            "unknown_fields",
            UnknownFields::Ignore,
            &[("ignore", UnknownFields::Ignore), ("list", UnknownFields::List)],
        ),
        mappings: read_mappings(keys),
    }
}

fn read_file(keys: &mut Keys<'_>, key: &'static str) -> Option<PathBuf> {
    let path = PathBuf::from(keys.text(key)?);
    if let Err(error) = fs::File::open(&path) {
        // Not what stands there: somebody may have put the password itself.
        keys.problem(key, format!("wants the path of a file, and that cannot be read: {error}"));
    }
    Some(path)
}

fn read_mappings(keys: &mut Keys<'_>) -> Vec<Mapping> {
    let tables = keys.list("map").unwrap_or_default();
    if tables.is_empty() || tables.len() > MAPPINGS_MAX {
        keys.problem("map", format!("wants 1 to {MAPPINGS_MAX} [[source.map]]"));
    }
    let mappings: Vec<_> = tables.into_iter().filter_map(read_mapping).collect();
    for (place, mapping) in mappings.iter().enumerate() {
        if mappings.iter().take(place).any(|other| other.topic.overlaps(&mapping.topic)) {
            let topic = mapping.topic.filter();
            keys.problem(
                "map",
                format!("wants each topic in one mapping: {topic:?} overlaps with one before"),
            );
        }
    }
    mappings
}

fn read_mapping(mut keys: Keys<'_>) -> Option<Mapping> {
    let topic = keys.text_needed("topic", "wants a topic such as \"zigbee2mqtt/{device}\"");
    let device = keys.text("device").unwrap_or_else(|| "{device}".into());
    let topic = TopicPattern::parse(&topic, &device).map_err(|why| keys.problem("topic", why)).ok();
    let channels = keys.pairs("channels");
    if channels.is_empty() {
        keys.problem(
            "channels",
            "wants channels and where they stand, such as { temperature = \"/temperature\" }",
        );
    }
    for (channel, pointer) in &channels {
        if !is_name(channel) || !is_pointer(pointer) {
            keys.problem(
                "channels",
                format!("wants name = \"/json/pointer\" (\"\": all of the message) and not {channel:?} = {pointer:?}"),
            );
        }
    }
    let time = read_time(&mut keys);
    keys.end();
    Some(Mapping { topic: topic?, channels, time })
}

fn read_time(keys: &mut Keys<'_>) -> Option<TimeField> {
    let pointer = keys.text("time");
    let unit_ms = keys.choice("time_unit", 1, &[("ms", 1), ("s", 1_000)]);
    let offset = keys.text("time_offset");
    if offset
        .as_ref()
        .is_some_and(|offset| clock::parse_rfc3339_ms(&format!("2026-01-01T00:00:00{offset}")).is_none())
    {
        keys.problem("time_offset", "wants \"Z\" or an offset such as \"+02:00\"");
    }
    let pointer = pointer?;
    if !is_pointer(&pointer) {
        keys.problem("time", format!("wants a JSON pointer such as \"/time\" and not {pointer:?}"));
    }
    Some(TimeField { pointer, unit_ms, offset })
}

fn is_pointer(text: &str) -> bool {
    text.is_empty() || text.starts_with('/')
}
