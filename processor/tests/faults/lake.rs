//! A small lake with everything in it that promotion has to keep apart, and what it comes to.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::json::LineDelimitedWriter;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::TryStreamExt;
use ingot_agent::{Batch, Drop, Quality, Reading};
use ingot_processor::bronze::BronzeKey;
use ingot_processor::check::Checker;
use ingot_processor::contract::Contract;
use ingot_processor::decode::Limits;
use ingot_processor::gold;
use ingot_processor::lake::Lake;
use ingot_processor::promote::{Candidate, promote};
use ingot_processor::query::lake_session;
use ingot_processor::run::run;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::store::{FaultyStore, Harm, Plan};

/// Objects in a group of the undisturbed run.
const GROUP: usize = 3;
/// Rows of a part: some objects are one part, others several.
const PART_ROWS: usize = 6;
/// 2026-01-01T00:00:00Z.
const DAY_MS: i64 = 1_767_225_600_000;

/// The two contracts as they are, and a check that sets objects aside.
pub fn contracts() -> Vec<Contract> {
    let sensors = include_str!("../../../contracts/sensor_readings.yaml").to_owned();
    let orders = include_str!("../../../contracts/orders.yaml").replacen(
        "    quality:\n",
        "    quality:\n      - id: test_shop\n        description: Of the shop's tests\n        type: custom\n        \
         engine: ingot\n        severity: quarantine\n        implementation: order_id LIKE 'TEST%'\n",
        1,
    );
    [sensors, orders].iter().map(|text| Contract::parse(text).unwrap()).collect()
}

/// A gateway's frame of `d1`'s readings from `first` on; the first value is out of range.
fn frame(batch_seq: u64, first: u64, at_ms: i64) -> Vec<u8> {
    let mut batch = Box::new(Batch::<4, 4, 4096>::new("gw-1", 7).unwrap());
    (0..batch_seq).for_each(|_| {
        batch.seal(0, 0, |_| {});
    });
    let device = batch.device("d1", 1).unwrap();
    let series = batch.series(device, "temperature").unwrap();
    for seq in first..first + 6 {
        let value = if seq == first { 500.0 } else { 20.0 + (seq % 8) as f64 / 8.0 };
        let at_ms = at_ms + seq as i64 * 1_000;
        batch.push(series, &Reading { seq, at_ms, value, quality: Quality::GOOD }).unwrap();
    }
    batch.count_drop(Drop::SpoolFull, 1);
    let mut bytes = Vec::new();
    batch.seal(at_ms + 600_000, 90_000, |piece| bytes.extend_from_slice(piece));
    bytes
}

fn order(id: &str, status: &str, cents: u32, day: u32, hour: u32) -> String {
    let amount = f64::from(cents) / 100.0;
    format!(
        "{{\"order_id\":\"{id}\",\"status\":\"{status}\",\"amount\":{amount},\"currency\":\"EUR\",\
         \"created_at\":\"2026-01-0{day}T08:00:00Z\",\"updated_at\":\"2026-01-0{day}T{hour:02}:00:00Z\",\
         \"customer_email\":\"{id}@example.org\",\"notes\":\"for {id}@example.org\"}}\n"
    )
}

