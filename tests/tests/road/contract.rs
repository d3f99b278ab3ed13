//! `contract lint|test|diff`, as a user runs them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use ingot_tests::{TempLake, binary, one_json, succeeded, workspace};
use serde_json::{Value, json};

const ORDERS: &str = "contracts/orders.yaml";

fn contract(args: &[&str]) -> Output {
    Command::new(binary("ingot-processor"))
        .arg("contract")
        .args(args)
        .current_dir(workspace())
        .output()
        .unwrap()
}

/// The shipped contract of orders with a change, in a file.
fn changed(folder: &Path, from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(workspace().join(ORDERS)).unwrap();
    assert!(text.contains(from), "{from}");
    let file = folder.join("changed.yaml");
    std::fs::write(&file, text.replace(from, to)).unwrap();
    file.display().to_string()
}

#[test]
fn lint_names_file_line_and_column_and_exits_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = changed(folder.path(), "status NOT IN", "state NOT IN");
    let output = contract(&["lint", ORDERS, &file]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with(&format!("{file}:34:9: check bad_status: ")), "{text}");

    let output = contract(&["lint", "--format", "json", &file]);
    assert_eq!((&one_json(&output)[0]["line"], &one_json(&output)[0]["file"]), (&json!(34), &json!(file)));
    succeeded(contract(&["lint", ORDERS, "contracts/sensor_readings.yaml"]));
}

#[test]
fn test_fails_on_an_example_and_on_too_many_survivors() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = ["test", ORDERS, "contracts/sensor_readings.yaml", "contracts/examples/web_events.yaml"];
    succeeded(contract(&[&shipped[..], &["--survivors-max", "0"]].concat()));

    let wrong = changed(folder.path(), "amount > 100000\n", "amount >= 100000\n");
    let output = contract(&["test", "--format", "json", &wrong]);
    assert_eq!(output.status.code(), Some(1));
    let failure = &one_json(&output)[0]["failures"][0];
    assert_eq!(
        (&failure["expected"], &failure["happened"]),
        (&json!("accept"), &json!("discard by amount_range"))
    );

    let weak = changed(folder.path(), "        - { set: { currency: CAD }, expect: accept }\n", "");
    let output = succeeded(contract(&["test", &weak]));
    let text = String::from_utf8(output.stdout).unwrap();
    let survivor = "survivor of bad_currency: currency NOT IN ('USD', 'EUR', 'GBP', 'JPY')\n    this row would kill it: ";
    assert!(text.contains(survivor) && text.contains(r#""currency":"CAD""#), "{text}");
    assert_eq!(contract(&["test", &weak, "--survivors-max", "0"]).status.code(), Some(1));
}

const ROWS: &str = r#"{"order_id":"A1","status":"paid","amount":19.99,"currency":"EUR","created_at":"2026-01-01T10:00:00Z","customer_email":"ann@example.org","notes":"ring bob@example.org"}
{"order_id":"A2","status":"lost","amount":5,"currency":"EUR","created_at":"2026-01-01T10:00:00Z"}
{"order_id":"A3","status":"paid","amount":5,"currency":"CHF","created_at":"2026-01-01T10:00:00Z","customer_email":"eve@example.org"}
"#;

fn diff(lake: &TempLake, args: &[&str]) -> Value {
    one_json(&succeeded(contract(&[&["diff", "--format", "json", "--lake", &lake.url()], args].concat())))
}

#[test]
fn diff_lists_the_rows_whose_verdict_would_change_and_writes_nothing() {
    let lake = TempLake::new();
    let folder = tempfile::tempdir().unwrap();
    lake.write("bronze/orders/dt=2026-01-01/a.ndjson", ROWS);
    lake.write("bronze/orders/dt=2026-01-02/b.ndjson", ROWS);
    lake.write("bronze/weather/c.ndjson", "{}\n");
    // The new version takes francs, wants larger orders, and has forgotten to mask addresses.
    let text = std::fs::read_to_string(workspace().join(ORDERS)).unwrap();
    let text = text
        .replace("'JPY', 'CAD')", "'JPY', 'CAD', 'CHF')")
        .replace("amount <= 0 OR", "amount <= 10 OR")
        .replace("customProperties: [{ property: redact, value: mask }]", "businessName: open");
    let new = folder.path().join("new.yaml");
    std::fs::write(&new, &text[..text.find("  - property: examples").unwrap()]).unwrap();
    let new = new.display().to_string();

    let found = diff(&lake, &[ORDERS, &new]);
    assert_eq!((&found["objects"], &found["rows"], &found["changed"]), (&json!(2), &json!(6), &json!(2)));
    let change = &found["changes"][0];
    assert_eq!(
        (&change["old"], &change["new"], &change["rows"]),
        (&json!("bad_currency"), &json!("amount_range"), &json!(2))
    );
    assert_eq!(change["examples"][0]["ordinal"], 2);
    let shown = |found: &Value| found["changes"][0]["examples"].as_array().unwrap().len();
    assert_eq!([shown(&found), shown(&diff(&lake, &[ORDERS, &new, "--rows-max", "1"]))], [2, 1]);
    assert!(!found.to_string().contains("eve@") && found.to_string().contains("[REDACTED]"), "{found}");
    let schema = found["schema"].to_string();
    for part in ["check bad_currency: ", "column phone: ", "redact mask becomes"] {
        assert!(schema.contains(part), "{schema}");
    }

    let back = diff(&lake, &[&new, ORDERS, "--bronze", "bronze/orders/dt=2026-01-02"]);
    assert_eq!((&back["objects"], &back["changed"]), (&json!(1), &json!(1)));
    assert!(!back.to_string().contains("eve@"), "{back}");
    assert_eq!(diff(&lake, &[ORDERS, &new, "--last", "1"])["objects"], 1);
    assert_eq!(diff(&lake, &[ORDERS, ORDERS])["changes"], json!([]));

    let there: BTreeSet<String> = std::fs::read_dir(lake.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, BTreeSet::from(["bronze".to_owned()]));
    let other = contract(&["diff", ORDERS, "contracts/sensor_readings.yaml", "--lake", &lake.url()]);
    assert_eq!(other.status.code(), Some(2));
}
