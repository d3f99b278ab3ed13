//! The catalog: views say what is true when they are run, and Glue (moto's) is as the contracts say, also after changes.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::moto::Moto;
use chrono::{TimeDelta, Utc};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::prelude::SessionContext;
use ingot_processor::arrow::json::LineDelimitedWriter;
use ingot_processor::catalog::{Catalog, describe};
use ingot_processor::contract::Contract;
use ingot_processor::lake::Lake;
use ingot_processor::run::run;
use ingot_processor::session;
use ingot_processor::table::Table;
use serde_json::{Value, json};

const LOCATION: &str = "s3://lake/tenant";

fn put(root: &Path, key: &str, rows: &[Value]) {
    let file = root.join(key);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let lines: Vec<String> = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(file, lines.concat()).unwrap();
}

/// Two devices with two channels, a device of long ago, a bad reading, and orders of which one is bad.
async fn lake(contracts: &[Contract]) -> (tempfile::TempDir, Lake) {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::create(&format!("file://{}", dir.path().display())).unwrap();
    let now = Utc::now();
    let reading = |device: &str, channel: &str, seq: u64, value: f64, minutes: i64| {
        let at = (now - TimeDelta::minutes(minutes)).timestamp_millis();
        json!({"device": device, "boot": 1, "seq": seq, "channel": channel, "value": value, "at": at, "quality": 0})
    };
    let readings = [
        reading("d1", "temperature", 0, 20.5, 3),
        reading("d1", "temperature", 1, 21.5, 2),
        reading("d1", "humidity", 2, 40.25, 3),
        reading("d2", "temperature", 0, 5.5, 4),
        reading("gone", "temperature", 0, 1.5, 40 * 24 * 60),
        reading("d2", "temperature", 1, 500.5, 1),
    ];
    put(dir.path(), "bronze/sensor_readings/dt=2026-01-01/gateway=g/a.ndjson", &readings);
    let order = |id: &str, status: &str, amount: f64| {
        json!({"order_id": id, "status": status, "amount": amount, "currency": "EUR", "created_at": "2026-01-01T10:00:00Z",
               "customer_email": "ann@example.org"})
    };
    let orders = [
        order("A1", "paid", 19.99),
        order("A2", "paid", 0.01),
        order("A3", "lost", 1.0),
        order("A4", "pending", 2.0),
    ];
    put(dir.path(), "bronze/orders/a.ndjson", &orders);
    let report = run(&lake, contracts, |_, _| {}).await.unwrap();
    assert_eq!((report.total.rows_in, report.total.discarded), (10, 2), "{report:?}");
    (dir, lake)
}

/// A session that has the catalog's tables, as Athena has them.
async fn athena(lake: &Lake, catalog: &Catalog) -> SessionContext {
    let context = session::context();
    let schema = Arc::new(MemorySchemaProvider::new());
    for entry in &catalog.tables {
        let path = entry.location.strip_prefix(LOCATION).unwrap().trim_matches('/');
        let table = Table::open(lake, path).await.unwrap().unwrap();
        schema.register_table(entry.name.clone(), table.provider().await.unwrap()).unwrap();
    }
    context.catalog("datafusion").unwrap().register_schema("ingot", schema).unwrap();
    context
}

