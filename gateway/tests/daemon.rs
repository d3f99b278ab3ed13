//! The real program: standard input to bronze, its exit codes, its end by signals and by `kill -9`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Bronze, Row, objects};

fn gateway() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingot-gateway"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A run into `dir/lake` with a spool in `dir/spool`.
fn run_in(dir: &Path, config: &str) -> Command {
    fs::write(dir.join("gateway.toml"), config).unwrap();
    let mut command = gateway();
    command.arg("run").arg("--config").arg(dir.join("gateway.toml"));
    command.arg("--lake").arg(format!("file://{}/lake", dir.display()));
    command.arg("--spool").arg(dir.join("spool")).args(["--format", "json"]);
    command
}

fn finish(mut child: Child, input: &str) -> (Output, serde_json::Value) {
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let summary = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, summary)
}

fn reading(seq: u64) -> (String, Row) {
    let value = 20.0 + (seq % 7) as f64 / 100.0;
    let line = format!(
        "{{\"device\":\"d{}\",\"channel\":\"temperature\",\"value\":{value},\"at\":{},\"seq\":{seq},\"boot\":9}}\n",
        seq % 3,
        1_767_225_600_000 + seq
    );
    let row = (
        format!("d{}", seq % 3),
        9,
        seq,
        "temperature".into(),
        1_767_225_600_000 + seq as i64,
        value.to_bits(),
        0,
    );
    (line, row)
}

#[test]
fn standard_input_ends_in_bronze_and_the_numbers_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut input: String = (0..5_000).map(|seq| reading(seq).0).collect();
    input.push_str("not a reading\n{\"device\":\"no/name\",\"channel\":\"t\",\"value\":1,\"at\":1}\n");
    input.push_str("{\"device\":\"d\",\"channel\":\"voltage\",\"value\":99,\"at\":1}\n");
    input.push_str("{\"device\":\"d\",\"channel\":\"humidity\",\"value\":101,\"at\":1}\n");
    input.push_str("{\"device\":\"d\",\"channel\":\"humidity\",\"value\":null,\"at\":2}\n");
    let config = "name = \"gw-7\"\n[range]\ndrop_channels = [\"voltage\"]\n[batch]\nframe_bytes_max = 1000\n";
    let (output, summary) = finish(run_in(dir.path(), config).spawn().unwrap(), &input);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    let dropped = serde_json::json!({"range": 1, "malformed": 1, "spool_full": 0, "bad_name": 1});
    assert_eq!(summary["dropped"], dropped);
    assert_eq!((&summary["produced"], &summary["sealed_readings"]), (&5_005.into(), &5_002.into()));
    assert_eq!((&summary["acked_readings"], &summary["in_spool_bytes"]), (&5_002.into(), &0.into()));

    let bronze = Bronze::read(&dir.path().join("lake"));
    assert_eq!(bronze.dropped, [1, 1, 0, 1]);
    assert_eq!(
        (bronze.rows.len(), summary["sealed_frames"].as_u64().unwrap()),
        (5_002, bronze.frames.into())
    );
    assert!((0..5_000).all(|seq| bronze.rows.get(&reading(seq).1) == Some(&1)));
    let flags: Vec<_> = bronze.rows.keys().filter(|row| row.0 == "d").map(|row| (row.2, row.6)).collect();
    assert_eq!(flags, [(1, 1), (2, 4)], "the dropped one has number 0, the next ones are flagged");
    let object = &objects(&dir.path().join("lake/bronze"))[0];
    let key = object.strip_prefix(dir.path().join("lake")).unwrap().to_str().unwrap().to_owned();
    let boot = summary["boot"].as_str().unwrap();
    assert!(key.starts_with("bronze/sensor_readings/dt=20") && key.contains("/gateway=gw-7/"), "{key}");
    assert!(key.contains(boot) && key.ends_with(".ingot"), "{key}");
}

