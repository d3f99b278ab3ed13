#![allow(clippy::unwrap_used)]

use datafusion::arrow::record_batch::RecordBatch;

use super::*;
use crate::audit::audit;
use crate::maintain::{MaintainSettings, maintain, plan};
use crate::query::query;
use crate::run::run;

#[tokio::test]
async fn each_tier_goes_in_its_time_gold_outlives_silver_and_the_audit_tells_expired_from_lost() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(url::Url::from_directory_path(dir.path()).unwrap().as_str()).unwrap();
    let mut contracts = Contract::embedded();
    contracts[0].retention.bronze_days = Some(30);
    contracts[0].retention.silver_days = Some(60);
    contracts[0].retention.discard_days = Some(10);
    for day in 1..=3 {
        let reading = |seq: u32, value: f64| {
            let seq = seq + 4 * (day - 1);
            format!(
                "{{\"device\":\"d1\",\"channel\":\"temperature\",\"value\":{value},\"at\":\"2026-0{day}-01T00:00:00Z\",\"seq\":{seq},\"boot\":1}}\n"
            )
        };
        let lines = [
            reading(0, 20.0),
            reading(1, 999.0),
            reading(1, 999.0),
            reading(0, 20.0),
            reading(2, 21.0),
            reading(3, 22.0),
        ];
        let path = dir.path().join(format!("bronze/sensor_readings/dt=2026-0{day}-01/a.ndjson"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, lines.concat()).unwrap();
    }
    run(&lake, &contracts, |_, _| {}).await.unwrap();
    let gold =
        query(&lake, &contracts, "SELECT * FROM gold.sensor_hourly ORDER BY window_start").await.unwrap();
    let before = audit(&lake, &contracts).await.unwrap();
    assert!(before.is_balanced(), "{:?}", before.findings);

    let now_ms = DateTime::parse_from_rfc3339("2026-03-05T00:00:00Z").unwrap().timestamp_millis();
    let settings = MaintainSettings::default();
    let due = plan(&lake, &contracts, settings, now_ms).await.unwrap();
    let expire: Vec<String> =
        due.lines().into_iter().filter(|line| line.step == "expire").map(|line| line.at).collect();
    assert_eq!(
        expire,
        [
            "discard/dt=2026-01-01",
            "discard/dt=2026-02-01",
            "silver/sensor_readings/dt=2026-01-01",
            "bronze/sensor_readings"
        ]
    );
    // Noted, and cut before it went: the next time it counts once.
    for expiry in super::due(&lake, &contracts, now_ms).await.unwrap() {
        if let What::Partition { table: path, partition, .. } = &expiry.what {
            let table = Table::open(&lake, path).await.unwrap().unwrap();
            let rows = counted(&table, path, partition).await.unwrap();
            let step = table.times_expired(partition).await.unwrap();
            note(&lake, &expiry.dataset, day(partition), step, &rows).await.unwrap();
        }
    }
    assert!(audit(&lake, &contracts).await.unwrap().is_balanced());
    let done = maintain(&lake, &due, settings, |_, _| {}).await;
    assert_eq!(done.failed, Vec::<String>::new());
    run(&lake, &contracts, |_, _| {}).await.unwrap();
    let after = audit(&lake, &contracts).await.unwrap();
    assert!(after.is_balanced(), "{:?}", after.findings);
    assert_eq!((after.expired_objects, after.silver), (2, before.silver));
    let rows = query(&lake, &contracts, "SELECT DISTINCT dt FROM silver.sensor_readings").await.unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    let still =
        query(&lake, &contracts, "SELECT * FROM gold.sensor_hourly ORDER BY window_start").await.unwrap();
    assert_eq!(still, gold, "gold of a day outlives its silver");
    assert!(super::due(&lake, &contracts, now_ms).await.unwrap().is_empty(), "and nothing is due again");

    // What nobody let go is lost all the same.
    std::fs::remove_file(dir.path().join("bronze/sensor_readings/dt=2026-03-01/a.ndjson")).unwrap();
    assert!(!audit(&lake, &contracts).await.unwrap().is_balanced());
}