/// Orders of several parts: good, bad, broken, one that comes again in a later part, and one that another object has.
fn parts() -> String {
    let mut lines = String::new();
    for n in 1..=4 {
        lines += &order(&format!("C{n}"), "paid", 100 * n, 1 + n % 2, 9);
        lines += &order(&format!("C{n}"), "lost", 100 * n, 1, 9);
    }
    lines += "{\"order_id\":\n";
    lines += &order("C1", "paid", 100, 2, 9);
    lines += &order("C2", "shipped", 200, 2, 12);
    lines + &order("A3", "paid", 700, 2, 10)
}

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Bronze of the small lake: frames (one resent under another name, one damaged) of two days, orders whose status
/// changes, comes late, comes twice, or is bad; objects of several parts; objects that are set aside; one that nobody knows.
pub async fn bronze() -> InMemory {
    let store = InMemory::new();
    let sensors = |day: u32, seq: u32| {
        format!("bronze/sensor_readings/dt=2026-01-0{day}/gateway=gw-1/0000000000000007-{seq:010}.ingot")
    };
    let next_day = DAY_MS + 86_400_000;
    let damaged: Vec<u8> = frame(4, 40, next_day)
        .into_iter()
        .enumerate()
        .map(|(at, byte)| if at == 20 { byte ^ 1 } else { byte })
        .collect();
    let orders = |name: &str| format!("bronze/orders/{name}");
    let header = "order_id,status,amount,currency,created_at\n";
    for (key, bytes) in [
        (sensors(1, 1), frame(1, 0, DAY_MS)),
        (sensors(1, 2), frame(2, 6, DAY_MS)),
        (sensors(2, 3), [frame(3, 12, next_day), frame(3, 6, DAY_MS)].concat()),
        (sensors(2, 4), [damaged, frame(5, 18, next_day)].concat()),
        (sensors(2, 9), frame(9, 0, DAY_MS)),
        (
            orders("dt=2026-01-01/a.ndjson"),
            (order("A1", "paid", 1_999, 1, 9)
                + &order("A2", "lost", 500, 1, 9)
                + &order("A3", "pending", 700, 2, 9))
                .into_bytes(),
        ),
        (
            orders("dt=2026-01-01/b.ndjson"),
            (order("A1", "shipped", 1_999, 1, 12) + &order("TEST1", "paid", 1, 1, 1)).into_bytes(),
        ),
        (
            orders("dt=2026-01-02/c.ndjson"),
            (order("A3", "paid", 700, 2, 10) + "{\"order_id\":\n" + &order("A1", "pending", 1_999, 1, 8))
                .into_bytes(),
        ),
        (
            orders("dt=2026-01-02/d e+f%.csv"),
            format!("{header}B1,paid,12.50,EUR,2026-01-02T08:00:00Z\nB2,paid,x,EUR,2026-01-02T08:00:00Z\n")
                .into_bytes(),
        ),
        (
            orders("dt=2026-01-02/g.ndjson"),
            (order("A3", "paid", 700, 2, 10) + &order("A1", "delivered", 1_999, 1, 15)).into_bytes(),
        ),
        (orders("dt=2026-01-02/h.ndjson.gz"), gz(&parts())),
        (
            orders("dt=2026-01-02/i.ndjson"),
            (parts().replace("\"C", "\"D") + &order("TEST2", "paid", 1, 2, 1)).into_bytes(),
        ),
        ("bronze/people/a.csv".to_owned(), b"name\n".to_vec()),
    ] {
        store.put(&Path::parse(key).unwrap(), bytes.into()).await.unwrap();
    }
    store
}

/// A lake over a store; each time under a name of its own, as another process would have.
pub fn over(store: &InMemory, plan: Option<Plan>) -> (Lake, FaultyStore) {
    process(FaultyStore::new(store.clone(), plan.map_or(Harm::None, Harm::Once), None))
}

/// The same, whose store keeps its states.
pub fn keeping_states(store: &InMemory) -> (Lake, FaultyStore) {
    process(FaultyStore::keeping_states(store.clone()))
}

/// The same, where every operation takes a while of its own.
pub fn paced_over(store: &InMemory, harm: Harm, seed: u64) -> Lake {
    process(FaultyStore::new(store.clone(), harm, Some(seed))).0
}

fn process(store: FaultyStore) -> (Lake, FaultyStore) {
    static PROCESSES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("memory://process-{}/", PROCESSES.fetch_add(1, Ordering::SeqCst));
    let lake = Lake::over(name.parse().unwrap(), Arc::new(store.clone()));
    (lake.within(Limits { rows_max: PART_ROWS, ..Limits::default() }), store)
}

/// Frees what a trial's store holds.
pub async fn emptied(store: &InMemory) {
    let keys: Vec<_> = store.list(None).try_collect().await.unwrap();
    for meta in keys {
        store.delete(&meta.location).await.unwrap();
    }
}

