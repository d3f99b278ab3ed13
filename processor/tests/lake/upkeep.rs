//! Upkeep changes no row: not alone, not beside another, not beside a running processor, not when cut.
use std::path::Path;
use std::time::Instant;

use chrono::Utc;
use datafusion::arrow::json::LineDelimitedWriter;
use ingot_processor::audit::audit;
use ingot_processor::compact::{CompactSettings, compact, due};
use ingot_processor::contract::Contract;
use ingot_processor::lake::Lake;
use ingot_processor::maintain::{MaintainSettings, maintain, plan};
use ingot_processor::query::query;
use ingot_processor::run::run;

const SETTINGS: CompactSettings = CompactSettings {
    closed_after_days: 1,
    small_files_min: 4,
    open_small_files_min: 4,
    small_file_bytes: 16 * 1024 * 1024,
};
const TABLES: [&str; 5] =
    ["silver.sensor_readings", "gold.sensor_hourly", "gold.sensor_daily", "discard", "ledger"];

fn sensors() -> Vec<Contract> {
    Contract::embedded().into_iter().filter(|contract| contract.dataset == "sensor_readings").collect()
}

fn lake() -> (tempfile::TempDir, Lake) {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::create(&format!("file://{}", dir.path().display())).unwrap();
    (dir, lake)
}

/// A small object of one device's readings on one of three days; every fifth reading is out of range.
fn feed(root: &Path, object: usize, rows: usize) {
    let (day, gateway) = (object % 3, object % 10);
    let dir = root.join(format!("bronze/sensor_readings/dt=2026-01-0{}/gateway=gw-{gateway}", day + 1));
    std::fs::create_dir_all(&dir).unwrap();
    let mut text = String::new();
    for seq in 0..rows {
        let at = 1_767_225_600_000 + day as u64 * 86_400_000 + (object * rows + seq) as u64 * 10;
        let value = if seq % 5 == 4 { 500.0 } else { 20.0 + seq as f64 / 8.0 };
        text += &format!(
            "{{\"device\":\"d{object:05}\",\"boot\":1,\"seq\":{seq},\"channel\":\"temperature\",\"value\":{value},\"at\":{at},\"quality\":0}}\n"
        );
    }
    std::fs::write(dir.join(format!("{object:06}.ndjson")), text).unwrap();
}

/// A lake of `objects` objects that arrived a few at a time.
async fn fed(root: &Path, lake: &Lake, objects: usize, at_once: usize) {
    for start in (0..objects).step_by(at_once) {
        (start..objects.min(start + at_once)).for_each(|object| feed(root, object, 10));
        run(lake, &sensors(), |_, _| {}).await.unwrap();
    }
}

/// Every row of a question as JSON, sorted.
async fn rows(lake: &Lake, sql: &str) -> Vec<String> {
    let batches = query(lake, &sensors(), sql).await.unwrap();
    let mut json = Vec::new();
    LineDelimitedWriter::new(&mut json).write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
    let mut rows: Vec<String> = String::from_utf8(json).unwrap().lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

async fn everything(lake: &Lake) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for table in TABLES {
        all.push(rows(lake, &format!("SELECT * FROM {table}")).await);
    }
    all
}