#[tokio::test]
async fn versions_go_with_what_silver_shows_of_them_and_gold_in_its_own_time() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::open(url::Url::from_directory_path(dir.path()).unwrap().as_str()).unwrap();
    let mut contracts = vec![Contract::embedded().remove(1)];
    contracts[0].retention.silver_days = Some(30);
    contracts[0].retention.gold_days = Some(50);
    std::fs::create_dir_all(dir.path().join("bronze/orders")).unwrap();
    let order = |id: &str, day: &str, status: &str| {
        format!(
            "{{\"order_id\":\"{id}\",\"status\":\"{status}\",\"amount\":5,\"currency\":\"EUR\",\"created_at\":\"2026-{day}T00:00:00Z\",\"updated_at\":\"2026-03-01T00:00:00Z\"}}\n"
        )
    };
    let mut lines = String::new();
    for (id, day) in [("a", "01-01"), ("b", "01-20"), ("c", "03-01")] {
        lines += &(order(id, day, "pending") + &order(id, day, "paid"));
    }
    std::fs::write(dir.path().join("bronze/orders/a.ndjson"), lines).unwrap();
    run(&lake, &contracts, |_, _| {}).await.unwrap();

    let now_ms = DateTime::parse_from_rfc3339("2026-03-05T00:00:00Z").unwrap().timestamp_millis();
    let settings = MaintainSettings::default();
    let due = plan(&lake, &contracts, settings, now_ms).await.unwrap();
    let lines = due.lines().into_iter().filter(|line| line.step == "expire").map(|line| line.at);
    let of_both = |day: &str| ["silver", "versions"].map(|tier| format!("{tier}/orders/dt=2026-{day}"));
    let expected = [of_both("01-01"), of_both("01-20")].concat();
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    let mut expected = [expected, vec!["gold/orders_daily/dt=2026-01-01".to_owned()]].concat();
    expected.sort();
    assert_eq!(lines, expected);
    assert_eq!(maintain(&lake, &due, settings, |_, _| {}).await.failed, Vec::<String>::new());

    for _ in 0..2 {
        run(&lake, &contracts, |_, _| {}).await.unwrap();
        let after = audit(&lake, &contracts).await.unwrap();
        assert!(after.is_balanced(), "{:?}", after.findings);
        let days = async |table: &str| {
            let sql = format!("SELECT DISTINCT dt FROM {table} ORDER BY dt");
            let batches = query(&lake, &contracts, &sql).await.unwrap();
            let days = |batch: &RecordBatch| {
                let days = cast(batch.column(0), &DataType::Utf8).unwrap();
                days.as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
            };
            batches.iter().flat_map(days).collect::<Vec<_>>()
        };
        assert_eq!(days("silver.orders").await, ["2026-03-01"]);
        assert_eq!(days("versions.orders").await, ["2026-03-01"]);
        assert_eq!(days("gold.orders_daily").await, ["2026-01-20", "2026-03-01"]);
    }
}

/// A lake with readings of January, of which silver and discard went and gold stays; the last of its contracts' gold is by day.
struct Aged {
    dir: tempfile::TempDir,
    lake: Lake,
    contracts: Vec<Contract>,
}

const MARCH_MS: i64 = 1_772_668_800_000; // 2026-03-05T00:00:00Z

fn reading(device: &str, seq: u32, value: f64, day: &str) -> String {
    format!(
        "{{\"device\":\"{device}\",\"channel\":\"temperature\",\"value\":{value},\"at\":\"2026-{day}T00:00:00Z\",\"seq\":{seq},\"boot\":1}}\n"
    )
}

