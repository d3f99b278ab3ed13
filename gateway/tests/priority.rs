//! Priority channels in the real program, cut off from its lake for longer than its spool holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/daemon.rs"]
mod daemon;

use std::fs;
use std::path::Path;

use common::Bronze;
use daemon::Daemon;
use ingot_agent::Drop;
use ingot_gateway::health::Snapshot;

/// One in `EVERY` readings is of the channel with priority.
const EVERY: u64 = 40;
const READINGS: u64 = 40_000;

fn config(dir: &Path, channels: &str) -> String {
    format!(
        "drain_ms_max = 60000\n[batch]\nframe_bytes_max = 1000\nage_ms_max = 20\n\
         [spool]\nbytes_max = 65536\nsegment_bytes_max = 8192\nfsync_interval_ms = 50\n\
         priority_channels = [{channels}]\n\
         [uplink]\nbackoff_base_ms = 10\nbackoff_cap_ms = 50\n\
         [uplink.lake]\nurl = \"file://{}/lake\"\n",
        dir.display()
    )
}

fn lines(from: u64, to: u64) -> String {
    let line = |seq| {
        let channel = if seq % EVERY == 0 { "voltage" } else { "temperature" };
        // 24 random bits cost three bytes a reading: all of them together are more than the cap.
        let value = 3.0 + f64::from(fastrand::u32(..1 << 24)) / f64::from(1 << 24);
        format!(
            "{{\"device\":\"d\",\"channel\":\"{channel}\",\"value\":{value},\"at\":{},\"seq\":{seq},\"boot\":1}}\n",
            1_767_225_600_000 + seq
        )
    };
    (from..to).map(line).collect()
}

#[test]
fn an_outage_longer_than_the_spool_costs_no_priority_reading_nor_does_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("lake"), "in the way").unwrap();
    let sealed =
        |upto: u64| move |now: &Snapshot| now.readings.produced == upto && now.readings.sealed == upto;
    let half = READINGS / 2;
    let mut first = Daemon::start(dir, &config(dir, "\"voltage\""), &[]);
    first.feed(&lines(0, half));
    let status = first.until("all is sealed", sealed(half));
    assert!(status.readings.dropped["spool_full"] > 0 && status.spool.bytes <= 65_536);
    let priority = status.spool.priority.unwrap();
    assert_eq!((priority.readings, priority.dropped_readings), (half / EVERY, 0));
    first.signal("-KILL");
    drop(first);

    // Another run, of the same settings, and then one that knows of no priority.
    let mut second = Daemon::start(dir, &config(dir, "\"voltage\""), &[]);
    second.feed(&lines(half, READINGS));
    let status = second.until("all is sealed again", sealed(half));
    assert_eq!(status.spool.priority.unwrap().readings, READINGS / EVERY);
    second.signal("-KILL");
    drop(second);
    let third = Daemon::start(dir, &config(dir, ""), &[]);
    third.until("it runs", |now| now.spool.priority.as_ref().is_some_and(|of| of.frames > 0));
    fs::remove_file(dir.join("lake")).unwrap();
    let (output, summary) = third.finish();
    assert_eq!(output.status.code(), Some(0), "{summary}");
    assert_eq!(summary["in_spool_bytes"], 0);

    let bronze = Bronze::read(&dir.join("lake"));
    assert!(bronze.rows.values().all(|times| *times == 1), "none comes twice");
    let of = |channel: &str| bronze.rows.keys().filter(|row| row.3 == channel).count() as u64;
    assert_eq!(of("voltage"), READINGS / EVERY, "all priority readings are there");
    let dropped = bronze.dropped[Drop::SpoolFull as usize];
    assert!(dropped > READINGS / 4, "{dropped}");
    assert_eq!(of("voltage") + of("temperature") + dropped, READINGS);
}

#[test]
fn without_priority_channels_there_is_one_spool() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut daemon = Daemon::start(dir, &config(dir, ""), &[]);
    daemon.feed(&lines(0, 1_000));
    let status = daemon.until("all is sealed", |now| now.readings.sealed == 1_000);
    assert!(status.spool.priority.is_none());
    let (output, summary) = daemon.finish();
    assert_eq!((output.status.code(), &summary["acked_readings"]), (Some(0), &1_000.into()));
    assert!(!dir.join("spool/priority").exists());
}
