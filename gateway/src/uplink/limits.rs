//! What a broker takes, as numbers: AWS IoT Core's limits are the defaults, a broker of one's own may
//! take more.
//!
//! Source of the constants: "AWS IoT Core message broker and protocol limits and quotas", and for the
//! packet's size the CONNACK that AWS IoT Core sends. What a CONNACK says of the connection (receive
//! maximum, maximum packet size) counts on top.

use super::pace::PaceConfig;

/// Publishes that AWS IoT Core takes over one connection in a second; more are discarded without a PUBACK.
pub const AWS_PUBLISHES_PER_S: u32 = 100;

/// Bytes that AWS IoT Core takes over one connection in a second; more are delayed.
pub const AWS_BYTES_PER_S: u64 = 512 * 1024;

/// Longest topic, in bytes; the prefix `$aws/rules/<rule>/` of Basic Ingest is not counted.
pub const AWS_TOPIC_BYTES_MAX: usize = 256;

/// Most `/` in a topic; those of the prefix of Basic Ingest are not counted.
pub const AWS_TOPIC_SLASHES_MAX: usize = 7;

/// Unconfirmed bytes by default: AWS's bytes a second at a round trip of 250 ms. On a slow link this is
/// what a fresh frame waits behind.
pub const IN_FLIGHT_BYTES_MAX: u64 = 128 * 1024;

/// Room for a PUBLISH's header, topic and properties beside the frame, in bytes.
pub const HEADER_BYTES_MAX: u64 = 512;

/// How much may be sent over one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Publishes in any second; 0 is no limit.
    pub publishes_per_s_max: u32,
    /// Bytes of publishes in any second; 0 is no limit.
    pub bytes_per_s_max: u64,
    /// Bytes sent and not confirmed; one frame may always be.
    pub in_flight_bytes_max: u64,
    /// Aimed size of a frame, in bytes: the pace leaves room for one.
    pub frame_bytes_max: u64,
}

impl Limits {
    /// No limit but memory's: for a local far end.
    pub const NONE: Self = Self {
        publishes_per_s_max: 0,
        bytes_per_s_max: 0,
        in_flight_bytes_max: u64::MAX,
        frame_bytes_max: 0,
    };

    /// AWS IoT Core's, for frames of this size.
    pub fn aws(frame_bytes_max: u64) -> Self {
        Self {
            publishes_per_s_max: AWS_PUBLISHES_PER_S,
            bytes_per_s_max: AWS_BYTES_PER_S,
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
            frame_bytes_max,
        }
    }

    /// The pace of a connection.
    pub fn pace(&self) -> PaceConfig {
        PaceConfig {
            publishes_per_s_max: self.publishes_per_s_max,
            bytes_per_s_max: self.bytes_per_s_max,
            packet_bytes_max: self.frame_bytes_max + HEADER_BYTES_MAX,
        }
    }
}

/// What AWS IoT Core would refuse in this topic.
pub fn topic_problem(topic: &str) -> Option<String> {
    let counted = match topic.strip_prefix("$aws/rules/").and_then(|rest| rest.split_once('/')) {
        Some((_rule, rest)) => rest,
        None => topic,
    };
    let slashes = counted.bytes().filter(|byte| *byte == b'/').count();
    if counted.len() > AWS_TOPIC_BYTES_MAX {
        return Some(format!("{} bytes and not at most {AWS_TOPIC_BYTES_MAX}", counted.len()));
    }
    (slashes > AWS_TOPIC_SLASHES_MAX)
        .then(|| format!("{slashes} slashes and not at most {AWS_TOPIC_SLASHES_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_basic_ingest_is_not_counted() {
        let seven = "a/b/c/d/e/f/g/h";
        assert_eq!(topic_problem(seven), None);
        assert_eq!(topic_problem(&format!("$aws/rules/ingot_bronze/{seven}")), None);
        assert!(topic_problem(&format!("x/{seven}")).is_some_and(|why| why.starts_with("8 slashes")));
        assert!(topic_problem(&"x".repeat(257)).is_some_and(|why| why.starts_with("257 bytes")));
        assert_eq!(topic_problem(&format!("$aws/rules/r/{}", "x".repeat(256))), None);
    }
}