/// Random points, random pauses; what a kill may cost is the end of what was fed, never its middle.
#[test]
fn kill_9_loses_nothing_that_was_stored_and_only_the_newest_of_what_was_fed() {
    const READINGS: u64 = 6_000;
    let dir = tempfile::tempdir().unwrap();
    let config = "[batch]\nframe_bytes_max = 400\nage_ms_max = 15\n[spool]\nfsync_interval_ms = 20\n\
                  segment_bytes_max = 4096\nbytes_max = 1000000\n";
    let (mut next, mut kills, mut most_lost) = (0, 0, 0);
    while next < READINGS {
        let mut child = run_in(dir.path(), config).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let fed_to = feed(&mut stdin, next, READINGS.min(next + 200 + fastrand::u64(..1_200)));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;

        let stored = stored(dir.path());
        next = (next..fed_to).find(|seq| !stored.contains(&reading(*seq).1)).unwrap_or(fed_to);
        assert!((next..fed_to).all(|seq| !stored.contains(&reading(seq).1)), "a hole before {fed_to}");
        most_lost = most_lost.max(fed_to - next);
    }
    let (output, _) = finish(run_in(dir.path(), config).spawn().unwrap(), "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    let bronze = Bronze::read(&dir.path().join("lake"));
    assert_eq!(bronze.rows.len() as u64, READINGS);
    assert!((0..READINGS).all(|seq| bronze.rows.get(&reading(seq).1) == Some(&1)), "each is there once");
    println!("{kills} kills; at most {most_lost} readings were fed and not yet sealed");
    assert!(kills >= 4);
}

fn feed(stdin: &mut ChildStdin, from: u64, to: u64) -> u64 {
    for seq in from..to {
        stdin.write_all(reading(seq).0.as_bytes()).unwrap();
        if fastrand::u8(..) == 0 {
            std::thread::sleep(Duration::from_millis(fastrand::u64(..30)));
        }
    }
    // Half of the kills hit the start of the work on the last lines, half come later.
    std::thread::sleep(Duration::from_millis(fastrand::u64(..60)));
    to
}

/// The readings of bronze and of the spool's whole frames, as a person would find them after the kill.
fn stored(dir: &Path) -> std::collections::BTreeSet<Row> {
    let mut found = Bronze::read(&dir.join("lake"));
    for path in
        objects(&dir.join("spool")).iter().filter(|path| path.extension().is_some_and(|end| end == "ingot"))
    {
        let mut content = fs::read(path).unwrap();
        let whole = content.iter().rposition(|byte| *byte == 0).map_or(0, |end| end + 1);
        found.add(&mut content[..whole]);
    }
    found.rows.into_keys().collect()
}

#[test]
fn sigterm_stores_what_was_fed_and_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = run_in(dir.path(), "[batch]\nage_ms_max = 3600000\n").spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines: String = (0..100).map(|seq| reading(seq).0).collect();
    stdin.write_all(lines.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(700)); // the lines are in the pipe; the batch stays open
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let started = Instant::now();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(Bronze::read(&dir.path().join("lake")).rows.len(), 100);
}

#[test]
fn frames_that_cannot_leave_stay_in_the_spool_and_the_exit_code_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("lake"), "in the way").unwrap();
    let config = "drain_ms_max = 300\n[uplink]\nbackoff_base_ms = 10\n";
    let input: String = (0..100).map(|seq| reading(seq).0).collect();
    let (output, summary) = finish(run_in(dir.path(), config).spawn().unwrap(), &input);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((&summary["in_spool_readings"], &summary["acked_frames"]), (&100.into(), &0.into()));

    fs::remove_file(dir.path().join("lake")).unwrap();
    let (output, summary) = finish(run_in(dir.path(), config).spawn().unwrap(), "");
    assert_eq!((output.status.code(), &summary["recovered_frames"]), (Some(0), &1.into()));
    assert_eq!(Bronze::read(&dir.path().join("lake")).rows.len(), 100);
}

#[test]
fn wrong_settings_are_all_told_at_once_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let config = "nmae = \"x\"\ndrain_ms_max = -1\n[spool]\nwhen_full = \"panic\"\n";
    let (output, _) = finish(run_in(dir.path(), config).spawn().unwrap(), "");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    for part in ["nmae", "drain_ms_max", "spool.when_full", "\"drop_oldest\", \"refuse\""] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!dir.path().join("spool").exists());
    let usage = gateway().args(["run", "--no-such-flag"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn check_prints_the_settings_and_a_second_gateway_on_one_spool_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = run_in(dir.path(), "").spawn().unwrap();
    let started = Instant::now();
    while !dir.path().join("spool/boot").exists() {
        assert!(started.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    let (second, _) = finish(run_in(dir.path(), "").spawn().unwrap(), "");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another gateway"));
    assert_eq!(finish(first, "").0.status.code(), Some(0));

    let check = gateway().args(["check", "--lake", "file:///somewhere", "--name", "gw-1"]).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(0));
    assert!(said.contains("name: gw-1") && said.contains("/somewhere"), "{said}");
}
