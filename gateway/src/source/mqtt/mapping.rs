//! A message's JSON to samples. Pure: topic, bytes and time are arguments.
//!
//! A channel is a JSON pointer (RFC 6901) into the message; the empty pointer is the whole message, for
//! topics that carry one plain number. Numbers, texts that are numbers, and booleans (1 and 0) are
//! values; null and the text `nan` are gaps; anything else under a mapped pointer is malformed. A field
//! that a message does not have is no gap: devices send what has changed.
//!
//! Memory is bounded by `devices_max` names, whatever comes.

use std::collections::HashSet;
use std::sync::Arc;

use ingot_agent::{Drop, Quality};
use serde_json::Value;

use super::pattern::TopicPattern;
use crate::clock;
use crate::source::notice::BadInput;
use crate::source::{Chunk, Sample, Stamp};

/// Most fields that [`UnknownFields::List`] names in the log.
pub const LISTED_MAX: usize = 100;

/// What the messages of some topics mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Which topics, and whose.
    pub topic: TopicPattern,
    /// Channels and the JSON pointers to their values.
    pub channels: Vec<(String, String)>,
    /// Where the time stands; `None`: the time of arrival.
    pub time: Option<TimeField>,
}

/// A time in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeField {
    /// A JSON pointer to RFC 3339 text or a whole number since 1970-01-01 UTC.
    pub pointer: String,
    /// What such a number counts, in milliseconds: 1 or 1,000.
    pub unit_ms: i64,
    /// Added to texts that have no offset of their own, e.g. `Z` or `+02:00`.
    pub offset: Option<String>,
}

/// What happens to numbers without a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// Nothing.
    Ignore,
    /// Each pointer is named once in the log, at most [`LISTED_MAX`].
    List,
}

/// Maps the messages of one broker.
pub struct Mapper {
    source: String,
    mappings: Vec<Arc<Mapping>>,
    devices_max: usize,
    devices: HashSet<Box<str>>,
    said_full: bool,
    unknown: UnknownFields,
    listed: HashSet<String>,
    bad: BadInput,
}

impl Mapper {
    /// A mapper that has seen nothing yet; `source` is its name in the log.
    pub fn new(source: &str, mappings: Vec<Mapping>, devices_max: usize, unknown: UnknownFields) -> Self {
        Self {
            source: source.into(),
            mappings: mappings.into_iter().map(Arc::new).collect(),
            devices_max,
            devices: HashSet::new(),
            said_full: false,
            unknown,
            listed: HashSet::new(),
            bad: BadInput::default(),
        }
    }

    /// The readings of one message that arrived `arrived`.
    pub fn take(&mut self, topic: &str, payload: &[u8], arrived: Stamp) -> Chunk {
        let mut chunk = Chunk::default();
        let fits = |mapping: &Arc<Mapping>| Some((Arc::clone(mapping), mapping.topic.device(topic)?));
        let Some((mapping, device)) = self.mappings.iter().find_map(fits) else {
            return chunk;
        };
        let Ok(message) = serde_json::from_slice::<Value>(payload) else {
            chunk.drop_one(Drop::Malformed);
            self.bad.note(&self.source, "not JSON");
            return chunk;
        };
        let at = match mapping.time.as_ref().map(|time| time.read(&message)) {
            None => arrived,
            Some(Some(at_ms)) => Stamp::Wall(at_ms),
            Some(None) => {
                self.bad_time();
                arrived
            }
        };
        for (channel, pointer) in &mapping.channels {
            match message.pointer(pointer).map(value) {
                None => {}
                Some(Ok(value)) => chunk.samples.push(Sample {
                    device: device.as_str().into(),
                    boot_seq: None,
                    channel: channel.as_str().into(),
                    at,
                    value: value.unwrap_or(0.0),
                    quality: if value.is_some() { Quality::GOOD } else { Quality::MISSING },
                }),
                Some(Err(why)) => {
                    chunk.drop_one(Drop::Malformed);
                    self.bad.note(&self.source, why);
                }
            }
        }
        if self.unknown == UnknownFields::List {
            self.list(&mapping, &message, &mut String::new());
        }
        if !chunk.samples.is_empty() && !self.admits(&device) {
            chunk.drops.add(Drop::BadName, chunk.samples.len() as u64);
            chunk.samples.clear();
        }
        chunk
    }

    /// Whether the device has a place in the table.
    fn admits(&mut self, device: &str) -> bool {
        if self.devices.contains(device) {
            return true;
        }
        if self.devices.len() < self.devices_max {
            return self.devices.insert(device.into());
        }
        if !std::mem::replace(&mut self.said_full, true) {
            tracing::warn!(
                source = self.source,
                devices_max = self.devices_max,
                "readings of further devices are dropped and counted as bad_name; \
                 raise devices_max if they are yours, else look at the topic pattern"
            );
        }
        false
    }

