//! Each table of the settings file: its keys, their defaults and what is allowed.

#[cfg(feature = "aws")]
mod bulk;
mod clock;
mod health;
mod mqtt;
mod priority;
mod range;
mod source;

use std::env;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use super::keys::Keys;
use super::{BatchConfig, Config, UplinkConfig};
use crate::key::is_name;
use crate::spool::{FRAME_BYTES_MAX, SpoolConfig, WhenFull};
use crate::uplink::BackoffConfig;
use crate::uplink::lake::LakeConfig;
use crate::uplink::mqtt::TlsPaths;

/// Every key of the file. `None` only after a problem was noted.
pub(super) fn config(mut keys: Keys<'_>) -> Option<Config> {
    let name = keys.text("name").unwrap_or_else(|| "gateway".into());
    if !is_name(&name) {
        keys.problem("name", "wants 1 to 64 characters of A-Z a-z 0-9 . _ -");
    }
    let drain_ms_max = keys.number("drain_ms_max", 30_000, 0..=3_600_000);
    let sources = source::all(&mut keys, &name);
    let (range, range_policy, contract_updates) = range::read(keys.below("range"));
    let batch = read_batch(keys.below("batch"));
    let clock = clock::read(keys.below("clock"));
    let (spool, priority_channels) = read_spool(keys.below("spool"));
    let mut uplink_keys = keys.below("uplink");
    let bulk_keys = uplink_keys.has("bulk").then(|| uplink_keys.below("bulk"));
    let (uplink, backoff) = read_uplink(uplink_keys, &name, batch.frame_bytes_max as u64);
    #[cfg(feature = "aws")]
    let bulk = bulk_keys.map(|keys| match &uplink {
        Some(UplinkConfig::Mqtt(mqtt)) => bulk::read(keys, Some(mqtt)),
        _ => bulk::read(keys, None),
    });
    #[cfg(not(feature = "aws"))]
    if let Some(keys) = bulk_keys {
        keys.problem("bucket", "this build has no direct path to S3; build with --features aws");
    }
    let health = health::read(keys.below("health"), &spool.dir);
    keys.end();
    Some(Config {
        name,
        drain_ms_max,
        sources,
        range: range?,
        range_policy,
        contract_updates,
        batch,
        clock,
        spool,
        priority_channels,
        uplink: uplink?,
        backoff,
        #[cfg(feature = "aws")]
        bulk: bulk.flatten(),
        health: health?,
    })
}

fn read_batch(mut keys: Keys<'_>) -> BatchConfig {
    let batch = BatchConfig {
        frame_bytes_max: keys.number("frame_bytes_max", 50_000, 256..=FRAME_BYTES_MAX as u64) as usize,
        age_ms_max: keys.number("age_ms_max", 5_000, 1..=3_600_000),
    };
    keys.end();
    batch
}

fn read_spool(mut keys: Keys<'_>) -> (SpoolConfig, Vec<String>) {
    let dir = keys.text("dir").map_or_else(default_spool_dir, PathBuf::from);
    let segment_bytes_max = keys.number("segment_bytes_max", 8 << 20, 4_096..=1 << 30);
    let bytes_max = keys.number("bytes_max", 1 << 30, 16_384..=1 << 44);
    // One segment is being sent, one written, and with drop_oldest one more is given up at a time.
    if bytes_max < 4 * segment_bytes_max {
        let least = 4 * segment_bytes_max;
        keys.problem(
            "bytes_max",
            format!("wants at least four times segment_bytes_max: {least} and not {bytes_max}"),
        );
    }
    let spool = SpoolConfig {
        dir,
        bytes_max,
        segment_bytes_max,
        fsync_interval_ms: keys.number("fsync_interval_ms", 1_000, 0..=60_000),
        when_full: keys.choice(
            "when_full",
            WhenFull::DropOldest,
            &[("drop_oldest", WhenFull::DropOldest), ("refuse", WhenFull::Refuse)],
        ),
        live_share_percent: keys.number("live_share_percent", 20, 0..=90) as u8,
        live_lag_ms_max: keys.number("live_lag_ms_max", 30_000, 1_000..=3_600_000),
    };
    let priority_channels = priority::channels(&mut keys);
    keys.end();
    (spool, priority_channels)
}

/// `$XDG_STATE_HOME/ingot/spool`, else `~/.local/state/ingot/spool`, else `./ingot-spool`.
fn default_spool_dir() -> PathBuf {
    let dir = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = dir("XDG_STATE_HOME").or_else(|| Some(dir("HOME")?.join(".local/state")));
    state.map_or_else(|| "ingot-spool".into(), |state| state.join("ingot/spool"))
}

fn read_uplink(
    mut keys: Keys<'_>,
    name: &str,
    frame_bytes_max: u64,
) -> (Option<UplinkConfig>, BackoffConfig) {
    let backoff = BackoffConfig {
        base_ms: keys.number("backoff_base_ms", 500, 1..=60_000),
        cap_ms: keys.number("backoff_cap_ms", 60_000, 1..=3_600_000),
    };
    if backoff.base_ms > backoff.cap_ms {
        keys.problem("backoff_cap_ms", format!("wants at least backoff_base_ms: {}", backoff.base_ms));
    }
    let (has_lake, has_mqtt) = (keys.has("lake"), keys.has("mqtt"));
    if has_lake == has_mqtt {
        let what = if has_lake {
            "[uplink.lake] and [uplink.mqtt] exclude each other"
        } else {
            "nowhere to send to: add [uplink.mqtt] or [uplink.lake], or start with --lake file:///path"
        };
        keys.problem("", what);
    }
    let (lake, mqtt) = (keys.below("lake"), keys.below("mqtt"));
    let uplink = match (has_lake, has_mqtt) {
        (true, _) => read_lake(lake),
        (_, true) => mqtt::read(mqtt, name, frame_bytes_max).map(UplinkConfig::Mqtt),
        _ => None,
    };
    keys.end();
    (uplink, backoff)
}

fn read_lake(mut keys: Keys<'_>) -> Option<UplinkConfig> {
    let url = keys.text_needed("url", "wants file:///absolute/path");
    let path = url.strip_prefix("file://").filter(|path| path.starts_with('/'));
    if path.is_none() && !url.is_empty() {
        keys.problem("url", "wants file:///absolute/path; a lake elsewhere is reached over MQTT");
    }
    if path.is_some_and(|path| path.contains(['%', '?', '#'])) {
        keys.problem("url", "wants a plain path, without % ? #");
    }
    keys.end();
    Some(UplinkConfig::Lake(LakeConfig { root: path?.into() }))
}

/// Whether plain TCP to this host stays on the machine.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn read_tls(keys: &mut Keys<'_>) -> Option<TlsPaths> {
    if !keys.has("tls") {
        return None;
    }
    let mut tls = keys.below("tls");
    let mut file = |key, what: &str| {
        let path = PathBuf::from(tls.text_needed(key, what));
        if !path.as_os_str().is_empty()
            && let Err(error) = fs::File::open(&path)
        {
            // Not what stands there: somebody may have put the key itself.
            tls.problem(key, format!("wants the path of a file, and that cannot be read: {error}"));
        }
        path
    };
    let paths = TlsPaths {
        ca: file("ca", "wants the PEM file of the broker's root certificate"),
        cert: file("cert", "wants the PEM file of this gateway's certificate"),
        key: file("key", "wants the PEM file of its private key"),
    };
    tls.end();
    Some(paths)
}
