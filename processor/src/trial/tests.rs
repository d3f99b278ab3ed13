//! The shipped contracts' examples know their rules, and a trial tells what is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const ORDERS: &str = include_str!("../../../contracts/orders.yaml");
const READINGS: &str = include_str!("../../../contracts/sensor_readings.yaml");
const WEB_EVENTS: &str = include_str!("../../../contracts/examples/web_events.yaml");

fn tried(text: &str) -> Trial {
    trial(&Contract::parse(text).unwrap(), |_, _| {}).unwrap()
}

#[test]
fn the_shipped_examples_kill_every_mutant() {
    for text in [ORDERS, READINGS, WEB_EVENTS] {
        let trial = tried(text);
        assert!(trial.failures.is_empty(), "{:#?}", trial.failures);
        assert!(trial.survivors.is_empty(), "{:#?}", trial.survivors);
        assert!(trial.rules.values().map(|score| score.killed).sum::<usize>() > 20);
    }
}

#[test]
fn an_example_that_ends_otherwise_is_told_with_its_line() {
    let text = ORDERS.replace("amount <= 0 OR", "amount < 0 OR");
    let trial = tried(&text);
    let line = text.lines().position(|line| line.contains("{ amount: 0 }")).unwrap() as u64 + 1;
    assert_eq!(trial.failures.len(), 1, "{:#?}", trial.failures);
    let failure = &trial.failures[0];
    assert_eq!(
        (failure.line, failure.expected.as_str(), failure.happened.as_str()),
        (line, "discard by amount_range", "accept")
    );
    assert!(trial.rules.is_empty());
}

#[test]
fn a_mutant_that_no_example_kills_is_named_with_a_row_that_would() {
    let without = |part: &str| {
        ORDERS.lines().filter(|line| !line.contains(part)).map(|line| format!("{line}\n")).collect::<String>()
    };
    let survivors = tried(&without("{ amount: 100000 }")).survivors;
    let mutants: Vec<&str> = survivors.iter().map(|survivor| survivor.mutant.as_str()).collect();
    assert_eq!(
        mutants,
        ["amount <= 0 OR amount >= 100000", "amount <= 0 OR amount > CAST('99999.99' AS DECIMAL(38,2))"]
    );
    assert!(survivors[0].hint.as_ref().unwrap().contains(r#""amount":100000,"#), "{survivors:?}");
}

#[test]
fn an_equivalent_that_a_row_tells_apart_survives() {
    let claimed = ORDERS
        .replace("{ amount: 100000 }", "{ amount: 99999 }")
        .replace("      row: {", "      equivalent: [\"amount <= 0 OR amount >= 100000\"]\n      row: {");
    let survivors = tried(&claimed).survivors;
    assert!(survivors.iter().any(|survivor| survivor.mutant == "amount <= 0 OR amount >= 100000"));
}
