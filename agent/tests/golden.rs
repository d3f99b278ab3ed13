//! Frames of format version 1, kept for ever: what they hold must always decode to the same readings.
//!
//! `golden/v1/NAME.hex` is a frame without its closing 0x00, `NAME.txt` its header and its readings.
//! Files are never edited after a release. With `INGOT_WRITE_GOLDEN=1` the test writes missing ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fmt::Write;
use std::path::PathBuf;

use ingot_agent::{Batch, Decoder, Drop, Frame, Quality, Reading};

type Wide = Batch<32, 8, 8192>;

/// 2026-01-01T00:00:00Z
const START_MS: i64 = 1_767_225_600_000;

fn good(seq: u64, at_ms: i64, value: f64) -> Reading {
    Reading { seq, at_ms, value, quality: Quality::GOOD }
}

/// A small generator of numbers, so that the cases are the same for ever.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// One climate sensor, once a second, with a gap and values that the range check flagged.
fn climate(batch: &mut Wide) {
    let device = batch.device("bench-bme280", 3).unwrap();
    let ids = ["temperature", "humidity", "pressure"].map(|channel| batch.series(device, channel).unwrap());
    let mut state = 1;
    let mut values = [2153, 4512, 101_325_i64];
    for i in 0..300 {
        let channel = i as usize % 3;
        values[channel] += next(&mut state) as i64 % 7 - 3;
        let mut reading = good(i, START_MS + (i / 3 * 1000) as i64, values[channel] as f64 / 100.0);
        match i {
            90..93 => reading.quality = Quality::MISSING,
            150 => {
                reading =
                    Reading { value: 99.99, quality: Quality::OUT_OF_RANGE.with(Quality::STEP), ..reading }
            }
            _ => {}
        }
        batch.push(ids[channel], &reading).unwrap();
    }
}

/// Six devices with the same two channels, heard in no fixed order, their clocks off by milliseconds.
fn fleet(batch: &mut Wide) {
    let mut state = 7;
    let mut at_ms = START_MS;
    let mut seqs = [0; 6];
    let ids: Vec<_> = (0..6)
        .map(|i| {
            let device = batch.device(&format!("node-{i:02}"), 40 + i).unwrap();
            ["voltage", "vibration"].map(|channel| batch.series(device, channel).unwrap())
        })
        .collect();
    for _ in 0..120 {
        let node = next(&mut state) as usize % 6;
        at_ms += 900 + next(&mut state) as i64 % 200;
        for (channel, value) in
            [12_000 + next(&mut state) % 40, next(&mut state) % 5 * 125].into_iter().enumerate()
        {
            batch.push(ids[node][channel], &good(seqs[node], at_ms, value as f64 / 1000.0)).unwrap();
            seqs[node] += 1;
        }
    }
}

/// Values without decimals, jumps of time and `seq`, last places, and a change of decimals.
fn odd(batch: &mut Wide) {
    let device = batch.device("d", u64::MAX).unwrap();
    let id = batch.series(device, "x").unwrap();
    let values = [
        1.0,
        1.5,
        1.25,
        0.1 + 0.2,
        -0.0,
        f64::NAN,
        f64::from_bits(0xFFF8_0000_0000_0001),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::MAX,
        1e18,
        -1e18,
        2.0 / 3.0,
        1e-12,
        0.0,
    ];
    let steps = [0, 1000, 1000, 1000, 1, -5, 86_400_000, 1000, i64::MAX];
    let (mut seq, mut at_ms) = (i64::MAX as u64 - 5, START_MS);
    for i in 0..120 {
        at_ms = at_ms.wrapping_add(steps[i % if i < 100 { 4 } else { steps.len() }]);
        seq = seq.wrapping_add(if i % 9 == 8 { u64::MAX - 100 } else { 1 });
        batch.push(id, &good(seq, at_ms, values[i * i % values.len()])).unwrap();
    }
}

