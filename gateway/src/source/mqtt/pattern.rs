//! Topics to device names: `zigbee2mqtt/{device}`, `plant/{site}/+/{node}/state`.
//!
//! Levels are literal, `+` (any), `{name}` (any, and part of the device's name), and `#` at the end (any
//! number of them). A device's name may use only `A-Z a-z 0-9 . _ -` and 64 characters; see
//! [`allowed_name`] for what becomes of others.

use crate::key::is_name;

/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 64;

/// Which topics, and the device's name out of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    levels: Vec<Level>,
    device: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Text(String),
    Any,
    Named(String),
    Rest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Named(String),
}

impl TopicPattern {
    /// A pattern, and the name of its devices: text with the `{names}` of levels.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn parse(topic: &str, device: &str) -> Result<Self, String> {
        let mut levels = Vec::new();
        for level in topic.split('/') {
            if levels.last() == Some(&Level::Rest) {
                return Err("wants # at the end only".into());
            }
            levels.push(match level {
                "+" => Level::Any,
                "#" => Level::Rest,
                _ => match level.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                    Some(name) if is_name(name) && !levels.contains(&Level::Named(name.into())) => {
                        Level::Named(name.into())
                    }
                    Some(name) => return Err(format!("wants a new name and not {{{name}}}")),
                    None if level.contains(['+', '#', '{', '}', '\0']) => {
                        return Err(format!(
                            "wants a level that is text, +, # or {{name}} and not {level:?}"
                        ));
                    }
                    None => Level::Text(level.into()),
                },
            });
        }
        if topic.is_empty() || topic.len() > 1_024 {
            return Err("wants 1 to 1024 bytes".into());
        }
        let device = parts(device, &levels)?;
        Ok(Self { levels, device })
    }

    /// The filter that a broker understands.
    pub fn filter(&self) -> String {
        let level = |level: &Level| match level {
            Level::Text(text) => text.clone(),
            Level::Any | Level::Named(_) => "+".into(),
            Level::Rest => "#".into(),
        };
        self.levels.iter().map(level).collect::<Vec<_>>().join("/")
    }

    /// The device that a topic is of, in allowed letters; `None` if it does not fit.
    pub fn device(&self, topic: &str) -> Option<String> {
        let mut found = topic.split('/');
        let mut names = Vec::new();
        for level in &self.levels {
            match (level, found.next()) {
                (Level::Rest, _) => return Some(self.named(&names)), // "a/#" takes "a", too
                (_, None) => return None,
                (Level::Text(text), Some(found)) if text != found => return None,
                (Level::Named(name), Some(found)) => names.push((name, found)),
                (Level::Text(_) | Level::Any, Some(_)) => {}
            }
        }
        if found.next().is_some() { None } else { Some(self.named(&names)) }
    }

    fn named(&self, names: &[(&String, &str)]) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Named(name) => {
                let level = names.iter().find(|(known, _)| *known == name);
                level.map(|(_, level)| (*level).to_owned()).unwrap_or_default()
            }
        };
        allowed_name(&self.device.iter().map(part).collect::<String>())
    }

    /// Whether some topic fits both: a broker may then deliver its messages twice.
    pub fn overlaps(&self, other: &Self) -> bool {
        fn overlap(one: &[Level], other: &[Level]) -> bool {
            match (one, other) {
                ([Level::Rest], _) | (_, [Level::Rest]) | ([], []) => true,
                ([Level::Text(a), one @ ..], [Level::Text(b), other @ ..]) => a == b && overlap(one, other),
                ([_, one @ ..], [_, other @ ..]) => overlap(one, other),
                _ => false,
            }
        }
        overlap(&self.levels, &other.levels)
    }
}

fn parts(device: &str, levels: &[Level]) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = device;
    while let Some((text, from)) = rest.split_once('{') {
        let Some((name, after)) = from.split_once('}') else {
            return Err(format!("wants a closing }} in {device:?}"));
        };
        if !levels.contains(&Level::Named(name.into())) {
            return Err(format!("wants a level {{{name}}} in the topic, for the device's name {device:?}"));
        }
        parts.extend((!text.is_empty()).then(|| Part::Text(text.into())));
        parts.push(Part::Named(name.into()));
        rest = after;
    }
    parts.extend((!rest.is_empty()).then(|| Part::Text(rest.into())));
    if parts.is_empty() { Err("wants a device's name".into()) } else { Ok(parts) }
}

