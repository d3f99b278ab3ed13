#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod damage;
mod frames;
mod personal;

use std::io::Write;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// 2026-06-01T00:00:00Z.
const NOW_MS: i64 = 1_780_272_000_000;

fn checker(dataset: &str) -> Checker {
    let contracts = Contract::embedded();
    Checker::new(contracts.iter().find(|contract| contract.dataset == dataset).unwrap()).unwrap()
}

fn run(dataset: &str, name: &str, bytes: impl Into<Vec<u8>>) -> Examined {
    run_with(&checker(dataset), name, bytes)
}

fn run_with(checker: &Checker, name: &str, bytes: impl Into<Vec<u8>>) -> Examined {
    let key = format!("bronze/{}/{name}", checker.contract().dataset);
    let key = BronzeKey::parse(&key, |_| true).unwrap();
    let examined = examine(checker, &key, Bytes::from(bytes.into()), NOW_MS).unwrap();
    assert_eq!(examined.rows_in as usize, examined.accepted.num_rows() + examined.discards.len());
    examined
}

/// Each discarded row's place and rules.
fn rules(examined: &Examined) -> Vec<(i64, String)> {
    examined.discards.iter().map(|row| (row.ordinal, row.rules.join(" "))).collect()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const READING: &str =
    r#"{"device":"d1","channel":"temperature","value":21.53,"at":"2026-01-01T00:00:00Z","seq":0,"boot":1}"#;
const ORDER: &str = r#"{"order_id":"o-1","status":"paid","amount":12.30,"currency":"EUR","created_at":"2026-01-01T01:00:00+01:00","customer_email":"jane@mail.example","phone":"+1 555 123 4567","country":"DE","notes":"call 555-123-4567 or jane@mail.example"}"#;

#[test]
fn a_good_reading_is_accepted_as_it_is() {
    let examined = run("sensor_readings", "a.ndjson", format!("\n{READING}\r\n\n"));
    assert_eq!(rules(&examined), []);
    let rows = &examined.accepted;
    assert_eq!(rows.num_rows(), 1);
    assert_eq!(rows["device"].as_string::<i32>().value(0), "d1");
    assert_eq!(rows["value"].as_primitive::<Float64Type>().value(0), 21.53);
    assert_eq!(rows["at"].as_primitive::<TimestampMicrosecondType>().value(0), 1_767_225_600_000_000);
    assert!(rows["quality"].is_null(0));
    assert_eq!(rows[ORDINAL].as_primitive::<Int64Type>().value(0), 0);
}

#[test]
fn every_rule_of_readings_is_found() {
    let field = |from: &str, to: &str| READING.replace(from, to);
    let lines = [
        (field("21.53", "null"), "missing_value"),
        (field("temperature", "taste"), "unknown_channel"),
        (field("2026-01-01", "2026-06-02"), "future_time"),
        (field("\"boot\"", "\"quality\":8,\"boot\""), "clock_unset"),
        (field("21.53", "85.01"), "out_of_range"),
        (field("21.53", "-40.5").replace("2026-01-01", "2026-07-01"), "future_time out_of_range"),
        (field("21.53", "\"21.53\""), "type.value"),
        (field("21.53", "1e999"), "type.value"),
        (field("\"d1\"", "null"), "required.device"),
        (field("\"d1\"", "\"d 1\""), "type.device"),
        (field("\"boot\":1", "\"boot\":1.0"), "type.boot"),
        (field("\"seq\":0", "\"seq\":9223372036854775808"), "type.seq"),
        (field("00:00Z\"", "00:00\""), "type.at"),
        (
            r#"{"value":true,"channel":7}"#.into(),
            "required.device required.boot required.seq type.channel required.at type.value",
        ),
    ];
    let text: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    let examined = run("sensor_readings", "a.ndjson", text);
    let expected: Vec<(i64, String)> = (0..).zip(lines.iter().map(|(_, rule)| rule.to_string())).collect();
    assert_eq!(rules(&examined), expected);
    assert_eq!(examined.discards[0].record, lines[0].0);
}

#[test]
fn milliseconds_are_a_readings_time_and_a_step_is_a_warning() {
    let line = READING.replace("\"2026-01-01T00:00:00Z\"", "1767225600000").replace("}", ",\"quality\":2}");
    let examined = run("sensor_readings", "a.jsonl", format!("{line}\n{line}"));
    assert_eq!(examined.warnings, BTreeMap::from([("step".to_string(), 2)]));
    let at = examined.accepted["at"].as_primitive::<TimestampMicrosecondType>().value(1);
    assert_eq!(at, 1_767_225_600_000_000);
}

#[test]
fn a_good_order_is_accepted_without_personal_data() {
    let rows = run("orders", "a.ndjson", ORDER).accepted;
    let text = |column: &str| rows[column].as_string::<i32>().value(0).to_string();
    assert_eq!(rows["amount"].as_primitive::<Decimal128Type>().value(0), 1230);
    assert_eq!((text("customer_email"), text("phone")), ("[REDACTED]".into(), "[REDACTED]".into()));
    assert_eq!(text("notes"), "call [PHONE] or [EMAIL]");
    assert_eq!((text("order_id"), text("country")), ("o-1".into(), "DE".into()));
}

#[test]
fn every_rule_of_orders_is_found() {
    let field = |from: &str, to: &str| ORDER.replace(from, to);
    let lines = [
        (field("paid", "Paid"), "bad_status"),
        (field("12.30", "0"), "amount_range"),
        (field("12.30", "100000.01"), "amount_range"),
        (field("EUR", "XXX"), "bad_currency"),
        (field("2026-01-01", "2026-06-02"), "future_time"),
        (field("12.30", "12.301"), "type.amount"),
        (field("12.30", "\"12.30\""), "type.amount"),
        (field("paid", "paidX").replace("EUR", "eur"), "bad_status bad_currency"),
        (field("\"DE\"", "49"), "type.country"),
    ];
    let text: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    let examined = run("orders", "a.ndjson", text);
    let expected: Vec<(i64, String)> = (0..).zip(lines.iter().map(|(_, rule)| rule.to_string())).collect();
    assert_eq!(rules(&examined), expected);
    let record = &examined.discards[0].record;
    assert!(record.starts_with(r#"{"order_id":"o-1","status":"Paid","amount":12.30,"#), "{record}");
    assert!(record.ends_with(r#""customer_email":"[REDACTED]","phone":"[REDACTED]","country":"DE","notes":"call [PHONE] or [EMAIL]"}"#), "{record}");
}

#[test]
fn csv_rows_are_typed_by_the_same_contract() {
    let object = "\u{feff}order_id,status,amount,currency,created_at,customer_email,extra,notes\r\n\
        o-1,paid,12.30,EUR,2026-01-01T00:00:00Z,jane@mail.example,1,\"two\r\nlines, 555-123-4567\"\r\n\
        o-2,paid,12.30\r\n\
        \r\n\
        o-3,paid,x,EUR,2026-01-01T00:00:00Z,jane@mail.example,1,\r\n\
        o-4,lost,1,EUR,2026-01-01T00:00:00Z,jane@mail.example,2,\r\n";
    let examined = run("orders", "a.csv", object);
    let found = [(1, "ragged_row".into()), (2, "type.amount".into()), (3, "bad_status".into())];
    assert_eq!(rules(&examined), found);
    assert_eq!(examined.accepted["notes"].as_string::<i32>().value(0), "two\r\nlines, [PHONE]");
    assert_eq!(examined.discards[0].record, "the row has 3 fields, the header 8; its values are not kept");
    assert_eq!(
        examined.discards[2].record,
        r#"{"order_id":"o-4","status":"lost","amount":1,"currency":"EUR","created_at":"2026-01-01T00:00:00Z","customer_email":"[REDACTED]","extra":"2","notes":null}"#
    );
    assert_eq!(examined.unknown_fields, BTreeMap::from([("extra".to_string(), 4)]));
    let place = object.find("o-2,").unwrap() as i64;
    assert_eq!((examined.discards[0].byte_offset, examined.discards[0].byte_len), (place, 14));
}

#[test]
fn the_severities_quarantine_and_fail_act_on_the_whole_object() {
    let contract = |severity: &str| {
        let text = include_str!("../../../contracts/sensor_readings.yaml").replacen(
            "severity: discard",
            severity,
            1,
        );
        Checker::new(&Contract::parse(&text).unwrap()).unwrap()
    };
    let object = format!("{READING}\n{}\n{{\n", READING.replace("21.53", "null"));
    let key = BronzeKey::parse("bronze/sensor_readings/a.json", |_| true).unwrap();
    let aside =
        examine(&contract("severity: quarantine"), &key, Bytes::from(object.clone()), NOW_MS).unwrap_err();
    assert!(
        matches!(aside, ExamineError::Quarantined { ref check, rows: 1, rows_in: 3, .. } if check == "missing_value"),
        "{aside}"
    );
    let sound = run_with(&contract("severity: quarantine"), "a.json", READING.to_owned());
    assert_eq!(sound.accepted.num_rows(), 1);
    let failed = examine(&contract("severity: fail"), &key, Bytes::from(object), NOW_MS).unwrap_err();
    assert!(
        matches!(failed, ExamineError::Failed { ref check, rows: 1, .. } if check == "missing_value"),
        "{failed}"
    );
}

/// Not a test of behaviour: `cargo test --release -- --ignored speed --nocapture` tells how fast it is.
#[test]
#[ignore = "a measurement"]
fn speed_of_a_million_readings() {
    let checker = checker("sensor_readings");
    let object = |first: usize, rows: usize| -> Bytes {
        let line = |seq: usize| {
            let channel = ["temperature", "humidity", "pressure"][seq % 3];
            let value = [21, 45, 1013][seq % 3];
            format!(
                "{{\"device\":\"device-{:04}\",\"channel\":\"{channel}\",\"value\":{value}.{:02},\"at\":\"2026-01-01T00:{:02}:{:02}.{:03}Z\",\"seq\":{seq},\"boot\":1}}\n",
                seq % 500,
                seq % 100,
                seq / 60_000 % 60,
                seq / 1000 % 60,
                seq % 1000
            )
        };
        (first..first + rows).map(line).collect::<String>().into()
    };
    let key = BronzeKey::parse("bronze/sensor_readings/a.ndjson", |_| true).unwrap();
    for (objects, rows) in [(200, 5_000), (4, 250_000)] {
        let input: Vec<Bytes> = (0..objects).map(|n| object(n * rows, rows)).collect();
        let start = std::time::Instant::now();
        for bytes in &input {
            assert_eq!(examine(&checker, &key, bytes.clone(), NOW_MS).unwrap().accepted.num_rows(), rows);
        }
        let each = start.elapsed() / objects as u32;
        println!("{objects} objects of {rows} rows: {each:?} each, {:?} a row", each / rows as u32);
    }
}
