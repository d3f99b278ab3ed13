//! The table `[uplink.mqtt]`: how the broker is reached, and how much it is sent.

use super::{Keys, is_loopback, read_tls};
use crate::key::Identity;
use crate::uplink::limits::{self, HEADER_BYTES_MAX, Limits};
use crate::uplink::mqtt::MqttConfig;

/// What AWS IoT Core wants on port 443 for MQTT with a client certificate ("Device communication
/// protocols" in its developer guide).
const AWS_ALPN: &str = "x-amzn-mqtt-ca";

pub(super) fn read(mut keys: Keys<'_>, name: &str, frame_bytes_max: u64) -> Option<MqttConfig> {
    let host = keys.text_needed("host", "wants the broker's name or address");
    let tls = read_tls(&mut keys);
    let insecure = keys.flag("insecure", false);
    if tls.is_none() && !keys.has("tls") && !is_loopback(&host) && !insecure && !host.is_empty() {
        keys.problem(
            "tls",
            "is missing: plain TCP goes to this machine only; give ca, cert and key, or insecure = true",
        );
    }
    let client_id = keys.text("client_id").unwrap_or_else(|| name.into());
    if client_id.is_empty() || client_id.len() > 128 {
        keys.problem("client_id", "wants 1 to 128 bytes");
    }
    let topic_prefix = keys.text("topic_prefix").unwrap_or_default();
    let wrong = topic_prefix.contains(['+', '#', '\0']) || topic_prefix.len() > 100;
    if wrong || !(topic_prefix.is_empty() || topic_prefix.ends_with('/')) {
        keys.problem("topic_prefix", "wants \"\" or at most 100 bytes ending in /, without + and #");
    }
    if let Some(problem) = limits::topic_problem(&longest_topic(&topic_prefix, name)) {
        keys.problem("topic_prefix", format!("makes topics that AWS IoT Core refuses: {problem}"));
    }
    let port = keys.number("port", if tls.is_some() { 8883 } else { 1883 }, 1..=65_535) as u16;
    let alpn = keys.text("alpn").or_else(|| (port == 443).then(|| AWS_ALPN.into()));
    let status_topic = keys.text("status_topic");
    if status_topic.as_ref().is_some_and(|topic| topic.is_empty() || topic.contains(['+', '#', '\0'])) {
        keys.problem("status_topic", "wants a topic, without + and #");
    }
    if let Some(problem) = status_topic.as_deref().and_then(limits::topic_problem) {
        keys.problem("status_topic", format!("is refused by AWS IoT Core: {problem}"));
    }
    let config = MqttConfig {
        host,
        port,
        client_id,
        topic_prefix,
        keep_alive_s: keys.number("keep_alive_s", 30, 5..=1_200) as u16,
        connect_ms_max: keys.number("connect_ms_max", 10_000, 100..=120_000),
        in_flight_max: keys.number("in_flight_max", 50, 1..=100) as u16,
        limits: read_limits(&mut keys, frame_bytes_max),
        alpn: alpn.filter(|name| !name.is_empty()),
        status_topic,
        tls,
    };
    keys.end();
    Some(config)
}

fn read_limits(keys: &mut Keys<'_>, frame_bytes_max: u64) -> Limits {
    let aws = Limits::aws(frame_bytes_max);
    let limits = Limits {
        publishes_per_s_max: keys.number("publishes_per_s_max", aws.publishes_per_s_max.into(), 0..=1_000_000)
            as u32,
        bytes_per_s_max: keys.number("bytes_per_s_max", aws.bytes_per_s_max, 0..=1 << 40),
        in_flight_bytes_max: keys.number("in_flight_bytes_max", aws.in_flight_bytes_max, 1..=1 << 30),
        frame_bytes_max,
    };
    if limits.publishes_per_s_max == 1 {
        keys.problem("publishes_per_s_max", "wants 0 (no limit) or at least 2 and not 1");
    }
    let least = 2 * (frame_bytes_max + HEADER_BYTES_MAX);
    if limits.bytes_per_s_max > 0 && limits.bytes_per_s_max < least {
        keys.problem(
            "bytes_per_s_max",
            format!(
                "wants 0 (no limit) or at least {least}, twice batch.frame_bytes_max with a header, and not {}",
                limits.bytes_per_s_max
            ),
        );
    }
    limits
}

/// All topics of a gateway are as long as this one.
fn longest_topic(prefix: &str, name: &str) -> String {
    Identity { gateway: name.into(), boot: 0, seq: 0, sealed_ms: 0 }.topic(prefix)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::config::{Config, ConfigError, Overrides, UplinkConfig};
    use crate::uplink::limits::Limits;
    use crate::uplink::mqtt::MqttConfig;

    fn mqtt(keys: &str) -> Result<MqttConfig, ConfigError> {
        let text = format!("[uplink.mqtt]\nhost = \"localhost\"\n{keys}");
        Config::from_toml(&text, Overrides::default()).map(|config| match config.uplink {
            UplinkConfig::Mqtt(mqtt) => mqtt,
            UplinkConfig::Lake(_) => panic!("MQTT was configured"),
        })
    }

    #[test]
    fn the_defaults_are_those_of_aws_and_can_be_lifted() {
        let config = mqtt("").unwrap();
        assert_eq!((config.limits, config.alpn, config.status_topic), (Limits::aws(50_000), None, None));
        let own =
            mqtt("publishes_per_s_max = 0\nbytes_per_s_max = 0\nin_flight_bytes_max = 10000000").unwrap();
        assert_eq!((own.limits.publishes_per_s_max, own.limits.bytes_per_s_max), (0, 0));
    }

    #[test]
    fn port_443_speaks_the_alpn_of_aws_unless_told_otherwise() {
        assert_eq!(mqtt("port = 443").unwrap().alpn.as_deref(), Some("x-amzn-mqtt-ca"));
        assert_eq!(mqtt("port = 443\nalpn = \"mqtt\"").unwrap().alpn.as_deref(), Some("mqtt"));
        assert_eq!(mqtt("port = 443\nalpn = \"\"").unwrap().alpn, None);
    }

    #[test]
    fn limits_and_topics_that_cannot_work_are_told() {
        for (keys, told) in [
            (
                "bytes_per_s_max = 100000",
                "uplink.mqtt.bytes_per_s_max: wants 0 (no limit) or at least 101024",
            ),
            ("publishes_per_s_max = 1", "uplink.mqtt.publishes_per_s_max: wants 0"),
            ("topic_prefix = \"a/b/c/d/\"", "uplink.mqtt.topic_prefix: makes topics"),
            ("status_topic = \"a/#\"", "uplink.mqtt.status_topic: wants a topic"),
        ] {
            let error = mqtt(keys).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