impl Aged {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(url::Url::from_directory_path(dir.path()).unwrap().as_str()).unwrap();
        let mut contracts = vec![Contract::embedded().remove(0)];
        contracts[0].retention.silver_days = Some(30);
        contracts[0].retention.discard_days = Some(30);
        let aged = Self { dir, lake, contracts };
        let lines = [
            reading("d1", 0, 20.0, "01-01"),
            reading("d1", 1, 999.0, "01-01"),
            reading("d1", 0, 20.0, "01-01"),
            reading("d2", 0, 21.0, "01-01"),
            reading("d2", 1, 999.0, "03-04"),
            reading("d1", 2, 22.0, "03-04"),
        ];
        aged.write("dt=2026-01-01/a.ndjson", &lines.concat());
        aged.run().await;
        aged.maintain().await;
        aged
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join("bronze/sensor_readings").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    async fn run(&self) {
        let report = run(&self.lake, &self.contracts, |_, _| {}).await.unwrap();
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        self.balanced().await;
    }

    async fn maintain(&self) {
        let settings = MaintainSettings::default();
        let due = plan(&self.lake, &self.contracts, settings, MARCH_MS).await.unwrap();
        let done = maintain(&self.lake, &due, settings, |_, _| {}).await;
        assert_eq!(done.failed, Vec::<String>::new());
        self.balanced().await;
    }

    async fn balanced(&self) {
        let balance = audit(&self.lake, &self.contracts).await.unwrap();
        assert!(balance.is_balanced(), "{:?}", balance.findings);
    }

    async fn rows(&self, sql: &str) -> String {
        let rows = query(&self.lake, &self.contracts, sql).await.unwrap();
        datafusion::arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string()
    }
}

#[tokio::test]
async fn gold_of_days_that_went_stays_through_another_query_and_late_rows() {
    let mut aged = Aged::new().await;
    let january = "SELECT * FROM gold.sensor_hourly WHERE dt = '2026-01-01' ORDER BY device";
    let before = aged.rows(january).await;
    assert!(before.contains("d1") && before.contains("d2"), "{before}");
    assert!(
        aged.rows("SELECT count(*) AS n FROM silver.sensor_readings WHERE dt = '2026-01-01'")
            .await
            .contains("| 0 |")
    );

    // A late row, alone on its day now.
    aged.write("dt=2026-01-01/late.ndjson", &reading("d1", 3, -5.0, "01-01"));
    aged.run().await;
    assert_eq!(aged.rows(january).await, before);
    // It goes, too: the books add it to what went before.
    aged.maintain().await;
    assert_eq!(aged.rows(january).await, before);

    // Another text of the query: all that can be computed is, and the rest stays.
    for gold in &mut aged.contracts[0].gold {
        gold.sql += " -- as before";
    }
    let march = "SELECT * FROM gold.sensor_hourly WHERE dt = '2026-03-04'";
    let lately = aged.rows(march).await;
    aged.run().await;
    assert_eq!(aged.rows(january).await, before);
    assert_eq!(aged.rows(march).await, lately);
}

#[tokio::test]
async fn a_redrive_leaves_the_books_of_an_object_balanced_of_which_rows_went() {
    let mut aged = Aged::new().await;
    // Discarded rows lie on the object's day; one that came after that went is there to be judged again.
    aged.write(
        "dt=2026-03-04/b.ndjson",
        &(reading("d3", 0, 999.0, "01-01") + &reading("d3", 1, 5.0, "01-01")),
    );
    aged.run().await;
    aged.maintain().await;
    let text = include_str!("../../../contracts/sensor_readings.yaml")
        .replace("NOT (value >= channels.value_min AND value <= channels.value_max)", "value > 100000");
    let mut wider = Contract::parse(&text).unwrap();
    wider.retention = aged.contracts[0].retention;
    aged.contracts = vec![wider];
    let which = crate::redrive::Which { rule: "out_of_range".to_owned(), since_ms: None, dataset: None };
    let report = crate::redrive::redrive(&aged.lake, &aged.contracts, &which, |_, _| {}).await.unwrap();
    assert!(report.failed.is_empty() && report.rows == 1, "{report:?}");
    aged.balanced().await;
    aged.maintain().await;
}
