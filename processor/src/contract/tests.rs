//! What a contract promises, and that every mistake in one is told with its line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const ORDERS: &str = include_str!("../../../contracts/orders.yaml");

#[test]
fn the_embedded_contracts_are_valid() {
    let contracts = Contract::embedded();
    let names: Vec<&str> = contracts.iter().map(|contract| contract.dataset.as_str()).collect();
    assert_eq!(names, ["sensor_readings", "orders"]);
    let readings = &contracts[0];
    assert_eq!(readings.key, ["device", "boot", "seq"]);
    assert_eq!(readings.partition_by, "at");
    assert_eq!(
        (readings.references[0].name.as_str(), readings.references[0].rows.num_rows()),
        ("channels", 5)
    );
    assert_eq!(readings.checks.iter().filter(|check| check.severity == Severity::Warn).count(), 1);
    assert!(readings.columns[readings.column_index("at").unwrap()].epoch_ms);
    let orders = &contracts[1];
    let schema = orders.row_schema();
    assert_eq!(schema.field_with_name("amount").unwrap().data_type(), &DataType::Decimal128(18, 2));
    assert!(!schema.field_with_name("order_id").unwrap().is_nullable());
    assert_eq!(orders.gold.iter().map(|gold| gold.window).collect::<Vec<_>>(), [Window::All, Window::Day]);
}

#[test]
fn all_problems_are_told_at_once() {
    let text = ORDERS
        .replace("id: orders\n", "id: web-orders\n")
        .replace("decimal(18,2)", "decimal(40,2)")
        .replace("value: mask", "value: hide")
        .replace("id: bad_currency", "id: bad_status")
        .replace("window: day", "window: week")
        .replacen("severity: discard", "severity: error", 1)
        .replace("value: created_at", "value: amount");
    let problems = Contract::parse(&text).unwrap_err().problems;
    let expected = [
        r#"id: "web-orders" is not"#,
        "column amount: physicalType decimal(40,2) is not",
        r#"column customer_email: redact is "hide", not one of"#,
        r#"column phone: redact is "hide", not one of"#,
        "check bad_status: severity error is not one of",
        "check bad_status is there twice",
        r#"partitionBy: "amount" is not"#,
        "gold orders_daily: window week is not",
        "example: bad_currency is no rule",
        "example: bad_currency is no rule",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, start) in problems.iter().map(|found| &found.problem).zip(expected) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[test]
fn keys_and_examples_are_judged_with_line_and_column() {
    let text = ORDERS
        .replace("version: 1.0.0\n", "")
        .replace("primaryKey: true", "primarykey: true")
        .replace("logicalType: timestamp, required: true", "logicalType: timestamp, required: 'yes'")
        .replace("property: partitionBy", "property: partitonBy")
        .replace(
            "set: { amount: -5 }, expect: discard, rules: [amount_range]",
            "set: { amuont: -5 }, expect: refuse",
        );
    let found: Vec<String> =
        Contract::parse(&text).unwrap_err().problems.iter().map(ToString::to_string).collect();
    let line = |part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
    let primary = text.lines().nth(line("primarykey") - 1).unwrap().find("primarykey").unwrap() + 1;
    for expected in [
        "2:1: a contract must have the key version".to_owned(),
        format!(
            "{}:{primary}: primarykey is no key of a column; did you mean primaryKey?",
            line("primarykey")
        ),
        format!("{}:63: required must be true or false", line("'yes'")),
        format!("{}:5: property partitonBy: did you mean partitionBy?", line("partitonBy")),
        format!("{}:11: example: set: amuont is no column", line("amuont")),
    ] {
        assert!(found.contains(&expected), "{expected}: {found:#?}");
    }

    let text = ORDERS
        .replace(
            "set: { amount: -5 }, expect: discard, rules: [amount_range]",
            "set: { amuont: -5 }, expect: refuse",
        )
        .replace("now: 2026-01-02T00:00:00Z", "now: today");
    let found = Contract::parse(&text).unwrap_err().to_string();
    for part in [
        "now is \"today\", not a time",
        "set: amuont is no column",
        "expect is \"refuse\", not accept, discard, quarantine or fail",
    ] {
        assert!(found.contains(part), "{found}");
    }
}

#[test]
fn a_reference_joins_by_text_that_is_there_once() {
    let readings = include_str!("../../../contracts/sensor_readings.yaml");
    let problem =
        |from: &str, to: &str| Contract::parse(&readings.replace(from, to)).unwrap_err().to_string();
    assert!(problem("channel: humidity", "channel: pressure").contains("channel pressure is there twice"));
    assert!(problem("channel: humidity", "channel: 7").contains("row 2 has no text in channel"));
    assert!(problem("\"on\": channel", "\"on\": seq").contains("seq is not a string column"));
    assert!(problem("value_min: 0.0", "value_min: low").contains("column value_min mixes types"));
}

#[test]
fn what_is_not_a_contract_is_one_problem() {
    for text in ["", "- a\n- b\n", "id: ["] {
        assert_eq!(Contract::parse(text).unwrap_err().problems.len(), 1, "{text}");
    }
}
