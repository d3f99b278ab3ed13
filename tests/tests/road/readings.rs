//! Sensor readings from a pipe to silver, with the user's own commands.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use ingot_tests::{TempLake, binary, gateway, one_json, succeeded};
use serde_json::{Value, json};

/// 300 good readings of two devices, whose values need all of f64.
fn lines() -> String {
    let mut lines = String::new();
    for seq in 0..150_u64 {
        for (device, channel) in [("cellar", "temperature"), ("attic", "humidity")] {
            let value = 20.0 + (seq as f64 / 7.0).sin();
            let at = 1_767_225_600_000 + seq * 1_000;
            writeln!(
                lines,
                r#"{{"device":"{device}","channel":"{channel}","value":{value:?},"at":{at},"boot":1,"seq":{seq}}}"#
            )
            .unwrap();
        }
    }
    lines
}

const SILVER: &str =
    "SELECT device, boot, seq, channel, value FROM silver.sensor_readings ORDER BY device, seq";

#[test]
fn what_is_piped_in_is_in_silver_and_the_same_again_adds_nothing() {
    let lake = TempLake::new();
    let spool = tempfile::tempdir().unwrap();
    let first = one_json(&succeeded(gateway(&lake, spool.path(), &lines())));
    assert_eq!(first["produced"], 300);
    assert_eq!(lake.run(&[])["silver"], 300);
    let silver = lake.query(SILVER);
    let mut expected: Vec<Value> = lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    expected.iter_mut().for_each(|row| {
        row.as_object_mut().unwrap().remove("at");
    });
    expected.sort_by_key(|row| (row["device"].as_str().unwrap().to_owned(), row["seq"].as_u64()));
    // Not assert_eq: six hundred rows would be printed.
    let differs = silver.iter().zip(&expected).find(|(there, wanted)| there != wanted);
    assert_eq!((differs, silver.len()), (None, expected.len()));

    succeeded(gateway(&lake, spool.path(), &lines()));
    let again = lake.run(&[]);
    assert_eq!((&again["silver"], &again["duplicates"]), (&json!(0), &json!(300)));
    assert_eq!(lake.query(SILVER), silver);
    let books = lake.audit();

    let cost = one_json(&succeeded(lake.processor(&["cost", "--format", "json"])));
    let usage = &cost["usage"];
    let counted =
        ["readings", "messages", "objects", "bronze_bytes"].map(|name| usage[name].as_f64().unwrap());
    let objects = bronze_objects(&lake);
    let bytes: u64 = objects.iter().map(|object| object.metadata().unwrap().len()).sum();
    assert_eq!(counted, [600.0, objects.len() as f64, objects.len() as f64, bytes as f64]);
    assert_eq!(books["bytes"].as_u64(), Some(bytes));
    let parts = cost["per_billion"]["items"].as_array().unwrap();
    let sum: f64 = parts.iter().map(|part| part["usd"].as_f64().unwrap()).sum();
    assert!((sum - cost["per_billion"]["total_usd"].as_f64().unwrap()).abs() < 1e-9, "{cost}");
}

#[test]
fn a_corrupt_frame_costs_itself_alone() {
    let lake = TempLake::new();
    let spool = tempfile::tempdir().unwrap();
    succeeded(gateway(&lake, spool.path(), &lines()));
    let object = bronze_objects(&lake).pop().unwrap();
    let frame = std::fs::read(&object).unwrap();
    let mut damaged = frame.clone();
    damaged[frame.len() / 2] ^= 0x55;
    // A zero would end the frame early; any other damage leaves one frame.
    damaged[frame.len() / 2] = damaged[frame.len() / 2].max(1);
    std::fs::write(&object, [damaged.as_slice(), frame.as_slice()].concat()).unwrap();

    let report = lake.run(&[]);
    assert_eq!((&report["silver"], &report["discarded"]), (&json!(300), &json!(1)));
    let discard = lake.query("SELECT rule, byte_offset, byte_len, record FROM discard");
    assert_eq!((&discard[0]["rule"], &discard[0]["byte_offset"]), (&json!("frame"), &json!(0)));
    assert!(discard[0]["record"].as_str().unwrap().contains("checksum"), "{discard:?}");
    lake.audit();
}

#[test]
fn files_of_readings_in_every_format_take_the_same_road() {
    let lake = TempLake::new();
    let row = |seq: u64| {
        format!(
            r#"{{"device":"d","boot":1,"seq":{seq},"channel":"voltage","at":"2026-01-01T00:00:00Z","value":12.5}}"#
        )
    };
    lake.write("bronze/sensor_readings/dt=2026-01-01/a.ndjson", row(0));
    let gz = gzip(&row(1));
    lake.write("bronze/sensor_readings/dt=2026-01-01/b.ndjson.gz", &gz);
    lake.write(
        "bronze/sensor_readings/dt=2026-01-01/c.csv",
        "device,boot,seq,channel,at,value\nd,1,2,voltage,2026-01-01T00:00:00Z,12.5\nd,1,3,voltage,yesterday,12.5\n",
    );
    lake.write("bronze/sensor_readings/dt=2026-01-01/d.ndjson.gz", &gz[..gz.len() / 2]);
    let report = lake.run(&[]);
    assert_eq!(report["silver"], 3);
    assert_eq!(report["rules"]["type.at"], 1);
    assert_eq!(report["rules"]["gz"], 1);
    lake.audit();
}

