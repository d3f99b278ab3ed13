#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write;

use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::infer_json_schema;
use deltalake::parquet::arrow::ArrowWriter;
use flate2::Compression;
use flate2::write::GzEncoder;
use ingot_agent::{Batch as FrameBatch, Quality, Reading as Value};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;
use crate::contract::Contract;
use crate::decode::Limits;
use crate::rebuild::compare;
use crate::run::run;

/// Parts that cut the objects below: the larger ones are read range by range.
const SMALL: Limits = Limits { bytes_max: 4_000, rows_max: 7 };

fn order(id: usize, status: &str) -> String {
    format!(
        "{{\"order_id\":\"o-{id}\",\"status\":\"{status}\",\"amount\":{}.5,\"currency\":\"EUR\",\"created_at\":\"2026-01-0{}T10:00:00Z\",\"updated_at\":\"2026-01-05T10:00:00Z\",\"extra\":1}}\n",
        id + 1,
        id % 3 + 1
    )
}

/// Good orders, bad ones, broken ones, and some that come again later.
fn orders() -> String {
    let mut lines = String::from("\n");
    for id in 0..40 {
        lines += &order(id, if id % 5 == 0 { "lost" } else { "paid" });
        match id % 10 {
            3 => lines += "{\"order_id\":\n",
            6 => lines += &order(id - 3, "paid"),
            9 => lines += "\n\n",
            _ => {}
        }
    }
    lines
}

fn frames() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut batch: Box<FrameBatch<4, 4, 4096>> = Box::new(FrameBatch::new("gw-1", 7).unwrap());
    for first in (0..120).step_by(6) {
        let device = batch.device("d1", 1).unwrap();
        let series = batch.series(device, "temperature").unwrap();
        for seq in first..first + 6 {
            let value = if seq % 11 == 0 { 900.0 } else { (seq % 50) as f64 / 7.0 };
            let at_ms = 1_767_225_600_000 + seq as i64 * 1_000;
            batch.push(series, &Value { seq, at_ms, value, quality: Quality::GOOD }).unwrap();
        }
        batch.seal(1_767_225_700_000, 5, |piece| bytes.extend_from_slice(piece));
    }
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn parquet(lines: &str) -> Vec<u8> {
    let (schema, _) = infer_json_schema(lines.as_bytes(), None).unwrap();
    let reader = ReaderBuilder::new(schema.into()).build(lines.as_bytes()).unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), None).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

async fn store(objects: &[(&str, Vec<u8>)]) -> InMemory {
    let store = InMemory::new();
    for (key, bytes) in objects {
        store.put(&Path::parse(key).unwrap(), bytes.clone().into()).await.unwrap();
    }
    store
}

fn lake(store: InMemory, name: &str) -> Lake {
    Lake::over(format!("memory://{name}/").parse().unwrap(), std::sync::Arc::new(store))
}

async fn rows(lake: &Lake, table: &str) -> usize {
    let table = crate::table::Table::open(lake, table).await.unwrap().unwrap();
    crate::session::context().read_table(table.provider().await.unwrap()).unwrap().count().await.unwrap()
}

