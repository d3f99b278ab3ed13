#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;

use ingot_agent::{Batch as Sealing, Quality, Reading};

use super::*;
use crate::bronze::BronzeKey;
use crate::check::Checker;
use crate::ledger;
use crate::promote::{Candidate, promote};
use crate::query::query;
use crate::run::{RunReport, run};

const READINGS: &str = include_str!("../../../contracts/sensor_readings.yaml");
/// 2026-01-01T00:00:00Z.
const NEW_YEAR_MS: i64 = 1_767_225_600_000;

const SALES: &str = r#"apiVersion: v3.1.0
kind: DataContract
id: sales
version: 1.0.0
status: active
slaProperties:
  - { property: latency, value: 2, unit: h, element: sales.at }
schema:
  - name: sales
    properties:
      - { name: id, logicalType: string, required: true, primaryKey: true }
      - { name: at, logicalType: timestamp, required: true }
      - name: shop
        logicalType: string
        quality:
          - { id: shops_missing, metric: missingValues, arguments: { missingValues: [null, "n/a"] }, unit: percent, mustBeLessThan: 40 }
          - { id: shops_known, type: library, metric: invalidValues, arguments: { validValues: [north, south, "n/a"] }, mustBe: 0, severity: fail }
      - { name: gross, logicalType: number }
      - { name: net, logicalType: number }
    quality:
      - { id: enough, type: library, metric: rowCount, mustBeBetween: [1, 4], customProperties: [{ property: window, value: all }] }
      - { id: no_twins, type: library, metric: duplicateValues, arguments: { properties: [shop, at] }, mustBe: 0, customProperties: [{ property: window, value: day }] }
      - id: tax
        type: sql
        query: SELECT sum(gross) - sum(net) FROM ${object}
        mustBeGreaterOrEqualTo: 0
        mustBeLessThan: 10
customProperties:
  - { property: partitionBy, value: at }
"#;

struct TempLake {
    dir: tempfile::TempDir,
    lake: Lake,
    contract: Contract,
}

impl TempLake {
    fn new(contract: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::create(&format!("file://{}", dir.path().display())).unwrap();
        Self { dir, lake, contract: Contract::parse(contract).unwrap() }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let folder = self.dir.path().join("bronze").join(&self.contract.dataset);
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    async fn run(&self) -> RunReport {
        run(&self.lake, std::slice::from_ref(&self.contract), |_, _| {}).await.unwrap()
    }

    /// As a processor does that dies before it settles.
    async fn promote_alone(&self, name: &str) {
        let object = self.lake.list_bronze().await.unwrap();
        let object = object.into_iter().find(|object| object.key.ends_with(name)).unwrap();
        let key = BronzeKey::parse(&object.key, |_| true).unwrap();
        let checker = Checker::new(&self.contract).unwrap();
        promote(&self.lake, &checker, &[Candidate { object, key }], NEW_YEAR_MS).await.unwrap();
    }

    async fn count(&self, sql: &str) -> i64 {
        let rows = query(&self.lake, std::slice::from_ref(&self.contract), sql).await.unwrap();
        rows[0].column(0).as_primitive::<datafusion::arrow::datatypes::Int64Type>().value(0)
    }
}

fn found<'a>(report: &'a RunReport, check: &str, window: &str) -> &'a CheckResult {
    let found = report.checks.iter().find(|result| result.check == check && result.window == window);
    found.unwrap_or_else(|| panic!("{check} {window}: {:#?}", report.checks))
}

