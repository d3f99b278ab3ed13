//! What auditors and analysts ask: is it all there, where did this number come from, and what if the
//! contract had been another.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;
use std::fs::File;
use std::process::Output;
use std::time::{Duration, SystemTime};

use ingot_tests::{TempLake, gateway, one_json, succeeded};
use serde_json::{Value, json};

/// Readings of one device, one a second.
fn readings(device: &str, seqs: impl IntoIterator<Item = u64>) -> String {
    let mut lines = String::new();
    for seq in seqs {
        let at = 1_767_225_600_000 + seq * 1_000;
        writeln!(
            lines,
            r#"{{"device":"{device}","channel":"temperature","value":{}.25,"at":{at},"boot":7,"seq":{seq}}}"#,
            seq % 40
        )
        .unwrap();
    }
    lines
}

fn is_older(lake: &TempLake, key: &str, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3_600);
    File::options().append(true).open(lake.path().join(key)).unwrap().set_modified(then).unwrap();
}

fn failed(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    one_json(output)
}

#[test]
fn the_audit_knows_every_device_by_its_numbers() {
    let lake = TempLake::new();
    lake.write("bronze/sensor_readings/a.ndjson", readings("whole", 0..50) + &readings("holed", 0..20));
    lake.write(
        "bronze/sensor_readings/b.ndjson",
        readings("holed", 30..40) + "no json\n" + &readings("whole", 10..13),
    );
    lake.run(&[]);
    // 10 are missing, one line of discard may hide one of them.
    let audit = failed(&lake.processor(&["audit", "--format", "json"]));
    let devices = &audit["devices"]["sensor_readings"];
    for (what, count) in [
        ("sequences", 2),
        ("seen", 80),
        ("duplicates", 3),
        ("gaps", 1),
        ("missing", 10),
        ("unreadable", 1),
        ("lost", 9),
    ] {
        assert_eq!(devices[what], count, "{what}: {devices}");
    }
    let worst = &devices["incomplete"][0];
    assert_eq!((&worst["device"], &worst["first_missing"]), (&json!("holed"), &json!(20)));
    assert!(audit["findings"].to_string().contains("9 readings were never seen"), "{audit}");

    // They come after all, late, and all is well.
    lake.write("bronze/sensor_readings/c.ndjson", readings("holed", 20..30));
    lake.run(&[]);
    let devices = lake.audit()["devices"]["sensor_readings"].clone();
    assert_eq!(
        (&devices["missing"], &devices["late"], &devices["seen"]),
        (&json!(0), &json!(10), &json!(90))
    );
}

#[test]
fn an_object_that_the_cloud_forgot_is_found_and_requeued() {
    let lake = TempLake::new();
    let spool = tempfile::tempdir().unwrap();
    lake.write("bronze/sensor_readings/a.ndjson", readings("d", 0..5));
    lake.run(&[]);
    succeeded(gateway(&lake, spool.path(), &readings("e", 0..10)));
    let fresh = lake.audit();
    assert_eq!((&fresh["in_flight_objects"], &fresh["unprocessed_objects"]), (&json!(1), &json!(0)));

    let forgotten = "bronze/sensor_readings/forgotten 'quoted'.ndjson";
    lake.write(forgotten, readings("d", 5..6));
    is_older(&lake, forgotten, 2);
    let audit = failed(&lake.processor(&["audit", "--requeue", "--format", "json"]));
    assert_eq!((&audit["requeued"], &audit["unprocessed"]), (&json!(1), &json!([forgotten])));
    lake.run(&[]);
    assert_eq!(lake.audit()["in_flight_objects"], 0);
}