/// What stopped the work.
pub type Stopped = Box<dyn std::error::Error + Send + Sync>;

/// The objects of each dataset, in the order in which they were written.
pub async fn candidates(lake: &Lake, contract: &Contract) -> Result<Vec<Candidate>, Stopped> {
    let mut objects = lake.list_bronze().await?;
    objects.sort_by_key(|object| object.modified_ms);
    let key = |key: &str| BronzeKey::parse(key, |name| name == contract.dataset).ok();
    Ok(objects.into_iter().filter_map(|object| Some(Candidate { key: key(&object.key)?, object })).collect())
}

/// Promotes everything in groups, brings gold up to date after each, as a queue's consumer does; then a run.
pub async fn work(lake: &Lake, contracts: &[Contract]) -> Result<(), Stopped> {
    for contract in contracts {
        let waiting = candidates(lake, contract).await?;
        promote_in(lake, contract, waiting.chunks(GROUP)).await?;
    }
    finish(lake, contracts).await
}

/// The same objects again, some of them twice, also in one group, in another order and other groups.
pub async fn redeliver(lake: &Lake, contracts: &[Contract], seed: u64) -> Result<(), Stopped> {
    let mut rng = fastrand::Rng::with_seed(seed);
    for contract in contracts {
        let mut waiting = candidates(lake, contract).await?;
        let again: Vec<_> = waiting.iter().filter(|_| rng.bool()).cloned().collect();
        waiting.extend(again);
        rng.shuffle(&mut waiting);
        let mut groups: Vec<Vec<Candidate>> = Vec::new();
        let mut left = 0;
        for candidate in waiting {
            if left == 0 {
                groups.push(Vec::new());
                left = rng.usize(1..=5);
            }
            left -= 1;
            groups.last_mut().unwrap().push(candidate);
        }
        promote_in(lake, contract, groups.iter().map(Vec::as_slice)).await?;
    }
    finish(lake, contracts).await
}

async fn promote_in<'a>(
    lake: &Lake,
    contract: &Contract,
    groups: impl Iterator<Item = &'a [Candidate]>,
) -> Result<(), Stopped> {
    let checker = Checker::new(contract)?;
    let now_ms = DAY_MS + 7 * 86_400_000;
    for (done, group) in groups.enumerate() {
        if let Some((_, error)) = promote(lake, &checker, group, now_ms).await?.failed.into_iter().next() {
            return Err(error.into());
        }
        if done.is_multiple_of(2) {
            gold::refresh(lake, contract).await?;
        }
    }
    Ok(())
}

/// An ordinary run: it promotes what the ledger does not have.
pub async fn finish(lake: &Lake, contracts: &[Contract]) -> Result<(), Stopped> {
    let report = run(lake, contracts, |_, _| {}).await?;
    match report.failed.into_iter().next() {
        Some((what, why)) => Err(format!("{what}: {why}").into()),
        None => Ok(()),
    }
}

/// The rows of every table, as sorted JSON, by the question that gave them.
pub type Rows = BTreeMap<&'static str, Vec<String>>;

/// What must be the same whatever happened, if the objects came in the same order. The last digits of a standard
/// deviation hang on the order of its sums.
const SAME_ORDER: [&str; 10] = [
    "SELECT * FROM silver.sensor_readings",
    "SELECT * FROM silver.orders",
    "SELECT * FROM versions.orders",
    "SELECT dataset, dt, rule, rules, contract_version, bronze_key, bronze_etag, ordinal, byte_offset, byte_len, record FROM discard",
    "SELECT device, channel, window_start, dt, count, min, max, mean, round(stddev, 12) AS stddev, p50, p95, p99, first_at, last_at, flagged FROM gold.sensor_hourly",
    "SELECT device, channel, window_start, dt, count, min, max, mean, round(stddev, 12) AS stddev, p50, p95, p99, first_at, last_at, flagged FROM gold.sensor_daily",
    "SELECT * FROM gold.orders_by_status",
    "SELECT * FROM gold.orders_daily",
    "SELECT dataset, bronze_key, bronze_etag, bytes, rows_in, silver, discarded, duplicates, rules, warnings, batches, contract_version FROM ledger",
    "SELECT dataset, bronze_key, bronze_etag, \"check\", rows_failing, rows_in, batches, contract_fingerprint FROM quarantine",
];