    fn bad_time(&mut self) {
        self.bad.note(
            &self.source,
            "the time is missing or no time (the reading is kept, with its time of arrival)",
        );
    }

    /// Names each number that no channel points to.
    fn list(&mut self, mapping: &Mapping, value: &Value, pointer: &mut String) {
        if self.listed.len() >= LISTED_MAX {
            return;
        }
        match value {
            Value::Object(fields) => {
                let here = pointer.len();
                for (key, value) in fields {
                    pointer.push('/');
                    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                    self.list(mapping, value, pointer);
                    pointer.truncate(here);
                }
            }
            Value::Number(_) | Value::Bool(_) => {
                let known = mapping.channels.iter().any(|(_, known)| known == pointer);
                let time = mapping.time.as_ref().is_some_and(|time| time.pointer == *pointer);
                // A key as long as a message is nobody's field.
                if !known && !time && pointer.len() <= 256 && self.listed.insert(pointer.clone()) {
                    tracing::info!(source = self.source, pointer, "a field without a channel");
                }
            }
            _ => {}
        }
    }
}

impl TimeField {
    /// Milliseconds since 1970-01-01 UTC; `None` if there is no time.
    fn read(&self, message: &Value) -> Option<i64> {
        match message.pointer(&self.pointer)? {
            Value::Number(number) => number.as_i64()?.checked_mul(self.unit_ms),
            Value::String(text) => clock::parse_rfc3339_ms(text).or_else(|| {
                let offset = self.offset.as_ref()?;
                clock::parse_rfc3339_ms(&format!("{text}{offset}"))
            }),
            _ => None,
        }
    }
}

