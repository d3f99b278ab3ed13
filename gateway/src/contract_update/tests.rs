#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::time::Duration;

use super::*;
use crate::range::{DEFAULT_CONTRACT, OutOfRange};

fn contract(temperature_max: f64) -> String {
    format!(
        "customProperties: [{{ property: references, value: [{{ name: channels, rows: [{{ channel: temperature, value_min: -40, value_max: {temperature_max} }}] }}] }}]"
    )
}

fn settings() -> Settings {
    Settings {
        updates: Some(UpdatesConfig { topic: "t".into(), trial_ms: 1_000 }),
        configured: RangeTable::from_contract(DEFAULT_CONTRACT, OutOfRange::Keep).unwrap(),
        policy: RangePolicy { otherwise: OutOfRange::Drop, drop_channels: Vec::new() },
    }
}

fn max_of(updates: &Updates) -> f64 {
    updates.ranges().range.get("temperature").unwrap().0.value_max
}

fn policy_of(updates: &Updates) -> OutOfRange {
    updates.ranges().range.get("temperature").unwrap().1
}

fn good(trial: u64) -> TrialCount {
    TrialCount { trial, readings: 100, newly_out: 9 }
}

#[test]
fn a_good_contract_flags_on_trial_is_confirmed_and_outlives_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let mut updates = Updates::open(dir.path(), settings(), start);
    assert_eq!((max_of(&updates), updates.receive(b"", start)), (85.0, News::Nothing));
    assert_eq!(updates.receive(contract(120.0).as_bytes(), start), News::OnTrial);
    let ranges = updates.ranges();
    assert_eq!((max_of(&updates), policy_of(&updates)), (120.0, OutOfRange::Keep));
    assert_eq!(ranges.trial.unwrap().former.get("temperature").unwrap().0.value_max, 85.0);
    assert_eq!(updates.receive(contract(120.0).as_bytes(), start), News::Nothing, "the same again");

    let later = start + Duration::from_secs(2);
    let few = TrialCount { readings: 99, newly_out: 99, ..good(1) };
    for (count, now) in [(good(1), start), (few, later), (good(7), later)] {
        assert_eq!(updates.look(count, now), News::Nothing);
    }
    updates.store().unwrap();
    // A restart: the trial begins anew.
    let mut updates = Updates::open(dir.path(), settings(), later);
    assert!(updates.status().on_trial && updates.look(good(1), later) == News::Nothing);
    assert_eq!(updates.look(good(1), later + Duration::from_secs(1)), News::Confirmed);
    assert_eq!(policy_of(&updates), OutOfRange::Drop);
    updates.store().unwrap();
    let mut updates = Updates::open(dir.path(), settings(), later);
    assert_eq!((max_of(&updates), updates.status().on_trial), (120.0, false));
    assert_eq!((updates.receive(b"", later), max_of(&updates)), (News::Removed, 85.0));
}

#[test]
fn a_trial_with_readings_newly_out_rolls_back_to_the_one_before_and_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let now = Instant::now();
    let mut updates = Updates::open(dir.path(), settings(), now);
    updates.receive(contract(120.0).as_bytes(), now);
    updates.look(good(1), now + Duration::from_secs(1));
    // A second one while the first trial of it runs: what comes back is the one that was confirmed.
    updates.receive(contract(50.0).as_bytes(), now);
    updates.receive(contract(10.0).as_bytes(), now);
    let bad = TrialCount { trial: 3, readings: 200, newly_out: 20 };
    let News::RolledBack(why) = updates.look(bad, now) else { panic!("it is kept") };
    assert!(why.contains("of 200 readings it put 20 out of range"), "{why}");
    assert_eq!((max_of(&updates), updates.status().rolled_back), (120.0, 1));
    updates.store().unwrap();
    let mut updates = Updates::open(dir.path(), settings(), now);
    assert!(matches!(updates.receive(contract(10.0).as_bytes(), now), News::Refused(_)));
    assert_eq!(updates.receive(contract(10.0).as_bytes(), now), News::Nothing, "told of once");
    assert_eq!((max_of(&updates), updates.status().refused), (120.0, 1));
}

#[test]
fn what_is_no_contract_changes_nothing_and_says_all_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let now = Instant::now();
    let mut updates = Updates::open(dir.path(), settings(), now);
    let two_wrong = "customProperties: [{ property: references, value: [{ name: channels, rows: [{ channel: a b, value_min: 0, value_max: 1 }, { channel: t, value_min: 2, value_max: 1 }] }] }]";
    let none = "customProperties: [{ property: references, value: [{ name: channels, rows: [] }] }]";
    let large = "#".repeat(DOCUMENT_BYTES_MAX + 1);
    let cases: [(&[u8], &[&str]); 6] = [
        (b"\xff\xfe", &["not UTF-8 from byte 0"]),
        (large.as_bytes(), &["65537 bytes"]),
        (b"- 1", &["cannot be read"]),
        (b"kind: DataContract", &["references"]),
        (two_wrong.as_bytes(), &["\"a b\"", "\"t\""]),
        (none.as_bytes(), &["channels"]),
    ];
    for (times, (payload, parts)) in cases.into_iter().enumerate() {
        let News::Refused(problem) = updates.receive(payload, now) else { panic!("{parts:?}") };
        assert!(parts.iter().all(|part| problem.contains(part)), "{problem}");
        assert_eq!((max_of(&updates), updates.status().refused), (85.0, times as u64 + 1));
    }
    let mut named = settings();
    named.policy.drop_channels = vec!["voltage".into()];
    updates.reconfigure(named, now);
    let News::Refused(problem) = updates.receive(contract(120.0).as_bytes(), now) else { panic!() };
    assert!(problem.contains("range.drop_channels") && problem.contains("voltage"), "{problem}");
}

#[test]
fn a_damaged_or_newer_file_is_given_up_and_without_the_setting_nothing_pushed_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let now = Instant::now();
    let mut updates = Updates::open(dir.path(), settings(), now);
    updates.receive(contract(120.0).as_bytes(), now);
    updates.store().unwrap();
    let off = Settings { updates: None, ..settings() };
    assert_eq!(max_of(&Updates::open(dir.path(), off.clone(), now)), 85.0);
    updates.reconfigure(off, now);
    assert_eq!((max_of(&updates), updates.status().on_trial), (85.0, false));
    updates.reconfigure(settings(), now);
    assert_eq!((max_of(&updates), updates.status().on_trial), (120.0, true), "it is on disk still");

    let file = dir.path().join(stored::FILE);
    let whole = std::fs::read_to_string(&file).unwrap();
    for damaged in [&whole[..whole.len() / 2], &whole.replace("\"version\":1", "\"version\":2"), ""] {
        std::fs::write(&file, damaged).unwrap();
        assert_eq!(max_of(&Updates::open(dir.path(), settings(), now)), 85.0);
    }
}
