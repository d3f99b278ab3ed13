//! Names and keys: the topic and the bronze key of a frame follow from its identity alone.
//!
//! A retry therefore writes the same object. Both are part of the contract with the cloud
//! (`docs/wire-format.md`) and never change for a sealed frame, its date included.

use crate::clock;

/// Longest name of a gateway, device or channel, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Whether `name` can stand in a topic, an object key and a frame: 1 to 64 of `[A-Za-z0-9._-]`.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// What identifies a sealed frame, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The gateway that sealed it.
    pub gateway: String,
    /// The gateway's run.
    pub boot: u64,
    /// The frame's position in that run.
    pub seq: u64,
    /// When it was sealed: milliseconds since 1970-01-01 UTC; its date is the `dt` of topic and key.
    pub sealed_ms: i64,
}

impl Identity {
    /// `ingot/bronze/<gateway>/<dt>/<boot>-<seq>`, below `prefix` (with AWS Basic Ingest
    /// `$aws/rules/<rule>/`, else empty).
    pub fn topic(&self, prefix: &str) -> String {
        let Self { gateway, boot, seq, .. } = self;
        format!("{prefix}ingot/bronze/{gateway}/{}/{boot:016x}-{seq:010}", self.dt())
    }

    /// `bronze/sensor_readings/dt=<dt>/gateway=<gateway>/<boot>-<seq>.ingot`.
    pub fn object_key(&self) -> String {
        let Self { gateway, boot, seq, .. } = self;
        format!("bronze/sensor_readings/dt={}/gateway={gateway}/{boot:016x}-{seq:010}.ingot", self.dt())
    }

    fn dt(&self) -> String {
        clock::date_utc(self.sealed_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_and_key_are_pinned() {
        let identity =
            Identity { gateway: "gw-1".into(), boot: 0x12ab, seq: 7, sealed_ms: 1_767_225_599_999 };
        assert_eq!(identity.topic(""), "ingot/bronze/gw-1/2025-12-31/00000000000012ab-0000000007");
        assert_eq!(
            identity.topic("$aws/rules/ingot_bronze/"),
            "$aws/rules/ingot_bronze/ingot/bronze/gw-1/2025-12-31/00000000000012ab-0000000007"
        );
        assert_eq!(
            identity.object_key(),
            "bronze/sensor_readings/dt=2025-12-31/gateway=gw-1/00000000000012ab-0000000007.ingot"
        );
    }

    #[test]
    fn names_that_would_break_a_topic_or_path_are_refused() {
        for good in ["a", "gw-1", "A.b_c-9", &"x".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a/b", "a b", "a=b", "a+", "#", "é", "a\n", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
