//! What the binary promises: data on stdout, the truth beside it, the same for the same seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Output};

use ingot_sim::Sample;
use ingot_sim::truth::TruthReader;

fn ingot_sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ingot-sim")).args(args).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn sample(line: &str) -> Sample {
    let json: serde_json::Value = serde_json::from_str(line).unwrap();
    Sample {
        device: json["device"].as_str().unwrap().into(),
        boot: json["boot"].as_u64().unwrap(),
        seq: json["seq"].as_u64().unwrap(),
        channel: json["channel"].as_str().unwrap().into(),
        at_ms: json["at"].as_i64().unwrap(),
        value: json["value"].as_f64(),
    }
}

#[test]
fn the_truth_is_what_was_emitted_without_the_resends() {
    let folder = tempfile::tempdir().unwrap();
    let (out, truth) = (folder.path().join("readings.ndjson"), folder.path().join("truth.tsv"));
    let run = ingot_sim(&[
        "fleet",
        "--devices",
        "50",
        "--seconds",
        "120",
        "--rate",
        "2",
        "--seed",
        "7",
        "--out",
        text(&out),
        "--truth",
        text(&truth),
        "--format",
        "json",
    ]);
    assert!(run.status.success(), "{run:?}");
    assert!(run.stdout.is_empty());
    let summary: serde_json::Value = serde_json::from_slice(&run.stderr).unwrap();

    let lines = fs::read_to_string(&out).unwrap();
    let mut emitted: HashMap<_, Sample> = HashMap::new();
    for sample in lines.lines().map(sample) {
        let id = (sample.device.clone(), sample.boot, sample.seq);
        if let Some(first) = emitted.insert(id, sample.clone()) {
            assert_eq!(first, sample, "a resend is the same reading");
        }
    }
    let truth = TruthReader::new(BufReader::new(File::open(&truth).unwrap())).unwrap();
    let mut readings = 0;
    for sample in truth.map(Result::unwrap) {
        readings += 1;
        let id = (sample.device.clone(), sample.boot, sample.seq);
        assert_eq!(emitted.remove(&id), Some(sample));
    }
    assert!(emitted.is_empty(), "emitted but not in the truth");
    assert_eq!(summary["readings"], readings);
    assert_eq!(summary["lines"], lines.lines().count());
    let resends = summary["faults"]["resends"].as_u64().unwrap();
    assert!(resends > 0);
    assert_eq!(lines.lines().count() as u64, readings + resends);
}

#[test]
fn the_same_arguments_give_the_same_bytes() {
    let run = || ingot_sim(&["fleet", "--devices", "20", "--seconds", "30", "--seed", "3"]).stdout;
    let first = run();
    assert!(!first.is_empty());
    assert!(first == run());
}

#[test]
fn without_faults_every_reading_is_in_range() {
    let run = ingot_sim(&["fleet", "--faults", "off", "--seconds", "600"]);
    let lines = String::from_utf8(run.stdout).unwrap();
    for sample in lines.lines().map(sample) {
        let (min, max) = match &*sample.channel {
            "temperature" => (-40.0, 85.0),
            "humidity" => (0.0, 100.0),
            "pressure" => (300.0, 1100.0),
            "voltage" => (0.0, 60.0),
            "vibration" => (0.0, 50.0),
            other => panic!("unknown channel {other}"),
        };
        assert!(sample.value.is_some_and(|value| value >= min && value <= max), "{sample:?}");
    }
}

#[test]
fn a_device_counts_from_zero_and_stops_in_time() {
    let run = ingot_sim(&["device", "--name", "pump-7", "--rate", "50", "--seconds", "1"]);
    assert!(run.status.success());
    let lines = String::from_utf8(run.stdout).unwrap();
    let samples: Vec<_> = lines.lines().map(sample).collect();
    assert_eq!(samples.len(), 50);
    assert!(samples.iter().zip(0..).all(|(s, seq)| s.seq == seq && &*s.device == "pump-7"));
}

#[test]
fn a_device_speaks_frames() {
    let run = ingot_sim(&["device", "--frames", "--rate", "50", "--seconds", "1"]);
    assert!(run.status.success());
    assert_eq!(run.stdout.last(), Some(&0));
    assert_eq!(run.stdout.iter().filter(|byte| **byte == 0).count(), 1);
}

#[test]
fn wrong_usage_exits_with_2_and_failed_work_with_1() {
    for args in [
        &["fleet", "--rate", "0"][..],
        &["fleet", "--faults", "perhaps"],
        &["device", "--name", "no spaces"],
        &["device", "--frame-seconds", "3"],
    ] {
        assert_eq!(ingot_sim(args).status.code(), Some(2), "{args:?}");
    }
    let run = ingot_sim(&["fleet", "--out", "/nowhere/readings.ndjson"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&run.stderr).contains("/nowhere/readings.ndjson"));
}

/// The bar is 100 KB a device; measured as this process's growth while the fleet exists and has run.
#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_devices_fit() {
    use ingot_sim::{FaultProfile, Fleet, FleetConfig};
    let resident_kb = || -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = resident_kb();
    let devices = 10_000;
    let mut fleet = Fleet::new(&FleetConfig {
        devices,
        seed: 1,
        rate: 1.0,
        start_ms: 0,
        seconds: 60,
        faults: FaultProfile::TYPICAL,
    });
    assert!(fleet.by_ref().count() > 500_000);
    let grown = resident_kb().saturating_sub(before);
    println!("{:.2} KB a device", grown as f64 / f64::from(devices));
    assert!(grown < 100 * u64::from(devices), "{grown} KB");
    assert!(grown > 0, "measured at all");
    drop(fleet);
}
