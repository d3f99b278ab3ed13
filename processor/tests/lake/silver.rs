//! Silver takes each key once, whoever brings it, however often and in whatever grouping.
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
use datafusion::arrow::array::{Decimal128Array, TimestampMicrosecondArray, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use ingot_processor::contract::Contract;
use ingot_processor::lake::{BronzeObject, Lake};
use ingot_processor::{query, silver};

fn orders() -> Contract {
    let orders = Contract::embedded().into_iter().find(|contract| contract.dataset == "orders").unwrap();
    Contract { latest_by: Vec::new(), ..orders }
}

fn lake() -> (tempfile::TempDir, Lake) {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::create(&format!("file://{}", dir.path().display())).unwrap();
    (dir, lake)
}

fn object(name: &str) -> BronzeObject {
    BronzeObject { key: format!("bronze/orders/{name}"), etag: "e".to_owned(), bytes: 1, modified_ms: 0 }
}

/// Accepted rows as `examine` gives them, one per id.
fn rows(contract: &Contract, ids: &[&str]) -> RecordBatch {
    let n = ids.len();
    let mut fields: Vec<Field> =
        contract.row_schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut columns: Vec<ArrayRef> = fields
        .iter()
        .map(|field| -> ArrayRef {
            match field.name().as_str() {
                "order_id" => Arc::new(StringArray::from(ids.to_vec())),
                "status" | "currency" => Arc::new(StringArray::from(vec!["paid"; n])),
                "amount" => {
                    Arc::new(Decimal128Array::from(vec![1_250; n]).with_precision_and_scale(18, 2).unwrap())
                }
                "created_at" => Arc::new(
                    TimestampMicrosecondArray::from_value(1_700_000_000_000_000, n).with_timezone("UTC"),
                ),
                _ => new_null_array(field.data_type(), n),
            }
        })
        .collect();
    fields.push(Field::new("ordinal", DataType::Int64, false));
    columns.push(Arc::new(Int64Array::from_iter_values(0..n as i64)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

async fn promote(lake: &Lake, objects: &[(BronzeObject, RecordBatch)]) -> Vec<Vec<bool>> {
    let contract = orders();
    let mut table = silver::open(lake, &contract).await.unwrap();
    let objects: Vec<_> = objects.iter().map(|(object, rows)| (object, rows)).collect();
    let kept = silver::promote(&mut table, &contract, &objects).await.unwrap();
    kept.iter().map(|rows| rows.iter().map(Option::unwrap).collect()).collect()
}

async fn ids_in_silver(lake: &Lake) -> Vec<String> {
    let sql = "SELECT CAST(order_id AS VARCHAR) AS id FROM silver.orders ORDER BY id";
    let batches = query::query(lake, &[orders()], sql).await.unwrap();
    let mut ids = Vec::new();
    for batch in batches {
        let column = datafusion::arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap();
        let column = column.as_any().downcast_ref::<StringArray>().unwrap();
        ids.extend(column.iter().map(|id| id.unwrap().to_owned()));
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_row_of_a_key_is_kept_and_known_again() {
    let (_dir, lake) = lake();
    let contract = orders();
    let a = (object("a"), rows(&contract, &["1", "2", "2"]));
    let b = (object("b"), rows(&contract, &["2", "3"]));
    let first = promote(&lake, &[a.clone(), b.clone()]).await;
    assert_eq!(first, [vec![true, true, false], vec![false, true]]);
    let again = promote(&lake, &[b, a]).await;
    assert_eq!(again, [vec![false, true], vec![true, true, false]]);
    assert_eq!(ids_in_silver(&lake).await, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_processors_with_overlapping_groups_promote_each_key_once() {
    let (_dir, lake) = lake();
    let contract = orders();
    let ids: Vec<String> = (0..24).map(|id| format!("{id:02}")).collect();
    // Object n has the keys n..n+6, so that neighbours share five of six.
    let objects: Vec<(BronzeObject, RecordBatch)> = (0..18)
        .map(|n| {
            let keys: Vec<&str> = ids[n..n + 6].iter().map(String::as_str).collect();
            (object(&format!("{n:02}")), rows(&contract, &keys))
        })
        .collect();
    let mut processors = tokio::task::JoinSet::new();
    for processor in 0..4_u64 {
        let (lake, objects) = (lake.clone(), objects.clone());
        processors.spawn(async move {
            let mut order = fastrand::Rng::with_seed(processor);
            for _ in 0..4 {
                let mut group = objects.clone();
                order.shuffle(&mut group);
                group.truncate(6);
                promote(&lake, &group).await;
            }
        });
    }
    while let Some(done) = processors.join_next().await {
        done.unwrap();
    }
    promote(&lake, &objects).await;
    assert_eq!(ids_in_silver(&lake).await, ids[..23]);
}
