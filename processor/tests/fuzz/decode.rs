//! Decoding: every row of any bytes is accepted or discarded, once, and lands.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::infer_json_schema;
use deltalake::parquet::arrow::ArrowWriter;
use flate2::Compression;
use flate2::write::GzEncoder;
use ingot_agent::{Batch, Quality, Reading};
use ingot_processor::bronze::{BronzeKey, Format};
use ingot_processor::check::Checker;
use ingot_processor::contract::Contract;
use ingot_processor::decode::{Limits, Parts, Span};
use ingot_processor::examine::examine;
use ingot_processor::lake::Lake;
use ingot_processor::query::query;
use ingot_processor::run::run;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use crate::fuzz;
use crate::mutate::mutated;

/// Of so many inputs one is also judged by the contract's checks, which takes longer than decoding it.
const EXAMINED_EVERY: u64 = 4;
/// Rows of a part where an object is also cut.
const PART_ROWS: usize = 3;
/// Inputs that are also promoted, all in one lake.
const PROMOTED_MAX: usize = 100;
/// 2026-01-02T00:00:00Z.
const NOW_MS: i64 = 1_767_312_000_000;

const READINGS: &str = "{\"device\":\"d1\",\"boot\":1,\"seq\":0,\"channel\":\"temperature\",\"value\":21.5,\"at\":\"2026-01-01T00:00:00Z\",\"quality\":0}\n\
    {\"device\":\"d1\",\"boot\":1,\"seq\":1,\"channel\":\"humidity\",\"value\":null,\"at\":1767225601000}\n\
    {\"device\":\"d\\u00e9\",\"boot\":\"1\",\"seq\":1.0,\"channel\":\"temperature\",\"value\":1e3,\"at\":\"2026-01-01\",\"more\":{\"a\":[1,2]}}\n";
const ORDERS: &str = "{\"order_id\":\"A1\",\"status\":\"paid\",\"amount\":19.99,\"currency\":\"EUR\",\"created_at\":\"2026-01-01T10:00:00Z\",\"customer_email\":\"ann@example.org\",\"notes\":\"ring +44 20 7946 0958, 4111 1111 1111 1111\"}\n\
    {\"order_id\":\"A2\",\"status\":\"lost\",\"amount\":\"5\",\"currency\":\"EUR\",\"created_at\":1767225600000,\"updated_at\":\"2026-01-01T10:00:00+02:00\"}\n";
const ORDERS_CSV: &str = "order_id,status,amount,currency,created_at,notes\nB1,paid,12.50,EUR,2026-01-01T08:00:00Z,\"a, \"\"b\"\"\nand c\"\nB2,paid,x,EUR,2026-01-01T08:00:00Z\n";
const READINGS_CSV: &str = "device,boot,seq,channel,value,at\nd2,1,0,temperature,20,2026-01-01T00:00:00Z\nd2,1,1,temperature,,2026-01-01T00:00:01Z\n";