async fn assert_balanced(lake: &Lake) {
    let balance = audit(lake, &sensors()).await.unwrap();
    assert_eq!(balance.findings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_changes_files_and_no_row() {
    let (dir, lake) = lake();
    fed(dir.path(), &lake, 24, 2).await;
    let before = everything(&lake).await;
    let now_ms = Utc::now().timestamp_millis();
    let found = due(&lake, &sensors(), SETTINGS, now_ms).await.unwrap();
    // Three days of silver and of discard, the ledger and the checks' results.
    assert_eq!(found.len(), 8, "{found:?}");
    for partition in &found {
        let done = compact(&lake, partition, SETTINGS).await.unwrap().unwrap();
        assert!(done.files_before >= 8 && done.files_after <= 2, "{done:?}");
    }
    assert!(everything(&lake).await == before);
    assert_balanced(&lake).await;
    assert_eq!(due(&lake, &sensors(), SETTINGS, now_ms).await.unwrap(), []);
    assert_eq!(compact(&lake, &found[0], SETTINGS).await.unwrap(), None);
    // The next object goes on as if nothing had happened, and gold recomputes its day alone.
    feed(dir.path(), 24, 10);
    let report = run(&lake, &sensors(), |_, _| {}).await.unwrap();
    assert_eq!((report.total.objects, report.total.silver, report.total.duplicates), (1, 8, 0));
    assert_eq!(report.gold[0].days, Some(1));
    assert_balanced(&lake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_compactions_at_once_do_the_work_of_one() {
    for _ in 0..3 {
        let (dir, lake) = lake();
        fed(dir.path(), &lake, 12, 1).await;
        let before = everything(&lake).await;
        let found = due(&lake, &sensors(), SETTINGS, Utc::now().timestamp_millis()).await.unwrap();
        for partition in found {
            let once = || {
                let (lake, partition) = (lake.clone(), partition.clone());
                tokio::spawn(async move { compact(&lake, &partition, SETTINGS).await.unwrap() })
            };
            let (a, b) = (once(), once());
            let done = [a.await.unwrap(), b.await.unwrap()];
            assert_eq!(done.iter().flatten().count(), 1, "{done:?}");
        }
        assert!(everything(&lake).await == before);
        assert_balanced(&lake).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn compaction_beside_running_processors_loses_and_doubles_nothing() {
    let (dir, lake) = lake();
    fed(dir.path(), &lake, 12, 1).await;
    (12..200).for_each(|object| feed(dir.path(), object, 10));
    let processors: Vec<_> = (0..2)
        .map(|_| {
            let lake = lake.clone();
            tokio::spawn(async move { run(&lake, &sensors(), |_, _| {}).await.unwrap() })
        })
        .collect();
    let eager = CompactSettings { small_files_min: 2, open_small_files_min: 2, ..SETTINGS };
    let mut compacted = 0;
    while !processors.iter().all(tokio::task::JoinHandle::is_finished) {
        for partition in due(&lake, &sensors(), eager, Utc::now().timestamp_millis()).await.unwrap() {
            compacted += usize::from(compact(&lake, &partition, eager).await.unwrap().is_some());
        }
    }
    for processor in processors {
        processor.await.unwrap();
    }
    assert!(compacted >= 7, "{compacted}");
    run(&lake, &sensors(), |_, _| {}).await.unwrap();
    assert_balanced(&lake).await;

    let (calm_dir, calm) = self::lake();
    (0..200).for_each(|object| feed(calm_dir.path(), object, 10));
    run(&calm, &sensors(), |_, _| {}).await.unwrap();
    for sql in [
        "SELECT device, boot, seq, channel, value, at, bronze_key, ordinal FROM silver.sensor_readings",
        "SELECT * FROM gold.sensor_hourly",
        "SELECT * FROM gold.sensor_daily",
        "SELECT dataset, dt, rule, bronze_key, ordinal, record FROM discard",
        "SELECT bronze_key, rows_in, silver, discarded, duplicates FROM ledger",
    ] {
        assert!(rows(&lake, sql).await == rows(&calm, sql).await, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_cut_after_any_step_is_finished_by_the_next_and_then_nothing_is_due() {
    let (dir, lake) = lake();
    fed(dir.path(), &lake, 20, 1).await;
    // A processor died before its checkpoints, and in the middle of a file.
    for file in std::fs::read_dir(dir.path().join("ledger/_delta_log")).unwrap().map(Result::unwrap) {
        if file.file_name().to_str().unwrap().contains("checkpoint") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    std::fs::write(dir.path().join("bronze/sensor_readings/half.ndjson#1"), "{").unwrap();
    let before = everything(&lake).await;
    // Nothing is kept: every file that no table shows is unused at once.
    let settings = MaintainSettings { compact: SETTINGS, keep_hours: 0, unfinished_hours: 0 };
    let mut kinds = std::collections::BTreeSet::new();
    let mut freed = 0;
    // Each round does one step of its plan and is cut.
    for round in 0.. {
        assert!(round < 60, "upkeep comes to no end");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let mut todo = plan(&lake, &sensors(), settings, Utc::now().timestamp_millis()).await.unwrap();
        let Some(first) = todo.lines().first().cloned() else { break };
        kinds.insert(first.step);
        todo.keep_first(1);
        let done = maintain(&lake, &todo, settings, |_, _| {}).await;
        assert_eq!(done.failed, Vec::<String>::new());
        freed += done.freed_bytes;
        if round % 8 == 0 {
            assert!(everything(&lake).await == before, "after {first:?}");
        }
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["checkpoint", "clean_log", "compact", "unfinished_files", "vacuum"]
    );
    assert!(freed > 0);
    assert!(everything(&lake).await == before);
    assert_balanced(&lake).await;
    feed(dir.path(), 20, 10);
    let report = run(&lake, &sensors(), |_, _| {}).await.unwrap();
    assert_eq!((report.total.objects, report.total.silver), (1, 8));
    assert_balanced(&lake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_version_before_upkeep_finds_all_of_its_files() {
    let (dir, lake) = lake();
    fed(dir.path(), &lake, 12, 1).await;
    let sql = "SELECT device, seq, value FROM silver.sensor_readings";
    let session = ingot_processor::query::lake_session(&lake, &sensors()).unwrap();
    let opened = session.sql(sql).await.unwrap();
    let settings = MaintainSettings { compact: SETTINGS, ..MaintainSettings::default() };
    let now_ms = Utc::now().timestamp_millis();
    let first = plan(&lake, &sensors(), settings, now_ms).await.unwrap();
    assert!(first.lines().iter().any(|line| line.at.starts_with("silver")));
    maintain(&lake, &first, settings, |_, _| {}).await;
    let again = plan(&lake, &sensors(), settings, now_ms).await.unwrap();
    assert!(again.lines().is_empty(), "{:?}", again.lines());
    let rows: usize = opened.collect().await.unwrap().iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, 96);
}

/// `cargo test --workspace --all-features --test upkeep -- --ignored --nocapture ten_thousand`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; its figures are in docs/benchmarks.md"]
async fn ten_thousand_small_objects() {
    let (dir, lake) = lake();
    let start = Instant::now();
    let (objects, at_once) = (10_000, 80);
    for start in (0..objects).step_by(at_once) {
        let fed = Instant::now();
        (start..start + at_once).for_each(|object| feed(dir.path(), object, 10));
        run(&lake, &sensors(), |_, _| {}).await.unwrap();
        if start % 2_000 == 0 {
            println!("run of {at_once} after {start}: {:?}", fed.elapsed());
        }
    }
    println!("fed {objects} objects in {} runs: {:?}", objects / at_once, start.elapsed());
    run_of_ten(&lake, dir.path(), objects, "before").await;
    let before = everything(&lake).await;
    measure(&lake, dir.path(), "before").await;
    let settings = MaintainSettings::default();
    for keep_hours in [settings.keep_hours, 0] {
        let settings = MaintainSettings { keep_hours, ..settings };
        let now_ms = Utc::now().timestamp_millis();
        let start = Instant::now();
        let todo = plan(&lake, &sensors(), settings, now_ms).await.unwrap();
        let done = maintain(&lake, &todo, settings, |_, _| {}).await;
        let (steps, freed) = (done.done.len(), done.freed_bytes);
        println!(
            "maintain --keep-hours {keep_hours}: {steps} steps, {freed} bytes freed, {:?}",
            start.elapsed()
        );
        measure(&lake, dir.path(), "after").await;
    }
    assert!(everything(&lake).await == before);
    run_of_ten(&lake, dir.path(), objects + 10, "after").await;
    assert_balanced(&lake).await;
}

async fn run_of_ten(lake: &Lake, root: &Path, first: usize, when: &str) {
    (first..first + 10).for_each(|object| feed(root, object, 10));
    let start = Instant::now();
    run(lake, &sensors(), |_, _| {}).await.unwrap();
    println!("{when}: a run that takes ten objects: {:?}", start.elapsed());
}

async fn measure(lake: &Lake, root: &Path, when: &str) {
    for sql in [
        "SELECT channel, max(p95) FROM gold.sensor_hourly GROUP BY channel",
        "SELECT count(*), avg(value) FROM silver.sensor_readings WHERE dt = '2026-01-02'",
        "SELECT * FROM silver.sensor_readings WHERE device = 'd05000'",
    ] {
        let mut times = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            query(lake, &sensors(), sql).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        println!("{when}: {:?} {sql}", times[2]);
    }
    for table in ["silver/sensor_readings", "gold/sensor_hourly", "discard", "ledger"] {
        let (mut data, mut log) = ((0, 0), (0, 0));
        count(&root.join(table), false, &mut data, &mut log);
        println!(
            "{when}: {table}: {} data files of {} bytes, {} log files of {} bytes",
            data.0, data.1, log.0, log.1
        );
    }
}

fn count(dir: &Path, in_log: bool, data: &mut (u64, u64), log: &mut (u64, u64)) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            count(&entry.path(), in_log || entry.file_name() == "_delta_log", data, log);
        } else {
            let sums = if in_log { &mut *log } else { &mut *data };
            *sums = (sums.0 + 1, sums.1 + entry.metadata().unwrap().len());
        }
    }
}
