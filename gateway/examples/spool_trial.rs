//! Fills a spool, opens it again and drains it, and prints what that costs: memory, time, flash.
//!
//! `cargo run --release -p ingot-gateway --example spool_trial -- --gigabytes 10 [--dir DIR]`

use std::path::PathBuf;
use std::time::Instant;
use std::{fs, io};

use clap::Parser;
use ingot_agent::{Batch, Quality, Reading};
use ingot_gateway::spool::{Spool, SpoolConfig, WhenFull};

/// Frames between two calls of sync, as an interval would make them.
const FRAMES_A_SYNC: u64 = 200;

#[derive(Parser)]
struct Arguments {
    /// How much to put into the spool
    #[arg(long, default_value_t = 1.0)]
    gigabytes: f64,
    /// An empty directory; it is removed at the end. Default: below the system's temporary directory
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let dir = arguments
        .dir
        .unwrap_or_else(|| std::env::temp_dir().join(format!("ingot-spool-trial-{}", std::process::id())));
    fs::create_dir(&dir)?;
    let tried = trial(&dir, (arguments.gigabytes * 1e9) as u64);
    fs::remove_dir_all(&dir)?;
    tried
}

fn trial(dir: &std::path::Path, bytes_wanted: u64) -> anyhow::Result<()> {
    let config = SpoolConfig {
        dir: dir.into(),
        bytes_max: 2 * bytes_wanted + (64 << 20),
        segment_bytes_max: 8 << 20,
        fsync_interval_ms: 1_000,
        when_full: WhenFull::Refuse,
        live_share_percent: 20,
        live_lag_ms_max: 30_000,
    };
    let (frame, readings) = frame()?;
    println!("frame      {} bytes, {readings} readings; RSS {} at the start", frame.len(), rss()?);

    let (spool, _) = Spool::open(config.clone())?;
    let started = Instant::now();
    let frames = bytes_wanted.div_ceil(frame.len() as u64);
    for index in 0..frames {
        spool.append(&frame, readings, false)?;
        if index % FRAMES_A_SYNC == FRAMES_A_SYNC - 1 {
            spool.sync()?;
        }
    }
    spool.sync()?;
    let state = spool.state();
    println!("append     {}, RSS {}", rate(state.readings, started), rss()?);
    println!(
        "flash      {:.4} bytes a reading, {} bytes and {} fsyncs for {} readings",
        state.bytes_written as f64 / state.readings_appended as f64,
        state.bytes_written,
        state.fsyncs,
        state.readings_appended
    );
    // As after a kill: nothing is closed in order.
    drop(spool);

    let started = Instant::now();
    let (spool, found) = Spool::open(config)?;
    println!(
        "open       {:.3} s: {} of {} segments read, {} frames found, RSS {}",
        started.elapsed().as_secs_f64(),
        found.segments_read,
        found.segments,
        found.frames,
        rss()?
    );

    let started = Instant::now();
    let mut taken = 0;
    let mut peak_kb = 0;
    while let Some(frame) = spool.take(Instant::now(), 50)? {
        spool.ack(frame.position);
        taken += u64::from(frame.readings);
        if taken % (10_000 * u64::from(readings)) == 0 {
            peak_kb = peak_kb.max(rss_kb()?);
        }
    }
    spool.close()?;
    println!("take, ack  {}, RSS at most {peak_kb} kB", rate(taken, started));
    anyhow::ensure!(taken == frames * u64::from(readings), "{taken} readings came back");
    anyhow::ensure!(spool.state().bytes == 0, "the spool is not empty: {:?}", spool.state());
    Ok(())
}

/// One frame of the default size.
fn frame() -> anyhow::Result<(Vec<u8>, u32)> {
    let mut batch = Box::new(Batch::<4, 4, 65_536>::new("trial", 1)?);
    let device = batch.device("device", 1)?;
    let series = batch.series(device, "temperature")?;
    for seq in 0..20_000 {
        let value = f64::from(fastrand::u16(2_000..2_400)) / 100.0;
        let at_ms = seq as i64 * 1_000;
        if batch.bytes() > 50_000
            || batch.push(series, &Reading { seq, at_ms, value, quality: Quality::GOOD }).is_err()
        {
            break;
        }
    }
    let mut frame = Vec::new();
    let sealed = batch.seal(0, 0, |piece| frame.extend_from_slice(piece));
    Ok((frame, sealed.readings))
}

fn rate(readings: u64, since: Instant) -> String {
    let seconds = since.elapsed().as_secs_f64();
    format!("{:.0} readings/s ({readings} in {seconds:.1} s)", readings as f64 / seconds)
}

fn rss() -> io::Result<String> {
    Ok(format!("{} kB", rss_kb()?))
}

/// This process's resident memory, from `/proc/self/status`, in kB.
fn rss_kb() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other("no VmRSS in /proc/self/status"))
}
