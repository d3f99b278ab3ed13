//! A gateway that starts with a large backlog and gets fresh readings while that drains.

use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ingot_agent::{Batch, Quality, Reading};
use ingot_gateway::spool::{Spool, SpoolConfig, WhenFull};

use crate::Place;
use crate::daemon::Daemon;
use crate::subscriber::{Subscriber, now_ms};

/// Fresh readings a second.
const LIVE_PER_S: u64 = 100;

pub fn measure(place: &Place, dir: &Path, gigabytes: f64, seconds: u64) {
    let frame = frame();
    for (limits, settings) in
        [("AWS's limits", ""), ("no limits", "publishes_per_s_max = 0\nbytes_per_s_max = 0")]
    {
        let dir = dir.join(limits.replace(' ', "-"));
        fill(&dir.join("spool"), &frame, (gigabytes * 1e9) as u64);
        drain(place, &dir, gigabytes, seconds, (limits, settings));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

fn drain(place: &Place, dir: &Path, gigabytes: f64, seconds: u64, (limits, settings): (&str, &str)) {
    let subscriber = Subscriber::start(place);
    let settings =
        format!("[batch]\nage_ms_max = 1000\n[spool]\nbytes_max = 1000000000000\n[uplink.mqtt]\n{settings}");
    let started = Instant::now();
    let mut daemon = Daemon::start(place, dir, &settings, Stdio::piped());
    let mut stdin = daemon.stdin();
    subscriber.until(|counts| counts.frames > 0);
    let first = started.elapsed();
    let draining = Instant::now();
    let before = subscriber.counts();
    let mut seq = 0;
    while draining.elapsed() < Duration::from_secs(seconds) {
        live_reading(&mut stdin, seq);
        seq += 1;
        sleep((Duration::from_secs(seq) / LIVE_PER_S as u32).saturating_sub(draining.elapsed()));
    }
    let counts = subscriber.counts();
    let usage = daemon.usage();
    let mut delays = counts.delays_ms;
    delays.sort_unstable();
    let quantile = |q: f64| delays.get(((delays.len() - 1) as f64 * q) as usize).copied().unwrap_or(0);
    assert!(delays.len() as u64 > seq / 2, "{} of {seq} fresh readings came", delays.len());
    println!(
        "backlog   {gigabytes} GB, {limits}: first frame after {:.2} s, drains {:.2} MB/s, RSS at most {} kB; \
         {} fresh readings took {} ms (median), {} ms (p99), {} ms (most), of which up to 1,000 ms in the open batch",
        first.as_secs_f64(),
        (counts.bytes - before.bytes) as f64 / 1e6 / draining.elapsed().as_secs_f64(),
        usage.rss_peak_kb,
        delays.len(),
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
    );
}

fn live_reading(stdin: &mut ChildStdin, seq: u64) {
    let (value, at) = (fastrand::u16(2_000..2_400), now_ms());
    writeln!(
        stdin,
        "{{\"device\":\"live\",\"channel\":\"temperature\",\"value\":{},\"at\":{at},\"seq\":{seq},\"boot\":2}}",
        f64::from(value) / 100.0
    )
    .unwrap();
}

/// The same frame again and again: what is in it does not matter here.
fn fill(dir: &Path, (frame, readings): &(Vec<u8>, u32), bytes: u64) {
    let config = SpoolConfig {
        dir: dir.into(),
        bytes_max: 2 * bytes + (64 << 20),
        segment_bytes_max: 8 << 20,
        fsync_interval_ms: 1_000,
        when_full: WhenFull::Refuse,
        live_share_percent: 20,
        live_lag_ms_max: 30_000,
    };
    let (spool, _) = Spool::open(config).unwrap();
    for _ in 0..bytes / frame.len() as u64 {
        spool.append(frame, *readings, false).unwrap();
    }
    spool.close().unwrap();
}

/// One frame of the default size.
fn frame() -> (Vec<u8>, u32) {
    let mut batch = Box::new(Batch::<4, 4, 65_536>::new("gw", 1_000_000).unwrap());
    let device = batch.device("backlog", 1).unwrap();
    let series = batch.series(device, "temperature").unwrap();
    let mut seq = 0;
    while batch.bytes() < 50_000 {
        let value = f64::from(fastrand::u16(2_000..2_400)) / 100.0;
        batch
            .push(series, &Reading { seq, at_ms: seq as i64 * 1_000, value, quality: Quality::GOOD })
            .unwrap();
        seq += 1;
    }
    let mut frame = Vec::new();
    let sealed = batch.seal(0, 0, |piece| frame.extend_from_slice(piece));
    (frame, sealed.readings)
}