/// Frames as a gateway sends them.
fn frames() -> Vec<u8> {
    let mut batch = Box::new(Batch::<4, 4, 4096>::new("gw-1", 7).unwrap());
    let mut bytes = Vec::new();
    for first in [0, 5] {
        let device = batch.device("d3", 1).unwrap();
        let series = batch.series(device, "temperature").unwrap();
        for seq in first..first + 5 {
            let value = if seq == 7 { f64::NAN } else { seq as f64 };
            let at_ms = NOW_MS - 60_000 + seq as i64;
            batch.push(series, &Reading { seq, at_ms, value, quality: Quality::GOOD }).unwrap();
        }
        batch.seal(NOW_MS, 90_000, |piece| bytes.extend_from_slice(piece));
    }
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// The lines as Parquet.
fn parquet(lines: &str) -> Vec<u8> {
    let (schema, _) = infer_json_schema(lines.as_bytes(), None).unwrap();
    let reader = ReaderBuilder::new(Arc::new(schema)).with_coerce_primitive(true);
    let batch = reader.build(lines.as_bytes()).unwrap().next().unwrap().unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// What an object can be: its dataset, its name's ending, and good bytes of it.
fn kinds() -> Vec<(&'static str, &'static str, Vec<Vec<u8>>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("sensor_readings", "ndjson", vec![text(READINGS), text(ORDERS)]),
        ("orders", "ndjson", vec![text(ORDERS), text(READINGS)]),
        ("sensor_readings", "csv", vec![text(READINGS_CSV), text(ORDERS_CSV)]),
        ("orders", "csv", vec![text(ORDERS_CSV), text(READINGS_CSV)]),
        ("sensor_readings", "ingot", vec![frames()]),
        ("orders", "parquet", vec![parquet(ORDERS), parquet(READINGS)]),
        ("sensor_readings", "parquet", vec![parquet(READINGS), parquet(ORDERS)]),
    ]
}

/// An input of one of the kinds; the name of its object goes before it, as one line.
fn input(kinds: &[(&str, &str, Vec<Vec<u8>>)], trial: &mut u64, rng: &mut fastrand::Rng) -> Vec<u8> {
    let (dataset, ending, good) = &kinds[rng.usize(..kinds.len())];
    let packed = |pack: fn(&[u8]) -> Vec<u8>| good.iter().map(|good| pack(good)).collect::<Vec<_>>();
    let kind = if *ending == "parquet" { 4 } else { rng.u8(..6) };
    let (packing, bytes) = match kind {
        // Damage inside of sound streams, and damaged streams.
        0 => (".gz", gz(&mutated(good, rng))),
        1 => (".gz", mutated(&packed(gz), rng)),
        2 => (".zst", zst(&mutated(good, rng))),
        3 => (".zst", mutated(&packed(zst), rng)),
        _ => ("", mutated(good, rng)),
    };
    *trial += 1;
    let name = format!("bronze/{dataset}/dt=2026-01-01/{trial:06}.{ending}{packing}\n");
    [name.as_bytes(), &bytes].concat()
}

#[test]
fn every_row_of_any_bytes_is_accepted_or_discarded_and_lands() {
    let contracts = Contract::embedded();
    let checkers: Vec<Checker> = contracts.iter().map(|contract| Checker::new(contract).unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = InMemory::new();
    let kinds = kinds();
    let (mut made, mut rows, mut promoted) = (0, 0, 0);
    fuzz(
        |rng| input(&kinds, &mut made, rng),
        |bytes, trial| {
            let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
            let (name, bytes) = (std::str::from_utf8(&bytes[..end]).unwrap(), &bytes[end + 1..]);
            let key = BronzeKey::parse(name, |_| true).unwrap();
            let of_dataset = |checker: &&Checker| checker.contract().dataset == key.dataset;
            let checker = checkers.iter().find(of_dataset).unwrap();
            let decoded = decoded(&key, checker.contract(), bytes);
            if trial.is_multiple_of(EXAMINED_EVERY) {
                assert_eq!(examined(checker, &key, bytes), decoded);
                rows += decoded;
                if promoted < PROMOTED_MAX {
                    let at = Path::parse(name).unwrap();
                    runtime.block_on(store.put(&at, bytes.to_vec().into())).unwrap();
                    promoted += 1;
                }
            }
        },
    );
    assert!(rows > 0);
    runtime.block_on(all_rows_landed(store, &contracts, promoted as u64));
}

/// Takes the bytes apart, whole and in small parts; how many rows there are.
fn decoded(key: &BronzeKey, contract: &Contract, bytes: &[u8]) -> u64 {
    let whole = spans(key, contract, bytes, Limits::default());
    let cut = spans(key, contract, bytes, Limits { rows_max: PART_ROWS, ..Limits::default() });
    assert_eq!(whole, cut, "rows lie where they lie, however the object is cut");
    let mut last_offset = 0;
    for (next, span) in whole.iter().enumerate() {
        assert_eq!(span.ordinal, next as i64, "rows are counted one by one");
        assert!(key.format == Format::Frames || span.offset >= last_offset, "rows overlap at {span:?}");
        last_offset = span.offset;
    }
    whole.len() as u64
}

fn spans(key: &BronzeKey, contract: &Contract, bytes: &[u8], limits: Limits) -> Vec<Span> {
    let mut parts = Parts::open(key, Bytes::copy_from_slice(bytes), limits);
    let mut spans = Vec::new();
    while parts.fill() {
        let part = parts.part();
        let end = part.first().offset + part.bytes().len();
        let taken = part.rows(contract, |span, row| {
            assert!(span.offset + span.len <= end, "{span:?} is outside of {end} bytes");
            if let Ok(fields) = row {
                assert_eq!(fields.len(), contract.columns.len());
            }
            spans.push(span);
        });
        parts.pass(&taken);
    }
    spans
}

/// Judges the rows; how many went in.
fn examined(checker: &Checker, key: &BronzeKey, bytes: &[u8]) -> u64 {
    let found = match examine(checker, key, bytes.to_vec().into(), NOW_MS) {
        Ok(found) => found,
        Err(error) => panic!("{error}"),
    };
    let accepted = found.accepted.column_by_name("ordinal").unwrap().as_primitive::<Int64Type>();
    let discarded = found.discards.iter().map(|row| row.ordinal);
    let mut ordinals: Vec<i64> = accepted.values().iter().copied().chain(discarded).collect();
    ordinals.sort_unstable();
    let each_once = (0..found.rows_in.cast_signed()).collect::<Vec<_>>();
    assert_eq!(ordinals, each_once, "every row is accepted or discarded, once");
    assert!(found.discards.iter().all(|row| !row.rules.is_empty()), "a discarded row has a reason");
    found.rows_in
}

/// Runs the processor over all of them: what the ledger counts is in the tables, and is all that there is.
async fn all_rows_landed(store: InMemory, contracts: &[Contract], objects: u64) {
    let lake = Lake::over("memory://fuzz/".parse().unwrap(), Arc::new(store));
    let report = run(&lake, contracts, |_, _| {}).await.unwrap();
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(report.total.objects, objects);
    let kept = report.total.silver + report.total.superseded;
    assert_eq!(report.total.rows_in, kept + report.total.discarded + report.total.duplicates);
    for (sql, expected) in [
        ("SELECT count(*) AS n FROM discard", report.total.discarded + report.total.duplicates),
        (
            "SELECT (SELECT count(*) FROM silver.sensor_readings) + (SELECT count(*) FROM versions.orders) AS n",
            kept,
        ),
        ("SELECT sum(rows_in) AS n FROM ledger", report.total.rows_in),
    ] {
        let answer = query(&lake, contracts, sql).await.unwrap();
        let rows = answer[0].column(0).as_primitive::<Int64Type>().value(0);
        assert_eq!(rows, expected, "{sql}");
    }
}
