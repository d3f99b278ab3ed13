#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use datafusion::arrow::json::LineDelimitedWriter;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::audit::{audit, audit_before};
use crate::lambda::ingest::{Bounds, ingest};
use crate::query::query;
use crate::run::{RunReport, run};

const ORDERS: &str = include_str!("../../../contracts/orders.yaml");
const STATUSES: [&str; 3] = ["pending", "paid", "shipped"];

fn orders() -> Vec<Contract> {
    vec![Contract::parse(ORDERS).unwrap()]
}

/// One record of an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    order: u8,
    /// Hours; 0 is none.
    updated: u8,
    status: usize,
    day: u8,
}

impl Version {
    fn line(&self) -> String {
        let updated = (self.updated > 0).then(|| format!("2026-01-05T{:02}:00:00Z", self.updated));
        json!({
            "order_id": format!("A{}", self.order), "status": STATUSES[self.status], "amount": 1, "currency": "EUR",
            "created_at": format!("2026-01-0{}T10:00:00Z", self.day + 1), "updated_at": updated,
        })
        .to_string()
            + "\n"
    }
}

struct TempLake {
    dir: tempfile::TempDir,
    lake: Lake,
}

impl TempLake {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::create(&format!("file://{}", dir.path().display())).unwrap();
        std::fs::create_dir_all(dir.path().join("bronze/orders")).unwrap();
        Self { dir, lake }
    }

    fn write(&self, name: &str, versions: &[Version]) {
        let text: String = versions.iter().map(Version::line).collect();
        std::fs::write(self.dir.path().join("bronze/orders").join(name), text).unwrap();
    }

    async fn run(&self) -> RunReport {
        run(&self.lake, &orders(), |_, _| {}).await.unwrap()
    }

    async fn rows(&self, sql: &str) -> Vec<Value> {
        let batches = query(&self.lake, &orders(), sql).await.unwrap();
        let mut json = LineDelimitedWriter::new(Vec::new());
        json.write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
        let text = String::from_utf8(json.into_inner()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Silver and gold, in a fixed order.
    async fn shown(&self) -> [Vec<Value>; 3] {
        [
            self.rows("SELECT order_id, status, dt, CAST(updated_at AS VARCHAR) AS updated FROM silver.orders ORDER BY order_id").await,
            self.rows("SELECT status, count FROM gold.orders_by_status ORDER BY status").await,
            self.rows("SELECT dt, count FROM gold.orders_daily ORDER BY dt").await,
        ]
    }
}

fn version(order: u8, updated: u8, status: usize, day: u8) -> Version {
    Version { order, updated, status, day }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orders_latest_record_counts_and_the_sums_stay_provable() {
    let lake = TempLake::new();
    lake.write("a.ndjson", &[version(1, 2, 1, 0), version(2, 1, 0, 0), version(1, 2, 1, 0)]);
    let report = lake.run().await;
    assert_eq!((report.total.silver, report.total.duplicates, report.total.superseded), (2, 1, 0));

    // Order 1 moves on and to another day, order 2 has an older record, order 3 two without a time.
    lake.write(
        "b.ndjson",
        &[version(1, 3, 2, 1), version(2, 0, 2, 0), version(3, 0, 1, 0), version(3, 0, 0, 0)],
    );
    let report = lake.run().await;
    assert_eq!((report.total.rows_in, report.total.silver, report.total.superseded), (4, 2, 2));
    let [silver, by_status, daily] = lake.shown().await;
    let statuses: Vec<&Value> = silver.iter().map(|row| &row["status"]).collect();
    assert_eq!(statuses, ["shipped", "pending", "paid"]);
    assert_eq!(by_status.iter().map(|row| row["count"].as_i64().unwrap()).sum::<i64>(), 3);
    assert_eq!(daily, [json!({"dt": "2026-01-01", "count": 2}), json!({"dt": "2026-01-02", "count": 1})]);

    let balance = audit(&lake.lake, &orders()).await.unwrap();
    assert!(balance.is_balanced(), "{:?}", balance.findings);
    assert_eq!((balance.rows_in, balance.silver, balance.duplicates, balance.superseded), (7, 3, 1, 3));
    // Every version is kept.
    assert_eq!(lake.rows("SELECT count(*) AS rows FROM versions.orders").await, [json!({"rows": 6})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_computed_later_may_wait_but_not_for_long() {
    let lake = TempLake::new();
    lake.write("a.ndjson", &[version(1, 1, 0, 0), version(2, 1, 0, 0)]);
    lake.run().await;
    // As a function of Lambda takes an object: silver and gold are computed by another, on a schedule.
    lake.write("b.ndjson", &[version(1, 2, 1, 0), version(3, 1, 0, 0)]);
    let keys = BTreeSet::from(["bronze/orders/b.ndjson".to_owned()]);
    let bounds = Bounds::new(512, Duration::from_secs(60));
    assert!(ingest(&lake.lake, &orders(), &keys, bounds).await.failed.is_empty());

    let waits = audit(&lake.lake, &orders()).await.unwrap();
    assert!(waits.is_balanced(), "{:?}", waits.findings);
    assert_eq!((waits.rows_in, waits.silver, waits.waiting, waits.superseded), (4, 2, 2, 0));
    // Gold shows all of silver, which waits itself.
    assert!(waits.gold_behind.is_empty());
    let late = audit_before(&lake.lake, &orders(), i64::MAX, |_, _| {}).await.unwrap();
    assert_eq!(
        late.findings,
        ["silver orders: 3 rows are not what its versions say; run the processor again"]
    );

    refresh(&lake.lake, &orders()[0]).await.unwrap();
    let waits = audit(&lake.lake, &orders()).await.unwrap();
    assert!(waits.is_balanced(), "{:?}", waits.findings);
    assert_eq!((waits.silver, waits.waiting, waits.superseded), (3, 0, 1));
    let contracts = orders();
    let gold: Vec<&str> = contracts[0].gold.iter().map(|query| query.name.as_str()).collect();
    assert_eq!(waits.gold_behind, gold);
    let late = audit_before(&lake.lake, &orders(), i64::MAX, |_, _| {}).await.unwrap();
    assert_eq!(late.findings_count, gold.len() as u64);
    lake.run().await;
    assert!(audit(&lake.lake, &orders()).await.unwrap().gold_behind.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn silver_that_is_not_what_its_versions_say_is_found() {
    let lake = TempLake::new();
    lake.write("a.ndjson", &[version(1, 1, 0, 0), version(1, 2, 1, 0)]);
    lake.run().await;
    let mut silver = Table::open(&lake.lake, "silver/orders").await.unwrap().unwrap();
    let empty = RecordBatch::new_empty(silver::schema(&orders()[0]));
    silver.replace(empty, Replaced::All, &[]).await.unwrap();
    let balance = audit(&lake.lake, &orders()).await.unwrap();
    assert!(balance.findings.iter().any(|finding| finding.contains("1 rows are not what its versions say")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_that_was_written_the_other_way_is_refused() {
    let lake = TempLake::new();
    lake.write("a.ndjson", &[version(1, 1, 0, 0)]);
    let append = ORDERS.replace("property: latestBy", "property: once_latest_by");
    run(&lake.lake, &[Contract::parse(&append).unwrap()], |_, _| {}).await.unwrap();
    lake.write("b.ndjson", &[version(1, 2, 1, 0)]);
    let refused = run(&lake.lake, &orders(), |_, _| {}).await.unwrap().failed;
    assert!(refused["orders"].contains("rebuild it from bronze"), "{refused:?}");

    let lake = TempLake::new();
    lake.write("a.ndjson", &[version(1, 1, 0, 0)]);
    lake.run().await;
    lake.write("b.ndjson", &[version(1, 2, 1, 0)]);
    let refused = run(&lake.lake, &[Contract::parse(&append).unwrap()], |_, _| {}).await.unwrap().failed;
    assert!(refused["orders"].contains("rebuild it from bronze"), "{refused:?}");
}

#[tokio::test]
async fn an_order_that_is_not_fixed_is_refused() {
    for (expression, part) in
        [("updatedat", "updatedat"), ("random()", "another order"), ("now()", "another order")]
    {
        let text = ORDERS.replace("      - updated_at\n", &format!("      - {expression}\n"));
        let problem = plan(&Contract::parse(&text).unwrap()).await.unwrap_err().to_string();
        assert!(problem.contains(part), "{expression}: {problem}");
    }
}

#[test]
fn much_of_a_table_goes_through_disk_and_some_days_do_not() {
    let day = |day: u32| format!("2026-01-{day:02}");
    let versions = |days: u32, bytes: u64| -> BTreeMap<Partition, Files> {
        let files = Files { bytes, ..Files::default() };
        (1..=days).map(|at| (Partition::from([("dt".to_owned(), Some(day(at)))]), files)).collect()
    };
    let changed = |days: u32| (1..=days).map(day).collect::<BTreeSet<_>>();
    let half = IN_MEMORY_BYTES_MAX / 2;
    assert!(!is_much(&versions(4, half), &changed(2)), "as much as fits");
    assert!(is_much(&versions(4, half), &changed(3)));
    assert!(is_much(&versions(12, half), &changed(3)), "a quarter");
    assert!(!is_much(&versions(13, half), &changed(3)), "less than a quarter");
    assert!(!is_much(&versions(4, half), &BTreeSet::new()));
}

/// What silver must show, worked out by itself.
fn expected(versions: &[Version]) -> Vec<Value> {
    let mut latest: BTreeMap<u8, &Version> = BTreeMap::new();
    let rank = |version: &Version| (version.updated, version.status, version.day);
    for version in versions {
        let known = latest.entry(version.order).or_insert(version);
        if rank(version) > rank(known) {
            *known = version;
        }
    }
    let row = |version: &Version| {
        json!([
            format!("A{}", version.order),
            STATUSES[version.status],
            format!("2026-01-0{}", version.day + 1)
        ])
    };
    latest.values().map(|version| row(version)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 8, ..ProptestConfig::default() })]

    #[test]
    fn any_order_grouping_and_number_of_processors_give_the_same_silver_and_gold(
        versions in prop::collection::vec((0u8..4, 0u8..4, 0usize..3, 0u8..3).prop_map(|(order, updated, status, day)| Version { order, updated, status, day }), 1..14),
        sizes in prop::collection::vec(1usize..4, 14),
        order in Just((0..14).collect::<Vec<usize>>()).prop_shuffle(),
        stops in prop::collection::vec(any::<bool>(), 14),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // At once, in one object.
            let whole = TempLake::new();
            whole.write("all.ndjson", &versions);
            whole.run().await;

            // In pieces, in any order, with runs between; every other piece comes twice; two at once at the end.
            let pieces = TempLake::new();
            let mut rest = &versions[..];
            let mut objects = Vec::new();
            for size in &sizes {
                let (piece, more) = rest.split_at((*size).min(rest.len()));
                objects.push(piece);
                rest = more;
            }
            for place in order {
                if let Some(piece) = objects.get(place).filter(|piece| !piece.is_empty()) {
                    pieces.write(&format!("{place:02}.ndjson"), piece);
                    if place % 2 == 0 {
                        pieces.write(&format!("{:02}-again.ndjson", 20 - place), piece);
                    }
                    if stops[place] && place % 3 == 0 {
                        pieces.run().await;
                    }
                }
            }
            let contracts = orders();
            let (one, other) = tokio::join!(run(&pieces.lake, &contracts, |_, _| {}), run(&pieces.lake, &contracts, |_, _| {}));
            one.unwrap();
            other.unwrap();

            let shown = pieces.shown().await;
            prop_assert_eq!(&whole.shown().await, &shown);
            let silver: Vec<Value> = shown[0].iter().map(|row| json!([row["order_id"], row["status"], row["dt"]])).collect();
            prop_assert_eq!(silver, expected(&versions));
            for lake in [&whole, &pieces] {
                let balance = audit(&lake.lake, &orders()).await.unwrap();
                prop_assert!(balance.is_balanced(), "{:?}", balance.findings);
                prop_assert_eq!(balance.rows_in, balance.silver + balance.discarded + balance.duplicates + balance.superseded);
            }
            Ok(())
        })?;
    }
}
