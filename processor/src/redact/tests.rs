#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn orders() -> &'static Redactor {
    static ORDERS: std::sync::LazyLock<Redactor> =
        std::sync::LazyLock::new(|| Redactor::new(&Contract::embedded()[1]));
    &ORDERS
}

#[test]
fn a_record_keeps_what_is_not_personal() {
    let record = orders().json_record(
        r#"{"order_id":"ORD-00012345","amount":1234567.80,"phone":7,"customer_email":null,"x":{"tel":5551234567,"id":"550e8400-e29b-41d4-a716-446655440000"},"big":123456789012345678901234567890}"#,
    );
    assert_eq!(
        record,
        r#"{"order_id":"ORD-00012345","amount":1234567.80,"phone":"[REDACTED]","customer_email":null,"x":{"id":"550e8400-e29b-41d4-a716-446655440000","tel":"[PHONE]"},"big":"[PHONE]"}"#
    );
}

#[test]
fn a_number_that_is_no_number_of_its_column_is_scanned() {
    for (record, kept) in [
        (r#"{"amount":4111111111111111}"#, r#"{"amount":"[CARD]"}"#),
        (r#"{"amount":5551234567}"#, r#"{"amount":"[PHONE]"}"#),
        (r#"{"created_at":4111111111111111}"#, r#"{"created_at":"[CARD]"}"#),
        (r#"{"created_at":1767225600000}"#, r#"{"created_at":1767225600000}"#),
        (r#"{"amount":12345678}"#, r#"{"amount":12345678}"#),
        (r#"{"amount":1234567890.25}"#, r#"{"amount":1234567890.25}"#),
    ] {
        assert_eq!(orders().json_record(record), kept);
    }
    // A key keeps its digits, or the row could not be traced.
    let readings = Redactor::new(&Contract::embedded()[0]);
    let record = r#"{"device":"d1","boot":4111111111111111,"seq":5551234567}"#;
    assert_eq!(readings.json_record(record), record);
}

#[test]
fn a_pseudonym_stands_for_a_value_in_rows_and_records_alike_and_broken_text_is_masked() {
    let text = include_str!("../../../contracts/orders.yaml");
    let text = text.replacen("property: redact, value: mask", "property: redact, value: pseudonym", 1);
    let mut contract = Contract::parse(&text).unwrap();
    contract.check_key().unwrap_err();
    let record = r#"{"order_id":"A1","customer_email":"ann@x.example"}"#;
    let masked = Redactor::new(&contract).json_record(record);
    assert_eq!(masked, r#"{"order_id":"A1","customer_email":"[REDACTED]"}"#);
    let key = PseudonymKey::new(b"0123456789abcdef0123456789abcdef").unwrap();
    let name = key.pseudonym("ann@x.example");
    contract.pseudonym_key = Some(key);
    contract.check_key().unwrap();
    let redactor = Redactor::new(&contract);
    assert_eq!(redactor.json_record(record), masked.replace(MASK, &name));
    assert_eq!(redactor.json_record(r#"{"customer_email":null}"#), r#"{"customer_email":null}"#);
    assert!(redactor.broken_record(br#"{"customer_email":"ann"#).ends_with("\"[REDACTED]\""));
    let column: ArrayRef = Arc::new(StringArray::from(vec![Some("ann@x.example"), None]));
    let rows = RecordBatch::try_from_iter_with_nullable([("customer_email", column, true)]).unwrap();
    let column = redactor.rows(&rows).unwrap().column(0).clone();
    assert_eq!(column.as_string::<i32>().iter().collect::<Vec<_>>(), [Some(name.as_str()), None]);
}

#[test]
fn what_stands_under_a_hidden_name_is_masked_at_every_depth_and_in_any_case() {
    for (record, kept) in [
        (
            r#"{"op":"u","after":{"customer_email":"Ann","total":5,"of":[{"Phone":{"home":["Bob"]}}]}}"#,
            r#"{"op":"u","after":{"customer_email":"[REDACTED]","of":[{"Phone":"[REDACTED]"}],"total":5}}"#,
        ),
        (
            r#"{"Customer_Email":"Ann","PHONE":7,"rows":[["x",{"phone":7}]]}"#,
            r#"{"Customer_Email":"[REDACTED]","PHONE":"[REDACTED]","rows":[["x",{"phone":"[REDACTED]"}]]}"#,
        ),
        // A number that no value holds makes it text, and hides nothing from the mask.
        (r#"{"after":{"phone":"Ann","x":1e999}}"#, r#"{"after":"{\"phone\":\"[REDACTED]\",\"x\":1e999}"}"#),
        (r#"{"a":{"phone":null},"b":{"phones":"Ann"}}"#, r#"{"a":{"phone":null},"b":{"phones":"Ann"}}"#),
    ] {
        let once = orders().json_record(record);
        assert_eq!(once, kept);
        assert_eq!(orders().json_record(&once), kept);
    }
    let csv = [("CUSTOMER_EMAIL", "\"Ann\""), ("status", "\"paid\"")];
    let csv = csv.into_iter().map(|(name, value)| (name, Cow::Borrowed(value)));
    assert_eq!(orders().record(csv), r#"{"CUSTOMER_EMAIL":"[REDACTED]","status":"paid"}"#);
}

#[test]
fn a_dropped_or_pseudonymous_name_is_masked_where_it_is_nested() {
    let text = include_str!("../../../contracts/orders.yaml");
    for (redact, top) in [("drop", "null"), ("pseudonym", "\"[REDACTED]\"")] {
        let text = text.replacen("redact, value: mask", &format!("redact, value: {redact}"), 1);
        let redactor = Redactor::new(&Contract::parse(&text).unwrap());
        let record = redactor.json_record(r#"{"customer_email":"Ann","before":{"customer_email":"Ann"}}"#);
        let kept = format!(r#"{{"customer_email":{top},"before":{{"customer_email":"[REDACTED]"}}}}"#);
        assert_eq!(record, kept);
    }
}

#[test]
fn a_long_record_is_cut_and_no_address_is_split() {
    for len in SCANNED_BYTES_MAX - 40..SCANNED_BYTES_MAX {
        // Addresses up to the cut shrink so much that the cut's end shows in the record.
        let before = format!("{}{}", "a@b.example ".repeat(len / 12), " ".repeat(len % 12));
        let text = format!("{before}canary@mail.example {}", "x".repeat(40_000));
        let record = orders().broken_record(text.as_bytes());
        assert!(record.len() <= RECORD_BYTES_MAX && record.ends_with(CUT));
        assert!(!record.contains("canary"), "{len}");
    }
}

proptest! {
    #[test]
    fn redacting_broken_text_twice_changes_nothing(text in r#"([ -~]|"phone":|"notes": "|@a.b|555 1234){0,30}"#) {
        let redactor = orders();
        let once = redactor.broken_record(text.as_bytes());
        prop_assert_eq!(redactor.broken_record(once.as_bytes()), once);
    }

    #[test]
    fn redacting_a_record_twice_changes_nothing(name in "[a-z@. 0-9]{0,20}", value in "[a-z@. 0-9+-]{0,30}") {
        let redactor = orders();
        let once = redactor.json_record(&serde_json::json!({"phone": value, "notes": value, name: [value]}).to_string());
        prop_assert_eq!(redactor.json_record(&once), once);
    }
}