async fn rows(context: &SessionContext, sql: &str) -> Vec<Value> {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let mut json = LineDelimitedWriter::new(Vec::new());
    json.write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
    json.finish().unwrap();
    String::from_utf8(json.into_inner())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn picked(rows: &[Value], columns: &[&str]) -> Vec<Value> {
    let mut picked: Vec<Value> =
        rows.iter().map(|row| columns.iter().map(|column| row[*column].clone()).collect()).collect();
    picked.sort_by_key(Value::to_string);
    picked
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_says_what_is_in_the_lake() {
    let contracts = Contract::embedded();
    let (_dir, lake) = lake(&contracts).await;
    let catalog = describe(&lake, &contracts, "ingot", LOCATION).await.unwrap();
    let context = athena(&lake, &catalog).await;
    let mut of = std::collections::BTreeMap::new();
    for view in &catalog.views {
        of.insert(view.name.as_str(), rows(&context, &view.select).await);
    }

    // The newest of each device's channels with its unit; not the one that has been silent for long.
    assert_eq!(
        picked(&of["latest_sensor_readings"], &["device", "channel", "value", "unit"]),
        [
            json!(["d1", "humidity", 40.25, "%"]),
            json!(["d1", "temperature", 21.5, "Cel"]),
            json!(["d2", "temperature", 5.5, "Cel"]),
        ]
    );
    let hourly = picked(&of["sensor_hourly"], &["device", "channel", "unit"]);
    assert!(hourly.contains(&json!(["d1", "humidity", "%"])), "{hourly:?}");
    let counted: i64 = of["sensor_hourly"].iter().map(|row| row["count"].as_i64().unwrap()).sum();
    assert_eq!(counted, 5);
    assert_eq!(
        picked(&of["orders_by_status"], &["status", "currency", "count"]),
        [json!(["paid", "EUR", 2]), json!(["pending", "EUR", 1])]
    );
    assert_eq!(
        picked(&of["discards_by_rule"], &["dataset", "rule", "meaning", "row_count", "object_count"]),
        [
            json!(["orders", "bad_status", "Not on the approved list; case matters", 1, 1]),
            json!([
                "sensor_readings",
                "out_of_range",
                "Outside the channel's range; NaN is outside every range",
                1,
                1
            ]),
        ]
    );
    let today = Utc::now().format("%Y-%m-%d").to_string();
    assert_eq!(
        picked(
            &of["data_quality_by_day"],
            &["dataset", "day", "objects", "rows_in", "silver", "discarded", "discarded_percent"]
        ),
        [
            json!(["orders", today, 1, 4, 3, 1, 25.0]),
            json!(["sensor_readings", today, 1, 6, 5, 1, 100.0 / 6.0])
        ]
    );
    assert!(of.contains_key("failing_checks"));
    assert!(!of.contains_key("latest_orders"), "an order has one row in silver");
}

fn table(moto: &Moto, name: &str) -> Value {
    moto.call("glue", "AWSGlue.GetTable", &json!({"DatabaseName": "ingot", "Name": name}))["Table"].take()
}

/// Moto takes every statement and runs none: the views that Athena would have made.
fn make_views(moto: &Moto) {
    let ids = moto.call("athena", "AmazonAthena.ListQueryExecutions", &json!({}))["QueryExecutionIds"].take();
    for id in ids.as_array().unwrap() {
        let found = moto.call("athena", "AmazonAthena.GetQueryExecution", &json!({"QueryExecutionId": id}));
        let sql = found["QueryExecution"]["Query"].as_str().unwrap().to_owned();
        let name =
            sql.strip_prefix("CREATE OR REPLACE VIEW \"ingot\".\"").unwrap().split('"').next().unwrap();
        let input = json!({"Name": name, "TableType": "VIRTUAL_VIEW", "Parameters": {"presto_view": "true"}});
        let there =
            moto.call("glue", "AWSGlue.GetTables", &json!({"DatabaseName": "ingot"}))["TableList"].take();
        if !there.as_array().unwrap().iter().any(|table| table["Name"] == name) {
            moto.call("glue", "AWSGlue.CreateTable", &json!({"DatabaseName": "ingot", "TableInput": input}));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_makes_the_catalog_and_a_second_one_finds_nothing_to_do() {
    let contracts = Contract::embedded();
    let (dir, lake) = lake(&contracts).await;
    let moto = Moto::start();
    let url = lake.url().to_string();
    let words = [
        "catalog",
        "sync",
        "--lake",
        &url,
        "--location",
        LOCATION,
        "--database",
        "ingot",
        "--workgroup",
        "primary",
    ];
    let sync = |more: &[&str]| moto.processor(&[&words[..], more].concat());

    let (code, planned, stderr) = sync(&["--dry-run"]);
    assert_eq!((code, planned["database_created"].as_bool()), (0, Some(true)), "{stderr}");
    let (code, first, stderr) = sync(&[]);
    assert_eq!(code, 0, "{stderr} {first}");
    assert_eq!(first["changes"], planned["changes"], "a dry run says what a run does");
    assert_eq!(first["tables"].as_array().unwrap().len(), 9, "{first}");
    make_views(&moto);

    let orders = table(&moto, "silver_orders");
    assert_eq!(orders["StorageDescriptor"]["Location"], "s3://lake/tenant/silver/orders/");
    assert_eq!(orders["Parameters"]["table_type"], "DELTA");
    assert_eq!(orders["Parameters"]["ingot.pii_columns"], "customer_email,phone");
    let (_, second, stderr) = sync(&[]);
    assert_eq!(second["changes"], 0, "{stderr} {second}");

    // A column more in the contract, and a lake rebuilt by it: the table follows, what others noted stays.
    let mut theirs = json!({"Name": "silver_orders", "TableType": "EXTERNAL_TABLE"});
    for kept in ["Description", "StorageDescriptor", "Parameters"] {
        theirs[kept] = orders[kept].clone();
    }
    theirs["Parameters"]["owner"] = "shop".into();
    moto.call("glue", "AWSGlue.UpdateTable", &json!({"DatabaseName": "ingot", "TableInput": theirs}));
    let text = include_str!("../../../contracts/orders.yaml").replacen(
        "    quality:\n",
        "      - { name: weight, logicalType: number, description: Of the parcel, customProperties: [{ property: unit, value: kg }] }\n    quality:\n",
        1,
    );
    let file = dir.path().join("orders.yaml");
    std::fs::write(&file, &text).unwrap();
    let other = tempfile::tempdir().unwrap();
    let anew = Lake::create(&format!("file://{}", other.path().display())).unwrap();
    put(
        other.path(),
        "bronze/orders/a.ndjson",
        &[
            json!({"order_id": "A1", "status": "paid", "amount": 1, "currency": "EUR", "created_at": "2026-01-01T10:00:00Z", "weight": 2.5}),
        ],
    );
    run(&anew, &[Contract::parse(&text).unwrap()], |_, _| {}).await.unwrap();
    let words =
        ["catalog", "sync", "--lake", anew.url().as_str(), "--location", LOCATION, "--database", "ingot"];
    let (_, followed, stderr) =
        moto.processor(&[&words[..], &["--contract", file.to_str().unwrap()]].concat());
    let changed: Vec<&Value> =
        followed["tables"].as_array().unwrap().iter().filter(|table| table["done"] != "unchanged").collect();
    assert_eq!(
        changed,
        [&json!({"name": "silver_orders", "done": "changed", "what": ["column weight is added"]})],
        "{stderr} {followed}"
    );
    let orders = table(&moto, "silver_orders");
    assert_eq!(orders["Parameters"]["owner"], "shop");
    let columns = orders["StorageDescriptor"]["Columns"].as_array().unwrap();
    let weight = columns.iter().find(|column| column["Name"] == "weight").unwrap();
    assert_eq!(weight["Comment"], "Of the parcel [kg]");

    // A view that somebody dropped is made again, alone.
    moto.call(
        "glue",
        "AWSGlue.DeleteTable",
        &json!({"DatabaseName": "ingot", "Name": "data_quality_by_day"}),
    );
    let (_, again, stderr) = sync(&["--dry-run"]);
    let made: Vec<&Value> =
        again["views"].as_array().unwrap().iter().filter(|view| view["done"] == "created").collect();
    assert_eq!(made, [&json!({"name": "data_quality_by_day", "done": "created"})], "{stderr} {again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_before_anything_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    let refused = |words: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_ingot-processor"))
            .args(words)
            .env_remove("AWS_REGION")
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(2));
        String::from_utf8_lossy(&ran.stderr).into_owned()
    };
    let sync = ["catalog", "sync", "--lake", &url, "--database", "ingot"];
    assert!(refused(&sync).contains("Athena reads from S3"));
    assert!(refused(&[&sync[..], &["--location", LOCATION]].concat()).contains("set AWS_REGION"));
    assert!(
        refused(&["catalog", "show", "--lake", &url, "--database", "In-got"])
            .contains("--database \"In-got\"")
    );
    let audit = ["audit", "--lake", &url, "--requeue", "--queue-url", "http://127.0.0.1:1/1/q"];
    assert!(refused(&audit).contains("is for lakes in S3"));
}