/// The value under a mapped pointer; `None` for a gap.
fn value(found: &Value) -> Result<Option<f64>, &'static str> {
    match found {
        Value::Null => Ok(None),
        Value::Bool(on) => Ok(Some(f64::from(u8::from(*on)))),
        Value::Number(number) => {
            number.as_f64().filter(|value| value.is_finite()).map(Some).ok_or("no finite number")
        }
        Value::String(text) if text.trim().eq_ignore_ascii_case("nan") => Ok(None),
        Value::String(text) => {
            let number = text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
            number.map(Some).ok_or("a text that is no number where a channel is expected")
        }
        Value::Array(_) | Value::Object(_) => Err("a list or an object where a channel is expected"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const ARRIVED: Stamp = Stamp::Uptime(0);
    const NEW_YEAR_MS: i64 = 1_767_225_600_000;

    fn mapper(topic: &str, channels: &[(&str, &str)], time: Option<TimeField>) -> Mapper {
        let channels = channels.iter().map(|(channel, at)| ((*channel).into(), (*at).into())).collect();
        let mapping = Mapping { topic: TopicPattern::parse(topic, "{device}").unwrap(), channels, time };
        Mapper::new("test", vec![mapping], 1_000, UnknownFields::List)
    }

    fn seen(chunk: &Chunk) -> Vec<(&str, &str, i64, Option<f64>)> {
        let value = |sample: &Sample| (sample.quality == Quality::GOOD).then_some(sample.value);
        let at = |stamp| match stamp {
            Stamp::Wall(at_ms) => at_ms - NEW_YEAR_MS,
            Stamp::Uptime(since_arrival_ms) => since_arrival_ms,
        };
        chunk.samples.iter().map(|s| (&*s.device, &*s.channel, at(s.at), value(s))).collect()
    }

    #[test]
    fn a_message_becomes_its_mapped_readings() {
        let channels = [("temperature", "/temperature"), ("humidity", "/humidity"), ("open", "/contact")];
        let mut mapper = mapper("zigbee2mqtt/{device}", &channels, None);
        let message = br#"{"temperature":21.3,"humidity":"40.5","contact":true,"linkquality":87,"x":[1]}"#;
        let chunk = mapper.take("zigbee2mqtt/Living Room", message, ARRIVED);
        let name = super::super::pattern::allowed_name("Living Room");
        let expected = [
            (&*name, "temperature", 0, Some(21.3)),
            (&*name, "humidity", 0, Some(40.5)),
            (&*name, "open", 0, Some(1.0)),
        ];
        assert_eq!(seen(&chunk), expected);
        assert_eq!(mapper.listed, HashSet::from(["/linkquality".to_owned()]));
        assert!(mapper.take("zigbee2mqtt/bridge/state", b"{}", ARRIVED).is_empty());
        assert!(mapper.take("zigbee2mqtt/plug", b"{\"state\":\"ON\"}", ARRIVED).is_empty());
    }

    #[test]
    fn gaps_are_gaps_and_nonsense_is_counted() {
        let mut mapper = mapper("t/{device}", &[("temperature", "/t")], None);
        for gap in ["null", "\"NaN\"", "\" nan \""] {
            let chunk = mapper.take("t/d", format!("{{\"t\":{gap}}}").as_bytes(), ARRIVED);
            assert_eq!(
                (seen(&chunk), chunk.drops.total()),
                (vec![("d", "temperature", 0, None)], 0),
                "{gap}"
            );
        }
        for bad in ["\"warm\"", "\"inf\"", "[1,2]", "{\"a\":1}", "\"\"", "NaN", "1e999", "-"] {
            let chunk = mapper.take("t/d", format!("{{\"t\":{bad}}}").as_bytes(), ARRIVED);
            assert_eq!((chunk.samples.len(), chunk.drops.get(Drop::Malformed)), (0, 1), "{bad}");
        }
        let deep = [b"[".repeat(60_000), b"]".repeat(60_000)].concat();
        assert_eq!(mapper.take("t/d", &deep, ARRIVED).drops.get(Drop::Malformed), 1);
    }

    #[test]
    fn a_time_is_read_in_the_forms_that_devices_use() {
        let time = |offset: Option<&str>, unit_ms| {
            Some(TimeField { pointer: "/Time".into(), unit_ms, offset: offset.map(str::to_owned) })
        };
        for (time, text, at_ms) in [
            (time(None, 1), "\"2026-01-01T00:00:05Z\"", 5_000),
            (time(None, 1), "1767225601000", 1_000),
            (time(None, 1_000), "1767225602", 2_000),
            (time(Some("+02:00"), 1), "\"2026-01-01T02:00:03\"", 3_000),
            (time(None, 1), "\"2026-01-01T02:00:03\"", 0),
            (time(None, 1_000), "9223372036854775807", 0),
            (time(None, 1), "1.5", 0),
            (time(None, 1), "{}", 0),
        ] {
            let mut mapper = mapper("tele/{device}/SENSOR", &[("temperature", "/AM2301/Temperature")], time);
            let message = format!("{{\"Time\":{text},\"AM2301\":{{\"Temperature\":20.1}}}}");
            let chunk = mapper.take("tele/boiler/SENSOR", message.as_bytes(), ARRIVED);
            assert_eq!(seen(&chunk), [("boiler", "temperature", at_ms, Some(20.1))], "{text}");
        }
    }

    #[test]
    fn a_plain_number_is_a_message() {
        let mut mapper = mapper("home/{device}/power", &[("power", "")], None);
        assert_eq!(
            seen(&mapper.take("home/oven/power", b"-12.5", ARRIVED)),
            [("oven", "power", 0, Some(-12.5))]
        );
    }

    #[test]
    fn a_million_unknown_devices_and_fields_are_bounded_and_counted() {
        let mut mapper = mapper("t/{device}", &[("temperature", "/t")], None);
        let (mut readings, mut refused) = (0, 0);
        for number in 0..1_000_000_u32 {
            let chunk = mapper.take(
                &format!("t/d{number}"),
                format!("{{\"t\":1,\"f{number}\":2}}").as_bytes(),
                ARRIVED,
            );
            readings += chunk.samples.len();
            refused += chunk.drops.get(Drop::BadName);
        }
        assert_eq!((readings, refused), (1_000, 999_000));
        assert_eq!((mapper.devices.len(), mapper.listed.len()), (1_000, LISTED_MAX));
        assert_eq!(mapper.take("t/d7", b"{\"t\":1}", ARRIVED).samples.len(), 1, "those that were there stay");
    }

    proptest! {
        #[test]
        fn any_bytes_are_readings_or_counted(topic in "t/.{0,10}", payload: Vec<u8>) {
            let mut mapper = mapper("t/{device}", &[("temperature", "/t"), ("whole", "")], None);
            mapper.take(&topic, &payload, ARRIVED);
        }

        #[test]
        fn a_value_arrives_bit_for_bit(bits: u64) {
            let number = f64::from_bits(bits);
            prop_assume!(number.is_finite());
            let mut mapper = mapper("t/{device}", &[("temperature", "/t")], None);
            let chunk = mapper.take("t/d", format!("{{\"t\":{number:?}}}").as_bytes(), ARRIVED);
            prop_assert_eq!(chunk.samples[0].value.to_bits(), bits);
        }
    }
}
