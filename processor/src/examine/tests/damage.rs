//! What is broken costs itself alone, and every row is accounted for.

use proptest::prelude::*;

use super::*;

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
fn csv_without_a_header_loses_no_row() {
    let examined = run("orders", "a.csv", "o-1,paid\no-2,paid\n");
    assert_eq!(examined.rows_in, 2);
    assert_eq!(examined.discards[0].rules, ["no_header"]);
}

#[test]
fn an_open_quote_costs_one_row_that_keeps_nothing_of_whom_it_swallowed() {
    let header = "order_id,status,amount,currency,created_at,customer_email,notes\n";
    let row = |id| format!("{id},paid,5,EUR,2026-01-01T10:00:00Z,Canary Smith,");
    let text = format!("{header}{}\n{}\"never closed\n{}\n", row("o-1"), row("o-2"), row("o-3"));
    let examined = run("orders", "a.csv", text.clone());
    assert_eq!(rules(&examined), [(1, "open_quote".into())]);
    assert_eq!(examined.accepted.num_rows(), 1);
    let bad = &examined.discards[0];
    let swallowed = &text[bad.byte_offset as usize..][..bad.byte_len as usize];
    assert!(swallowed.starts_with("o-2,") && swallowed.ends_with(','), "{swallowed}");
    assert_eq!(
        bad.record,
        format!(
            "the row opens a quote that nothing closes, so its {} bytes go on to the end of the object; close the quote, or write it twice; its values are not kept",
            swallowed.len()
        )
    );

    // A later row's quote closes it: that is CSV.
    let closed = format!("{text}{}\"\n", row("o-4"));
    assert_eq!(rules(&run("orders", "a.csv", closed)), []);
    let examined = run("orders", "a.csv", header.replace("notes", "\"notes") + &row("o-1"));
    assert_eq!(rules(&examined), [(0, "open_quote".into())]);
    assert!(examined.unknown_fields.is_empty(), "{:?}", examined.unknown_fields);
}

#[test]
fn a_row_that_a_cut_stream_ends_in_is_not_accepted_by_a_line_end_in_its_quote() {
    let header = "order_id,status,amount,currency,created_at,notes\n";
    let row = |id: usize| format!("o-{id},paid,5,EUR,2026-01-01T10:00:00Z,\"one {id}\ntwo\nthree\"\n");
    let text = header.to_owned() + &(0..3).map(row).collect::<String>();
    for cut in 0..=text.len() {
        let given = &text.as_bytes()[..cut];
        let zst = zstd::encode_all(given, 1).unwrap();
        for (name, rule, packed) in [("a.csv.gz", "gz", gz(given)), ("a.csv.zst", "zst", zst)] {
            let examined = run("orders", name, [&packed[..], b"damage"].concat());
            let whole = cut.saturating_sub(header.len()) / row(0).len();
            assert_eq!(examined.accepted.num_rows(), whole, "{name} cut at {cut}");
            assert_eq!(rules(&examined), [(whole as i64, rule.into())]);
            let rest = if cut < header.len() { 0 } else { header.len() + whole * row(0).len() };
            let place = (examined.discards[0].byte_offset, examined.discards[0].byte_len);
            assert_eq!(place, (rest as i64, (cut - rest) as i64), "the rest begins with the row that is cut");
        }
    }
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
        for name in ["a.ndjson", "a.csv", "a.csv.gz", "a.csv.zst", "a.ingot", "a.ingot.gz", "a.parquet"] {
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