/// No readings, only what was given up.
fn drops(batch: &mut Wide) {
    for (cause, readings) in Drop::ALL.into_iter().zip([1, 300, 70_000, u64::MAX]) {
        batch.count_drop(cause, readings);
    }
}

/// Readings whose time counts from the sealer's boot, among others: one has a wall clock of its own, one
/// says that its own clock is unset.
fn unclocked(batch: &mut Wide) {
    let device = batch.device("cellar", 5).unwrap();
    let id = batch.series(device, "humidity").unwrap();
    for i in 0..40 {
        let (at_ms, quality) = match i % 10 {
            8 => (START_MS + i as i64, Quality::GOOD),
            9 => (77, Quality::CLOCK_UNSET),
            5 => (250 * i as i64, Quality::FROM_BOOT.with(Quality::MISSING)),
            _ => (250 * i as i64, Quality::FROM_BOOT),
        };
        batch.push(id, &Reading { seq: i, at_ms, value: 40.0 + i as f64 / 10.0, quality }).unwrap();
    }
}

fn text(bytes: &mut [u8]) -> String {
    let frame = Frame::open(bytes).unwrap();
    let mut out = String::new();
    let drops = Drop::ALL.map(|cause| frame.dropped(cause).to_string()).join(",");
    let (gateway, boot, seq, readings) = (frame.gateway(), frame.boot(), frame.seq(), frame.readings());
    let (sealed_ms, uptime_ms) = (frame.sealed_ms(), frame.uptime_ms());
    writeln!(out, "{gateway} {boot} {seq} {sealed_ms} {uptime_ms} {readings} {drops}").unwrap();
    let mut decoder = Decoder::<32, 8>::new();
    decoder.start(&frame);
    while let Some((series, r)) = decoder.next(&frame).unwrap() {
        let (device, boot, channel) = decoder.series(series);
        let value = match r.quality.contains(Quality::MISSING) {
            true => "-".to_owned(),
            false => format!("{:016x}", r.value.to_bits()),
        };
        writeln!(out, "{device} {boot} {channel} {} {} {value} {}", r.seq, r.at_ms, r.quality.0).unwrap();
    }
    out
}

fn check(name: &str, uptime_ms: u64, fill: fn(&mut Wide)) {
    let mut batch = Box::new(Wide::new("golden-gateway", 0x0123_4567_89ab_cdef).unwrap());
    batch.seal(0, 0, |_| {});
    fill(&mut batch);
    let mut bytes = Vec::new();
    batch.seal(START_MS + 1234, uptime_ms, |part| bytes.extend_from_slice(part));
    bytes.pop();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();

    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let (hex_path, text_path) = (folder.join(format!("{name}.hex")), folder.join(format!("{name}.txt")));
    if std::env::var_os("INGOT_WRITE_GOLDEN").is_some() && !hex_path.exists() {
        std::fs::write(&hex_path, &hex).unwrap();
        std::fs::write(&text_path, text(&mut bytes.clone())).unwrap();
    }
    let golden = std::fs::read_to_string(hex_path).unwrap();
    let byte = |i| u8::from_str_radix(&golden[i..i + 2], 16).unwrap();
    let mut golden_bytes: Vec<u8> = (0..golden.len()).step_by(2).map(byte).collect();
    assert_eq!(
        text(&mut golden_bytes),
        std::fs::read_to_string(text_path).unwrap(),
        "{name} decodes otherwise"
    );
    assert_eq!(hex, golden, "{name} is encoded otherwise");
}

#[test]
fn golden_climate() {
    check("climate", 86_400_000, climate);
}

#[test]
fn golden_fleet() {
    check("fleet", 3_600_000, fleet);
}

#[test]
fn golden_odd() {
    check("odd", u64::MAX, odd);
}

#[test]
fn golden_drops() {
    check("drops", 0, drops);
}

#[test]
fn golden_dated_from_boot() {
    check("dated_from_boot", 10_000, unclocked);
}

#[test]
fn golden_without_a_date() {
    check("without_a_date", 0, unclocked);
}