/// `name` itself if it may stand in a frame. Else each other character becomes `_`, it is cut at 55, and
/// `-` with eight hex digits of its FNV-1a hash are added, so that `Küche` and `K_che` stay two devices.
pub fn allowed_name(name: &str) -> String {
    if is_name(name) {
        return name.into();
    }
    let readable = name.chars().take(NAME_CHARS_MAX - 9);
    let readable: String = readable
        .map(|letter| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '_' })
        .collect();
    // 32-bit FNV-1a; offset basis and prime as Fowler, Noll and Vo give them.
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{readable}-{hash:08x}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topics_give_devices() {
        for (topic, device, message, found) in [
            ("zigbee2mqtt/{device}", "{device}", "zigbee2mqtt/kitchen", Some("kitchen")),
            ("zigbee2mqtt/{device}", "{device}", "zigbee2mqtt/kitchen/availability", None),
            ("zigbee2mqtt/{device}", "{device}", "zigbee2mqtt", None),
            ("tele/{device}/SENSOR", "tasmota-{device}", "tele/boiler/SENSOR", Some("tasmota-boiler")),
            ("tele/{device}/SENSOR", "{device}", "tele/boiler/STATE", None),
            ("plant/{site}/+/{node}/#", "{site}.{node}", "plant/a/x/b/c/d", Some("a.b")),
            ("plant/{site}/+/{node}/#", "{site}.{node}", "plant/a/x/b", Some("a.b")),
            ("meter", "meter-1", "meter", Some("meter-1")),
        ] {
            let pattern = TopicPattern::parse(topic, device).unwrap();
            assert_eq!(pattern.device(message).as_deref(), found, "{topic} {message}");
        }
        let pattern = TopicPattern::parse("plant/{site}/+/{node}/#", "{node}").unwrap();
        assert_eq!(pattern.filter(), "plant/+/+/+/#");
    }

    #[test]
    fn a_wrong_pattern_is_refused() {
        for (topic, device) in [
            ("", "d"),
            ("a/#/b", "d"),
            ("a/b+", "d"),
            ("a/{b}c", "d"),
            ("a/{}", "d"),
            ("a/{x}/{x}", "{x}"),
            ("a/{x}", "{y}"),
            ("a/{x}", "{x"),
            ("a/{x}", ""),
        ] {
            assert!(TopicPattern::parse(topic, device).is_err(), "{topic} {device}");
        }
    }

    #[test]
    fn overlaps_are_seen() {
        let pattern = |topic| TopicPattern::parse(topic, "d").unwrap();
        for (one, other, overlap) in [
            ("a/{x}", "a/b", true),
            ("a/{x}", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "+/b/c", true),
            ("a/b", "a/c", false),
            ("#", "x/y", true),
        ] {
            assert_eq!(pattern(one).overlaps(&pattern(other)), overlap, "{one} {other}");
            assert_eq!(pattern(other).overlaps(&pattern(one)), overlap, "{other} {one}");
        }
    }

    #[test]
    fn other_letters_are_replaced_and_names_stay_apart() {
        assert_eq!(allowed_name("0x00158d0001a2b3c4"), "0x00158d0001a2b3c4");
        assert_eq!(allowed_name("Living Room"), "Living_Room-2fedc87b");
        assert_ne!(allowed_name("K\u{fc}che"), allowed_name("K\u{f6}che"));
        assert_ne!(allowed_name(&"x".repeat(65)), allowed_name(&"x".repeat(66)));
    }

    proptest! {
        #[test]
        fn every_name_is_allowed(name in ".{0,100}") {
            prop_assert!(is_name(&allowed_name(&name)), "{}", allowed_name(&name));
        }

        #[test]
        fn any_topic_is_taken_or_left(topic in ".{0,60}") {
            let pattern = TopicPattern::parse("+/{a}/#", "{a}").unwrap();
            prop_assert!(pattern.device(&topic).is_none_or(|device| is_name(&device)));
        }
    }
}
