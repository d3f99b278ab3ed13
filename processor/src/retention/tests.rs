#![allow(clippy::unwrap_used)]

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
            note(&lake, &expiry.dataset, day(partition), &rows).await.unwrap();
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
