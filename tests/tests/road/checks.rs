//! Checks that concern more than a row: severities of objects, lists beside the contract.

use std::path::Path;

use ingot_tests::{TempLake, one_json};
use serde_json::{Value, json};

const CONTRACT: &str = r#"apiVersion: v3.1.0
kind: DataContract
id: visits
version: 1.0.0
status: active
schema:
  - name: visits
    properties:
      - { name: id, logicalType: string, required: true, primaryKey: true }
      - { name: at, logicalType: timestamp, required: true }
      - { name: door, logicalType: string, required: true }
      - { name: people, logicalType: integer, required: false }
    quality:
      - { id: unknown_door, type: custom, engine: ingot, severity: SEVERITY, implementation: doors.door IS NULL }
      - { id: crowd, type: custom, engine: ingot, severity: warn, implementation: people > doors.people_max }
customProperties:
  - property: partitionBy
    value: at
  - property: references
    value:
      - { name: doors, "on": door, file: lists/doors.csv }
"#;

/// The contract with this severity and these doors, in a folder.
fn contract(folder: &Path, severity: &str, doors: &str) -> String {
    std::fs::create_dir_all(folder.join("lists")).unwrap();
    std::fs::write(folder.join("lists/doors.csv"), format!("door,people_max\n{doors}")).unwrap();
    let file = folder.join("visits.yaml");
    std::fs::write(&file, CONTRACT.replace("SEVERITY", severity)).unwrap();
    file.display().to_string()
}

fn visit(id: &str, door: &str, people: u32) -> String {
    format!(r#"{{"id":"{id}","at":"2026-01-01T10:00:00Z","door":"{door}","people":{people}}}"#) + "\n"
}

fn lake() -> TempLake {
    let lake = TempLake::new();
    lake.write("bronze/visits/a.ndjson", visit("a1", "north", 1) + &visit("a2", "west", 2));
    lake.write("bronze/visits/b.ndjson", visit("b1", "north", 9));
    lake
}

fn run(lake: &TempLake, contract: &str, exit: i32) -> Value {
    let output = lake.processor(&["run", "--format", "json", "--contract", contract]);
    assert_eq!(output.status.code(), Some(exit), "{}", String::from_utf8_lossy(&output.stderr));
    one_json(&output)
}

fn audit(lake: &TempLake, contract: &str) -> Value {
    let output = lake.processor(&["audit", "--format", "json", "--contract", contract]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    one_json(&output)
}

#[test]
fn a_quarantined_object_waits_whole_until_the_contract_changes() {
    let (lake, folder) = (lake(), tempfile::tempdir().unwrap());
    let file = contract(folder.path(), "quarantine", "north,5\n");
    let report = run(&lake, &file, 0);
    assert_eq!(
        (&report["silver"], &report["discarded"], &report["rows_in"]),
        (&json!(1), &json!(0), &json!(1))
    );
    assert_eq!(report["warnings"], json!({"crowd": 1}));
    let reason = report["quarantined"]["bronze/visits/a.ndjson"].as_str().unwrap();
    assert!(reason.starts_with("1 of 2 rows fail the check unknown_door"), "{reason}");
    assert_eq!(
        lake.query("SELECT bronze_key, check, rows_failing, rows_in FROM quarantine"),
        [
            json!({"bronze_key": "bronze/visits/a.ndjson", "check": "unknown_door", "rows_failing": 1, "rows_in": 2})
        ]
    );

    let again = run(&lake, &file, 0);
    assert_eq!((&again["in_quarantine"], &again["quarantined"]), (&json!(1), &json!({})));
    let balance = audit(&lake, &file);
    assert_eq!((&balance["quarantined_objects"], &balance["in_flight_objects"]), (&json!(1), &json!(0)));

    // The list gets the missing door: the object is tried again, and lands.
    let file = contract(folder.path(), "quarantine", "north,5\nwest,5\n");
    let fixed = run(&lake, &file, 0);
    assert_eq!((&fixed["silver"], &fixed["in_quarantine"]), (&json!(2), &json!(0)));
    let balance = audit(&lake, &file);
    assert_eq!((&balance["rows_in"], &balance["quarantined_objects"]), (&json!(3), &json!(0)));
}

#[test]
fn a_failing_check_stops_its_dataset_and_promotes_nothing_of_the_object() {
    let (lake, folder) = (lake(), tempfile::tempdir().unwrap());
    for more in 0..70 {
        lake.write(&format!("bronze/visits/c{more:02}.ndjson"), visit(&format!("c{more}"), "north", 1));
    }
    lake.write(
        "bronze/orders/o.ndjson",
        r#"{"order_id":"A1","status":"paid","amount":1,"currency":"EUR","created_at":"2026-01-01T10:00:00Z"}"#,
    );
    let file = contract(folder.path(), "fail", "north,5\n");
    let args = ["run", "--format", "json", "--contract", &file, "--contract", "contracts/orders.yaml"];
    let output = lake.processor(&args);
    assert_eq!(output.status.code(), Some(1));
    let report = one_json(&output);
    // The group's other 63 visits and the order land; eight visits wait.
    assert_eq!((&report["silver"], &report["stopped"]), (&json!(64), &json!({"visits": 8})));
    assert!(report["failed"]["bronze/visits/a.ndjson"].as_str().unwrap().contains("unknown_door"));

    let file = contract(folder.path(), "fail", "north,5\nwest,5\n");
    assert_eq!(run(&lake, &file, 0)["silver"], 10);
    audit(&lake, &file);
}

#[test]
fn a_list_that_cannot_be_read_is_told_with_its_lines() {
    let (lake, folder) = (lake(), tempfile::tempdir().unwrap());
    let file = contract(folder.path(), "discard", "north,5\nsouth\nnorth,6\n");
    let output = lake.processor(&["run", "--contract", &file]);
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8(output.stderr).unwrap();
    for part in ["lists/doors.csv:3: 1 fields, the header has 2", "doors.csv:4: door north is there already"]
    {
        assert!(words.contains(part), "{words}");
    }
    let outside = std::fs::read_to_string(&file).unwrap().replace("lists/doors.csv", "../doors.csv");
    std::fs::write(&file, outside).unwrap();
    let words = String::from_utf8(lake.processor(&["run", "--contract", &file]).stderr).unwrap();
    assert!(words.contains("it must be a path below the contract's folder"), "{words}");
}