#[test]
fn every_rule_of_the_contract_names_its_reason() {
    let lake = TempLake::new();
    let row = |seq: u64, channel: &str, at: &str, value: &str| {
        format!(r#"{{"device":"d","boot":1,"seq":{seq},"channel":"{channel}","at":"{at}","value":{value}}}"#)
    };
    let day = "2026-01-01T00:00:00Z";
    let rows = [
        row(0, "temperature", day, "85"),
        row(1, "temperature", day, "85.01"),
        row(2, "temperature", day, "null"),
        row(3, "flux", day, "1"),
        row(4, "temperature", "2999-01-01T00:00:00Z", "1"),
        row(5, "temperature", day, "\"warm\""),
        row(0, "temperature", day, "85"),
    ];
    lake.write("bronze/sensor_readings/a.ndjson", rows.join("\n"));
    lake.run(&[]);
    let reasons = lake.query("SELECT ordinal, rule FROM discard ORDER BY ordinal");
    let expected = [
        (1, "out_of_range"),
        (2, "missing_value"),
        (3, "unknown_channel"),
        (4, "future_time"),
        (5, "type.value"),
        (6, "duplicate"),
    ];
    assert_eq!(reasons, expected.map(|(ordinal, rule)| json!({"ordinal": ordinal, "rule": rule})));
}

#[test]
fn the_demo_proves_itself() {
    let out = tempfile::tempdir().unwrap();
    let demo = Command::new(binary("ingot-sim"))
        .args([
            "demo",
            "--",
            "--devices",
            "50",
            "--seconds",
            "4",
            "--rate",
            "20",
            "--format",
            "json",
            "--out",
        ])
        .arg(out.path())
        .output()
        .unwrap();
    let summary = one_json(&succeeded(demo));
    let number = |name: &str| summary[name].as_u64().unwrap();
    assert!(number("produced") >= 4_000);
    assert_eq!(number("produced"), number("silver") + number("discarded") + number("dropped"));
    assert_eq!(
        (&summary["balanced"], &summary["verified"], number("in_flight")),
        (&json!(true), &json!(true), 0)
    );
    assert!(number("discarded") > 0 && number("duplicates") > 0, "faults were injected");
    assert!(summary["bytes_per_reading"].as_f64().unwrap() < 10.0);
    let report = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(report.contains("<svg") && !report.contains("http-equiv") && !report.contains("<script"));
}

#[test]
fn verification_finds_a_lost_an_altered_and_an_invented_reading() {
    let out = tempfile::tempdir().unwrap();
    let demo = ["demo", "--devices", "3", "--seconds", "1", "--faults", "off", "--out"];
    succeeded(Command::new(binary("ingot-sim")).args(demo).arg(out.path()).output().unwrap());
    let truth_path = out.path().join("truth.tsv");
    let truth = std::fs::read_to_string(&truth_path).unwrap();
    let lake = format!("file://{}", out.path().join("lake").display());
    let verify = |truth: &str| {
        std::fs::write(&truth_path, truth).unwrap();
        let verify = ["verify", "--format", "json", "--lake", &lake, "--truth"];
        Command::new(binary("ingot-sim")).args(verify).arg(&truth_path).output().unwrap()
    };
    let intact = one_json(&succeeded(verify(&truth)));
    assert_eq!((&intact["wrong"], &intact["elsewhere"]), (&json!(0), &json!(0)));

    let last = truth.lines().last().unwrap();
    // The lake lacks a reading of a truth that has one more.
    let seq = last.split('\t').nth(2).unwrap();
    let one_more = last.replacen(&format!("\t{seq}\t"), "\t999999\t", 1);
    let lost = verify(&format!("{truth}{one_more}\n"));
    assert_eq!((lost.status.code(), &one_json(&lost)["elsewhere"]), (Some(1), &json!(1)));
    // The lake has a reading that this truth does not know.
    let invented = verify(truth.strip_suffix(&format!("{last}\n")).unwrap());
    assert_eq!((invented.status.code(), &one_json(&invented)["wrong"]), (Some(1), &json!(1)));
    // The lake has another value: the last bit of the last reading's value is turned.
    let digit = last.chars().last().unwrap().to_digit(16).unwrap() ^ 1;
    let turned = format!("{}{digit:x}\n", &last[..last.len() - 1]);
    let altered = verify(&truth.replace(&format!("{last}\n"), &turned));
    assert_eq!((altered.status.code(), &one_json(&altered)["wrong"]), (Some(1), &json!(1)));
}

fn bronze_objects(lake: &TempLake) -> Vec<PathBuf> {
    let mut folders = vec![lake.path().join("bronze")];
    let mut objects = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { objects.push(path) }
        }
    }
    objects
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut child = Command::new("gzip")
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}
