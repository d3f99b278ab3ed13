#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use flate2::Compression;
use flate2::write::GzEncoder;
use ingot_agent::{Batch, Drop, Quality, Reading};
use proptest::prelude::*;

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
fn a_broken_line_costs_itself_alone() {
    let mut object = format!("{READING}\n").into_bytes();
    let long = format!("{{\"device\":\"{}\"}}", "x".repeat(2 * 1024 * 1024));
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for line in [
        "{\"device\":\"d1\",",
        "[1,2]",
        "[1,2",
        "null",
        "{} x",
        &READING.replace("boot", "seq"),
        &long,
        &deep,
    ] {
        object.extend_from_slice(line.as_bytes());
        object.push(b'\n');
    }
    object.extend_from_slice(b"{\"device\":\"\xff\"}\n");
    object.extend_from_slice(READING.as_bytes());
    let examined = run("sensor_readings", "a.json", object.clone());
    let expected = [
        "malformed_json",
        "not_an_object",
        "malformed_json",
        "not_an_object",
        "malformed_json",
        "duplicate_key",
        "line_too_long",
        "required.device required.boot required.seq required.channel required.at",
        "not_utf8",
    ];
    let expected: Vec<(i64, String)> = (1..).zip(expected.iter().map(|rule| rule.to_string())).collect();
    assert_eq!(rules(&examined), expected);
    assert_eq!(examined.accepted.num_rows(), 2);
    assert_eq!(examined.accepted[ORDINAL].as_primitive::<Int64Type>().values().to_vec(), [0, 10]);
    assert_eq!(examined.unknown_fields, BTreeMap::from([("x".to_string(), 1)]));
    for row in &examined.discards {
        assert!(row.record.len() <= crate::redact::RECORD_BYTES_MAX);
    }
    let bad = &examined.discards[0];
    let bytes = &object[bad.byte_offset as usize..][..bad.byte_len as usize];
    assert_eq!(bytes, b"{\"device\":\"d1\",");
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
fn csv_without_a_header_loses_no_row() {
    let examined = run("orders", "a.csv", "o-1,paid\no-2,paid\n");
    assert_eq!(examined.rows_in, 2);
    assert_eq!(examined.discards[0].rules, ["no_header"]);
}

#[test]
fn what_a_cut_gzip_stream_gave_lands() {
    let text: String = (0..5000)
        .map(|seq| format!("{}\n", READING.replace("\"seq\":0", &format!("\"seq\":{seq}"))))
        .collect();
    let whole = gz(text.as_bytes());
    assert_eq!(run("sensor_readings", "a.ndjson.gz", whole.clone()).accepted.num_rows(), 5000);
    let examined = run("sensor_readings", "a.ndjson.gz", &whole[..whole.len() / 2]);
    let landed = examined.accepted.num_rows();
    assert!((1..5000).contains(&landed), "{landed}");
    assert_eq!(rules(&examined), [(landed as i64, "gz".into())]);
    assert!(examined.discards[0].record.starts_with("the gzip stream stops being one after"));
    assert_eq!(rules(&run("sensor_readings", "a.ndjson.gz", "not gzip")), [(0, "gz".into())]);
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

/// A frame of one reading of `d1` per value, counted from 0; no value is a missing one.
fn frame(seq: u64, values: &[Option<f64>]) -> Vec<u8> {
    let mut batch = Box::new(Batch::<4, 4, 4096>::new("gw-1", 7).unwrap());
    for _ in 0..seq {
        batch.seal(0, 0, |_| {});
    }
    let device = batch.device("d1", 1).unwrap();
    let series = batch.series(device, "temperature").unwrap();
    for (seq, value) in (0..).zip(values) {
        let quality = if value.is_some() { Quality::GOOD } else { Quality::MISSING };
        let at_ms = 1_767_225_600_000 + seq as i64 * 1000;
        batch.push(series, &Reading { seq, at_ms, value: value.unwrap_or(0.0), quality }).unwrap();
    }
    batch.count_drop(Drop::SpoolFull, 3);
    let mut bytes = Vec::new();
    batch.seal(1_767_225_700_000, 90_000, |piece| bytes.extend_from_slice(piece));
    bytes
}

#[test]
fn readings_of_frames_land_with_their_headers() {
    let object =
        [frame(0, &[Some(21.5), None, Some(f64::NAN), Some(99.0)]), frame(1, &[Some(-40.0)])].concat();
    let examined = run("sensor_readings", "a.ingot", object.clone());
    assert_eq!(
        rules(&examined),
        [(1, "missing_value".into()), (2, "out_of_range".into()), (3, "out_of_range".into())]
    );
    let rows = &examined.accepted;
    assert_eq!(rows["value"].as_primitive::<Float64Type>().values().to_vec(), [21.5, -40.0]);
    assert_eq!(rows["device"].as_string::<i32>().value(1), "d1");
    assert_eq!(rows["at"].as_primitive::<TimestampMicrosecondType>().value(0), 1_767_225_600_000_000);
    assert_eq!(
        examined.discards[1].record,
        r#"{"device":"d1","boot":1,"seq":2,"channel":"temperature","at":"2026-01-01T00:00:02Z","value":"NaN","quality":0}"#
    );
    let headers: Vec<(u64, u32)> = examined.frames.iter().map(|frame| (frame.seq, frame.readings)).collect();
    assert_eq!(headers, [(0, 4), (1, 1)]);
    assert_eq!(examined.frames[0].drops, [(Drop::SpoolFull, 3)]);
    assert_eq!((examined.frames[0].gateway.as_str(), examined.frames[0].boot), ("gw-1", 7));
    assert_eq!(run("sensor_readings", "a.ingot.gz", gz(&object)).accepted.num_rows(), 2);
}

#[test]
fn a_damaged_frame_costs_itself_alone() {
    let good = frame(0, &[Some(20.0), Some(20.5)]);
    let mut bad = frame(1, &[Some(21.0)]);
    let middle = bad.len() / 2;
    bad[middle] = if bad[middle] == 1 { 2 } else { 1 };
    let cut = &good[..good.len() - 3];
    let examined = run("sensor_readings", "a.ingot", [good.as_slice(), &bad, &good, cut].concat());
    assert_eq!(rules(&examined), [(2, "frame".into()), (5, "frame".into())]);
    assert_eq!(examined.accepted.num_rows(), 4);
    let (start, end) = (good.len(), good.len() + bad.len());
    assert!(
        examined.discards[0].record.starts_with(&format!("bytes {start}..{end} of the object: the frame's "))
    );
    assert_eq!(
        (examined.discards[0].byte_offset, examined.discards[0].byte_len),
        (start as i64, bad.len() as i64)
    );
}

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

#[test]
fn an_object_without_rows_gives_none() {
    for name in ["a.ndjson", "a.csv", "a.ingot"] {
        assert_eq!(run("orders", name, "").rows_in, 0);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_accounted_for(bytes in proptest::collection::vec(any::<u8>(), 0..400), packed: bool) {
        let orders = checker_once();
        let bytes = if packed { gz(&bytes) } else { bytes };
        for name in ["a.ndjson", "a.csv", "a.csv.gz", "a.ingot", "a.ingot.gz"] {
            run_with(orders, name, bytes.clone());
        }
    }

    #[test]
    fn nearly_good_text_is_accounted_for(text in r#"([{}\[\],:"\n ]|"(order_id|amount|phone)":|"o"|1.5|null|\\u00e9|é){0,40}"#) {
        let orders = checker_once();
        for name in ["a.ndjson", "a.csv"] {
            run_with(orders, name, text.clone());
        }
    }
}

fn checker_once() -> &'static Checker {
    static ORDERS: std::sync::LazyLock<Checker> = std::sync::LazyLock::new(|| checker("orders"));
    &ORDERS
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
