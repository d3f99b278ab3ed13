//! Personal data is kept nowhere.

use super::*;

/// Everything that is kept of an object, as one text.
fn kept(examined: &Examined) -> String {
    format!("{:?}{:?}{:?}", examined.accepted, examined.discards, examined.unknown_fields)
}

#[test]
fn planted_personal_data_is_kept_nowhere() {
    let canaries = ["canary@mail.example", "+1 555 867 5309"];
    let orders = checker("orders");
    let readings = checker("sensor_readings");
    for canary in canaries {
        let clean = |examined: Examined, what: &str| {
            let kept = kept(&examined);
            assert!(examined.rows_in > 0);
            assert!(!kept.contains("canary") && !kept.contains("867"), "{what}: {kept}");
        };
        for (checker, line) in [(&orders, ORDER), (&readings, READING)] {
            let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
            for name in fields.keys().map(String::as_str).chain(["extra", canary]) {
                let mut planted = fields.clone();
                planted.insert(name.into(), canary.into());
                let text = serde_json::to_string(&planted).unwrap();
                clean(run_with(checker, "a.ndjson", text.clone()), name);
                clean(
                    run_with(checker, "a.ndjson", text.replace("\"status\":\"paid\"", "\"status\":1")),
                    name,
                );
                clean(run_with(checker, "a.ndjson", &text[..text.len() - 1]), name);
                clean(run_with(checker, "a.ndjson.gz", &gz(text.as_bytes())[..40]), name);
                planted.insert(name.into(), serde_json::json!({"deep": [canary, {canary: 1}]}));
                clean(run_with(checker, "a.ndjson", serde_json::to_string(&planted).unwrap()), name);
                let values: Vec<String> =
                    planted.values().map(|value| value.to_string().replace('"', "")).collect();
                let header: Vec<&str> = planted.keys().map(String::as_str).collect();
                clean(
                    run_with(
                        checker,
                        "a.csv",
                        format!("{}\n{}\n{canary}\n", header.join(","), values.join(",")),
                    ),
                    name,
                );
            }
        }
        for text in
            [format!("{canary}\n"), format!("\u{0}{{\"phone\": \"{canary}"), format!("[\"{canary}\"]")]
        {
            clean(run_with(&orders, "a.ndjson", text.clone()), "text");
            clean(run_with(&orders, "a.csv", text), "text");
        }
    }
}

#[test]
fn names_that_no_pattern_finds_are_masked_in_broken_text() {
    let line = r#"{"order_id":"o-1","customer_email":"Jane \"J\" Doe","phone":{"home":"Jane"#;
    let record = run("orders", "a.ndjson", line).discards[0].record.clone();
    assert_eq!(record, r#"{"order_id":"o-1","customer_email":"[REDACTED]","phone":"[REDACTED]""#);
    let record = run("orders", "a.csv", "order_id,customer_email,status\no-1,Jane,paid,Doe\n").discards[0]
        .record
        .clone();
    assert_eq!(record, "the row has 4 fields, the header 3; its values are not kept");
}