/// What must be the same in any order: of equal rows in two objects either may be the one that silver keeps.
const ANY_ORDER: [&str; 12] = [
    "SELECT device, boot, seq, channel, at, value, quality, dt FROM silver.sensor_readings",
    "SELECT order_id, status, amount, currency, created_at, customer_email, phone, country, notes, updated_at, dt FROM silver.orders",
    "SELECT order_id, status, amount, currency, created_at, customer_email, phone, country, notes, updated_at, dt FROM versions.orders",
    "SELECT dataset, dt, rule, rules, contract_version, bronze_key, bronze_etag, ordinal, byte_offset, byte_len, record FROM discard WHERE rule <> 'duplicate'",
    "SELECT dataset, regexp_replace(record, ',\"ordinal\":[0-9]+', '') AS record FROM discard WHERE rule = 'duplicate'",
    "SELECT device, channel, window_start, dt, count, min, max, mean, round(stddev, 12) AS stddev, p50, p95, p99, first_at, last_at, flagged FROM gold.sensor_hourly",
    "SELECT device, channel, window_start, dt, count, min, max, mean, round(stddev, 12) AS stddev, p50, p95, p99, first_at, last_at, flagged FROM gold.sensor_daily",
    "SELECT * FROM gold.orders_by_status",
    "SELECT * FROM gold.orders_daily",
    "SELECT dataset, bronze_key, bronze_etag, bytes, rows_in, silver + duplicates AS kept, discarded, rules, warnings, batches, contract_version FROM ledger",
    "SELECT dataset, sum(silver), sum(duplicates) FROM ledger GROUP BY dataset",
    "SELECT dataset, bronze_key, bronze_etag, \"check\", rows_failing, rows_in, batches, contract_fingerprint FROM quarantine",
];

/// What the lake came to, comparable with one that got its objects in the same order.
pub async fn rows(lake: &Lake, contracts: &[Contract]) -> Rows {
    answers(lake, contracts, &SAME_ORDER).await
}

/// What the lake came to, comparable with one that got its objects in any order.
pub async fn rows_in_any_order(lake: &Lake, contracts: &[Contract]) -> Rows {
    answers(lake, contracts, &ANY_ORDER).await
}

async fn answers(lake: &Lake, contracts: &[Contract], questions: &[&'static str]) -> Rows {
    let session = lake_session(lake, contracts).unwrap();
    let mut answers = Rows::new();
    for question in questions {
        let batches = session.sql(question).await.unwrap().collect().await.unwrap();
        let mut json = Vec::new();
        LineDelimitedWriter::new(&mut json).write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
        let mut rows: Vec<String> = String::from_utf8(json).unwrap().lines().map(str::to_owned).collect();
        rows.sort();
        answers.insert(question, rows);
    }
    answers
}

/// Rows of `expected` that are not in `found`, and of `found` that are not in `expected`.
pub fn difference(expected: &Rows, found: &Rows) -> (Vec<String>, Vec<String>) {
    let count = |rows: &Rows| {
        let mut counts = BTreeMap::<(&str, String), i64>::new();
        for (question, rows) in rows {
            rows.iter().for_each(|row| *counts.entry((question, row.clone())).or_default() += 1);
        }
        counts
    };
    let (expected, found) = (count(expected), count(found));
    let surplus = |of: &BTreeMap<(&str, String), i64>, over: &BTreeMap<(&str, String), i64>| {
        let more = of.iter().filter(|(row, count)| **count > over.get(*row).copied().unwrap_or_default());
        more.map(|((question, row), count)| format!("{count} × {row} ({question})")).collect()
    };
    (surplus(&expected, &found), surplus(&found, &expected))
}