#[tokio::test]
async fn the_tables_are_the_same_however_objects_are_cut() {
    let lines = orders();
    let csv = "order_id,status,amount,currency,created_at,extra\n".to_owned()
        + &(0..60)
            .map(|id| format!("c-{},paid,1.5,EUR,2026-01-01T10:00:00Z,\"a\nb\"\n", id % 50))
            .collect::<String>();
    let good: String = (100..160).map(|id| order(id % 150, "paid")).collect();
    let packed = gz(lines.replace("o-", "g-").as_bytes());
    let store = store(&[
        ("bronze/orders/a.ndjson", lines.clone().into_bytes()),
        ("bronze/orders/b.ndjson", order(3, "shipped").into_bytes()),
        ("bronze/orders/c.csv", csv.into_bytes()),
        ("bronze/orders/d.ndjson.gz", packed.clone()),
        ("bronze/orders/e.ndjson.gz", packed[..packed.len() / 2].to_vec()),
        ("bronze/orders/f.ndjson.zst", zstd::encode_all(lines.replace("o-", "z-").as_bytes(), 1).unwrap()),
        ("bronze/orders/g.parquet", parquet(&good)),
        ("bronze/sensor_readings/h.ingot", frames()),
    ])
    .await;
    let contracts = Contract::embedded();
    let one = lake(store.fork(), "one-part");
    let many = lake(store, "many-parts").within(SMALL);
    let first = run(&one, &contracts, |_, _| {}).await.unwrap();
    let second = run(&many, &contracts, |_, _| {}).await.unwrap();
    assert!(first.failed.is_empty() && second.failed.is_empty(), "{:?}, {:?}", first.failed, second.failed);
    assert_eq!(
        (first.total.objects, first.total.rows_in, first.total.discarded),
        (8, second.total.rows_in, second.total.discarded)
    );
    assert!(first.total.duplicates > 10 && first.total.discarded > 50);
    for (table, compared) in compare(&one, &many, &contracts).await.unwrap() {
        assert_eq!(compared.old, compared.new, "{table}");
    }
    // A part is one commit, and doing it again is none.
    let silver = crate::table::Table::version_of(&many, "silver/sensor_readings").await.unwrap();
    assert!(silver >= Some(9), "{silver:?}");
    assert_eq!(run(&many, &contracts, |_, _| {}).await.unwrap().total.objects, 0);
}

#[tokio::test]
async fn a_check_that_concerns_the_whole_object_is_asked_before_any_part_is_promoted() {
    for severity in ["quarantine", "fail"] {
        let text = include_str!("../../../contracts/orders.yaml").replacen(
            "severity: discard",
            &format!("severity: {severity}"),
            1,
        );
        let contracts = [Contract::parse(&text).unwrap()];
        let good: String = (1..50).map(|id| order(id, "paid")).collect();
        let store = store(&[
            ("bronze/orders/a.ndjson", (good.clone() + &order(50, "lost")).into_bytes()),
            ("bronze/orders/b.ndjson", good.replace("o-", "p-").into_bytes()),
        ])
        .await;
        let lake = lake(store, severity).within(SMALL);
        let report = run(&lake, &contracts, |_, _| {}).await.unwrap();
        assert_eq!((report.total.objects, report.total.rows_in), (1, 49), "{severity}");
        assert_eq!(rows(&lake, "versions/orders").await, 49);
        let said = if severity == "fail" { &report.failed } else { &report.quarantined };
        assert!(said["bronze/orders/a.ndjson"].contains("bad_status"), "{said:?}");
        let of_50 = report.quarantined.values().all(|reason| reason.starts_with("1 of 50 rows"));
        assert!(of_50, "{:?}", report.quarantined);
    }
}

#[tokio::test]
async fn a_bomb_is_set_aside_and_nothing_of_it_lands() {
    let good: String = (0..20).map(|id| order(id, "paid")).collect();
    let bomb = good.replace("o-", "p-") + &"\n".repeat(1 << 20);
    let store = store(&[
        ("bronze/orders/a.ndjson.gz", gz(bomb.as_bytes())),
        ("bronze/orders/b.ndjson.gz", gz(good.as_bytes())),
    ])
    .await;
    let lake = lake(store, "bomb").within(SMALL);
    let contracts = Contract::embedded();
    let report = run(&lake, &contracts, |_, _| {}).await.unwrap();
    assert_eq!((report.total.objects, report.total.rows_in, report.failed.len()), (1, 20, 0));
    assert!(report.quarantined["bronze/orders/a.ndjson.gz"].contains("expands to more than"));
    assert_eq!(rows(&lake, "versions/orders").await, 20);
    let again = run(&lake, &contracts, |_, _| {}).await.unwrap();
    assert_eq!((again.total.objects, again.in_quarantine), (0, 1));
}
