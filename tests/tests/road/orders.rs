//! A website's orders: files in bronze, from there on the sensors' road.

use ingot_tests::TempLake;
use serde_json::{Value, json};

const CONTRACT: [&str; 2] = ["--contract", "contracts/orders.yaml"];

const FIRST: &str = r#"{"order_id":"A1","status":"paid","amount":19.99,"currency":"EUR","created_at":"2026-01-01T10:00:00Z","customer_email":"ann@example.org","phone":"+44 20 7946 0958","country":"GB","notes":"ring ann@example.org or +44 20 7946 0958"}
{"order_id":"A2","status":"shipped","amount":5.01,"currency":"EUR","created_at":"2026-01-01T12:00:00+02:00","notes":"leave at the door"}
{"order_id":"A3","status":"lost","amount":10,"currency":"EUR","created_at":"2026-01-01T10:00:00Z"}
{"order_id":"A4","status":"paid","amount":"ten","currency":"EUR","created_at":"2026-01-01T10:00:00Z","customer_email":"bob@example.org"}
{"status":"paid","amount":1,"currency":"EUR","created_at":"2026-01-01T10:00:00Z"}
{"order_id":"A1","status":"paid","amount":19.99,"currency":"EUR","created_at":"2026-01-01T10:00:00Z","notes":"ann@example.org again"}
{"order_id":"A5","status":"paid","amount":100000.01,"currency":"EUR","created_at":"2026-01-01T10:00:00Z"}
{"order_id":"A6","status":"paid","amount":1,"currency":"BTC","created_at":"2026-01-01T10:00:00Z"}
{"order_id":"A7","status":"paid","amount":1,"currency":"EUR","created_at":"2999-01-01T10:00:00Z"}
{"order_id":"A8","status":"paid","amount":1,"currency":"EUR","created_at":
"#;
const SECOND: &str = r#"{"order_id":"B1","status":"paid","amount":0.01,"currency":"EUR","created_at":"2026-01-02T10:00:00Z"}
{"order_id":"A2","status":"shipped","amount":5.01,"currency":"EUR","created_at":"2026-01-01T12:00:00+02:00"}
"#;

fn filled() -> TempLake {
    let lake = TempLake::new();
    lake.write("bronze/orders/dt=2026-01-01/first.ndjson", FIRST);
    lake.write("bronze/orders/dt=2026-01-02/second.ndjson", SECOND);
    lake
}

fn summary(lake: &TempLake) -> [Vec<Value>; 4] {
    [
        "SELECT order_id, status, CAST(amount AS VARCHAR) AS amount, currency, CAST(created_at AS VARCHAR) AS created_at, customer_email, phone, notes FROM silver.orders ORDER BY order_id",
        "SELECT bronze_key, ordinal, rule FROM discard ORDER BY bronze_key, ordinal",
        "SELECT status, currency, count, CAST(total_amount AS VARCHAR) AS total_amount FROM gold.orders_by_status ORDER BY status",
        "SELECT date, currency, count, CAST(average_order_value AS DOUBLE) AS average_order_value FROM gold.orders_daily ORDER BY date",
    ]
    .map(|sql| lake.query(sql))
}

fn expected() -> [Vec<Value>; 4] {
    let first = "bronze/orders/dt=2026-01-01/first.ndjson";
    let discard =
        |key: &str, ordinal: i64, rule: &str| json!({"bronze_key": key, "ordinal": ordinal, "rule": rule});
    [
        vec![
            json!({"order_id": "A1", "status": "paid", "amount": "19.99", "currency": "EUR", "created_at": "2026-01-01T10:00:00Z", "customer_email": "[REDACTED]", "phone": "[REDACTED]", "notes": "ring [EMAIL] or [PHONE]"}),
            json!({"order_id": "A2", "status": "shipped", "amount": "5.01", "currency": "EUR", "created_at": "2026-01-01T10:00:00Z", "notes": "leave at the door"}),
            json!({"order_id": "B1", "status": "paid", "amount": "0.01", "currency": "EUR", "created_at": "2026-01-02T10:00:00Z"}),
        ],
        vec![
            discard(first, 2, "bad_status"),
            discard(first, 3, "type.amount"),
            discard(first, 4, "required.order_id"),
            discard(first, 6, "amount_range"),
            discard(first, 7, "bad_currency"),
            discard(first, 8, "future_time"),
            discard(first, 9, "malformed_json"),
        ],
        vec![
            json!({"status": "paid", "currency": "EUR", "count": 2, "total_amount": "20.00"}),
            json!({"status": "shipped", "currency": "EUR", "count": 1, "total_amount": "5.01"}),
        ],
        vec![
            json!({"date": "2026-01-01", "currency": "EUR", "count": 2, "average_order_value": 12.5}),
            json!({"date": "2026-01-02", "currency": "EUR", "count": 1, "average_order_value": 0.01}),
        ],
    ]
}

#[test]
fn every_row_is_in_silver_or_discard_for_the_right_reason_and_gold_adds_up() {
    let lake = filled();
    let report = lake.run(&CONTRACT);
    assert_eq!(report["rows_in"], 12);
    assert_eq!(
        [&report["silver"], &report["discarded"], &report["duplicates"], &report["superseded"]],
        [&json!(3), &json!(7), &json!(0), &json!(2)]
    );
    assert_eq!(summary(&lake), expected());
    lake.audit();
}

#[test]
fn no_address_or_number_leaves_bronze() {
    let lake = filled();
    lake.run(&CONTRACT);
    let rows = lake.query("SELECT record FROM discard");
    let silver = lake.query("SELECT * FROM silver.orders");
    let text = format!("{rows:?}{silver:?}");
    for secret in ["ann@", "bob@", "7946"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[test]
fn a_second_run_and_a_redelivered_file_add_nothing() {
    let lake = filled();
    lake.run(&CONTRACT);
    let before = summary(&lake);
    let second = lake.run(&CONTRACT);
    assert_eq!((&second["objects"], &second["gold"]), (&json!(0), &json!([])));
    // The same file rewritten is a new object to every store that tags by time: all its rows are duplicates.
    lake.write("bronze/orders/dt=2026-01-03/again.ndjson", FIRST);
    let again = lake.run(&CONTRACT);
    assert_eq!((&again["silver"], &again["duplicates"]), (&json!(0), &json!(3)));
    let after = summary(&lake);
    assert_eq!((&before[0], &before[2], &before[3]), (&after[0], &after[2], &after[3]));
    lake.audit();
}

#[test]
fn gold_follows_silver_run_by_run_and_day_by_day() {
    let lake = TempLake::new();
    lake.write("bronze/orders/dt=2026-01-02/second.ndjson", SECOND);
    lake.run(&CONTRACT);
    let late = r#"{"order_id":"C1","status":"paid","amount":0.03,"currency":"EUR","created_at":"2026-01-02T11:00:00Z"}"#;
    lake.write("bronze/orders/dt=2026-01-09/late.ndjson", late);
    let report = lake.run(&CONTRACT);
    let days: Vec<&Value> = report["gold"].as_array().unwrap().iter().map(|gold| &gold["days"]).collect();
    assert_eq!(days, [&json!(null), &json!(1)]);
    assert_eq!(
        lake.query("SELECT date, count, CAST(average_order_value AS DOUBLE) AS value FROM gold.orders_daily ORDER BY date"),
        [json!({"date": "2026-01-01", "count": 1, "value": 5.01}), json!({"date": "2026-01-02", "count": 2, "value": 0.02})]
    );
    assert_eq!(
        lake.query("SELECT status, count FROM gold.orders_by_status ORDER BY status"),
        [json!({"status": "paid", "count": 2}), json!({"status": "shipped", "count": 1})]
    );
    lake.audit();
}

#[test]
fn two_processes_at_once_give_what_one_gives() {
    let lake = filled();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| lake.run(&CONTRACT));
        }
    });
    assert_eq!(summary(&lake), expected());
    lake.audit();
}

#[test]
fn an_unknown_prefix_is_skipped_and_a_missing_lake_is_one_clear_error() {
    let lake = filled();
    lake.write("bronze/weather/today.ndjson", "{}\n");
    let report = lake.run(&CONTRACT);
    assert_eq!((&report["skipped"], &report["rows_in"]), (&json!(1), &json!(12)));

    let missing = TempLake::new();
    std::fs::remove_dir(missing.path()).unwrap();
    let output = missing.processor(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.starts_with("error: the lake file://") && words.contains("does not exist"), "{words}");
}