fn sale(id: &str, at: &str, shop: &str, gross: f64, net: f64) -> String {
    format!(r#"{{"id":"{id}","at":"{at}","shop":{shop},"gross":{gross},"net":{net}}}"#) + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_sums_and_freshness_are_judged_per_run_and_per_window() {
    let lake = TempLake::new(SALES);
    let (one, two) = ("2026-01-01T10:00:00Z", "2026-01-02T10:00:00Z");
    lake.write("a.ndjson", sale("1", one, "\"north\"", 11.0, 10.0) + &sale("2", one, "\"south\"", 5.0, 4.0));
    let report = lake.run().await;
    for (check, window, value, passed) in [
        ("shops_missing", "run", 0.0, true),
        ("shops_known", "run", 0.0, true),
        ("enough", "all", 2.0, true),
        ("no_twins", "2026-01-01", 0.0, true),
        ("tax", "run", 2.0, true),
    ] {
        let result = found(&report, check, window);
        assert_eq!((result.value, result.passed), (Some(value), passed), "{check}");
    }
    let age = found(&report, "latency", "newest");
    assert!(!age.passed && age.value.unwrap() > 1000.0 && age.expected == "at most 2", "{age:?}");
    assert!(report.succeeded());

    // The second run is judged by what it brought, the days and the whole by what is there.
    let more = sale("3", two, "null", 30.0, 10.0) + &sale("4", two, "\"west\"", 1.0, 1.0);
    lake.write("b.ndjson", more + &sale("5", one, "\"north\"", 1.0, 1.0));
    let report = lake.run().await;
    for (check, window, value, passed) in [
        ("shops_missing", "run", 100.0 / 3.0, true),
        ("shops_known", "run", 1.0, false),
        ("enough", "all", 5.0, false),
        ("no_twins", "2026-01-01", 1.0, false),
        ("no_twins", "2026-01-02", 0.0, true),
        ("tax", "run", 20.0, false),
    ] {
        let result = found(&report, check, window);
        assert_eq!((result.value, result.passed), (Some(value), passed), "{check}");
    }
    assert_eq!(found(&report, "tax", "run").expected, "at least 0 and less than 10");
    assert!(!report.succeeded(), "shops_known is of severity fail");

    // All of it is written down; an idle run adds nothing that is not new.
    let written = lake.count("SELECT count(*) FROM checks").await;
    assert_eq!(written, 6 + 7);
    let idle = lake.run().await;
    assert_eq!(idle.checks.iter().map(|result| result.check.as_str()).collect::<Vec<_>>(), ["latency"]);
    assert_eq!(lake.count("SELECT count(*) FROM checks").await, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promoted_and_not_judged_is_judged_by_the_next_run() {
    let lake = TempLake::new(SALES);
    let at = "2026-01-01T10:00:00Z";
    lake.write("a.ndjson", sale("1", at, "\"north\"", 1.0, 1.0));
    lake.run().await;
    for (name, shop) in [("b.ndjson", "null"), ("c.ndjson", "\"west\"")] {
        lake.write(name, sale(name, at, shop, 1.0, 1.0));
        lake.promote_alone(name).await;
    }
    lake.write("d.ndjson", sale("4", at, "\"south\"", 1.0, 1.0));
    let report = lake.run().await;
    assert_eq!(report.total.objects, 1);
    // Of three objects, and not of the first one again.
    assert_eq!(found(&report, "shops_missing", "run").value, Some(100.0 / 3.0));
    assert_eq!(found(&report, "shops_known", "run").value, Some(1.0));
    // Also where nothing is left to promote.
    lake.write("e.ndjson", sale("5", at, "null", 1.0, 1.0));
    lake.promote_alone("e.ndjson").await;
    let report = lake.run().await;
    assert_eq!((report.total.objects, found(&report, "shops_missing", "run").value), (0, Some(100.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_that_judge_at_once_write_each_result_once() {
    let lake = TempLake::new(SALES);
    lake.write("a.ndjson", sale("1", "2026-01-01T10:00:00Z", "\"north\"", 1.0, 1.0));
    lake.promote_alone("a.ndjson").await;
    let ledger = ledger::open(&lake.lake).await.unwrap();
    let held = (0..4).map(|_| hold(&lake.lake, &lake.contract, &ledger, NEW_YEAR_MS));
    for results in futures::future::join_all(held).await {
        assert!(results.is_ok(), "{results:?}");
    }
    let twice = "SELECT count(*) - count(DISTINCT check || \"window\") FROM checks";
    assert_eq!(lake.count(twice).await, 0);
    assert_eq!(lake.count("SELECT count(*) FROM checks WHERE \"window\" = 'run'").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_fails_is_a_check_that_is_not_passed() {
    let text = SALES.replace("SELECT sum(gross) - sum(net)", "SELECT 1 / (count(*) - count(*))");
    let lake = TempLake::new(&text);
    lake.write("a.ndjson", sale("1", "2026-01-01T10:00:00Z", "\"north\"", 1.0, 1.0));
    let report = lake.run().await;
    let result = found(&report, "tax", "run");
    assert!(!result.passed && result.problem.is_some(), "{result:?}");
    assert_eq!(report.total.silver, 1);
}

#[tokio::test]
async fn mistakes_are_told_with_their_lines() {
    let text = SALES
        .replace("metric: rowCount, mustBeBetween: [1, 4]", "metric: rowcount, mustBeBetween: [1]")
        .replace("mustBe: 0, severity: fail", "mustBe: 0, severity: quarantine")
        .replace("properties: [shop, at]", "properties: [shop, when]")
        .replace("value: day", "value: week")
        .replace("element: sales.at", "element: sales.shop");
    let problems: Vec<String> =
        Contract::parse(&text).unwrap_err().problems.iter().map(ToString::to_string).collect();
    for part in [
        "check enough: metric rowcount is not one of",
        "check enough: [1] is not a list of two numbers",
        "check shops_known: severity quarantine is not warn or fail",
        "check no_twins: when is no column",
        "check no_twins: window \"week\" is not one of",
        "latency: element \"sales.shop\" is not",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:#?}");
    }
    let found = crate::lint::lint(&SALES.replace("sum(net)", "sum(nett)"), None).await;
    assert!(found[0].problem.contains("check tax: ") && found[0].place.line == 25, "{found:?}");
    assert_eq!(crate::lint::lint(SALES, None).await, []);
}

/// Readings of a device, one a minute from the new year on.
fn readings(device: &str, channel: &str, values: &[f64]) -> String {
    let mut lines = String::new();
    for (seq, value) in (0_i64..).zip(values) {
        let at = NEW_YEAR_MS + seq * 60_000;
        writeln!(
            lines,
            r#"{{"device":"{device}","channel":"{channel}","value":{value},"at":{at},"boot":1,"seq":{seq}}}"#
        )
        .unwrap();
    }
    lines
}

fn without(lines: &str, seqs: impl Fn(usize) -> bool) -> String {
    let kept = lines.lines().enumerate().filter(|(seq, _)| !seqs(*seq));
    kept.map(|(_, line)| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_of_devices_is_judged_and_they_are_named() {
    let lake = TempLake::new(READINGS);
    let wave: Vec<f64> = (0..120).map(|n| 20.0 + f64::from(n % 7) / 10.0).collect();
    let mut object = readings("good", "temperature", &wave);
    object += &readings("flat", "temperature", &[21.5; 60]);
    let mut spiky = wave.clone();
    spiky[50] = 45.0;
    object += &readings("spiky", "temperature", &spiky);
    let stepped: Vec<f64> = (0..120).map(|n| wave[n] + if n < 60 { 0.0 } else { 15.0 }).collect();
    object += &readings("stepped", "temperature", &stepped);
    object += &without(&readings("lossy", "temperature", &wave), |seq| seq % 10 == 5);
    object += &without(&readings("gap", "temperature", &wave), |seq| seq == 7);
    // What was discarded is no gap.
    let mut broken = wave.clone();
    broken[30] = 999.0;
    object += &readings("broken", "temperature", &broken);
    lake.write("dt=2026-01-01/a.ndjson", object);
    let report = lake.run().await;
    let day = "2026-01-01";
    for (check, window, subjects) in [
        ("flatline", day, &["flat temperature"][..]),
        ("spike", "run", &["spiky temperature"]),
        ("level_step", "run", &["stepped temperature"]),
        ("capture_rate", day, &["lossy"]),
        ("sequence_gaps", day, &["gap boot 1", "lossy boot 1"]),
        ("clock_skew", "run", &[]),
    ] {
        let result = found(&report, check, window);
        assert_eq!(result.subjects, subjects, "{check}: {result:?}");
        assert_eq!(result.passed, subjects.is_empty());
    }
    assert!(report.succeeded(), "they warn");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_clock_is_off_is_named_and_names_are_bounded() {
    let lake = TempLake::new(READINGS);
    let sealed_ms = NEW_YEAR_MS + 10_000_000;
    for (object, ahead_ms) in [("0000000000", 0), ("0000000001", 3_600_000)] {
        let mut batch = Box::new(Sealing::<16, 16, 4096>::new("gw-1", 7).unwrap());
        if ahead_ms > 0 {
            batch.seal(0, 0, |_| {});
        }
        for n in 0..12 {
            let name = format!("{}{n:02}", if ahead_ms > 0 { "ahead" } else { "good" });
            let device = batch.device(&name, 1).unwrap();
            let series = batch.series(device, "temperature").unwrap();
            for seq in 0..3 {
                let at_ms = sealed_ms - 5_000 + ahead_ms + seq as i64;
                batch.push(series, &Reading { seq, at_ms, value: 20.0, quality: Quality::GOOD }).unwrap();
            }
        }
        let mut frame = Vec::new();
        batch.seal(sealed_ms, 0, |bytes| frame.extend_from_slice(bytes));
        lake.write(&format!("dt=2026-01-01/gateway=gw-1/0000000000000007-{object}.ingot"), frame);
    }
    let report = lake.run().await;
    assert_eq!(report.total.silver, 72, "{report:?}");
    let result = found(&report, "clock_skew", "run");
    assert_eq!((result.value, result.subjects.len(), result.subjects_more), (Some(12.0), 10, 2));
    assert!(result.subjects.iter().all(|name| name.starts_with("ahead")));
}
