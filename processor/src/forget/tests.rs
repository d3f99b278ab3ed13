//! A lake in which a person and a device are in every tier and format; and then they are not.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::util::pretty::pretty_format_batches;
use deltalake::parquet::file::reader::{FileReader, SerializedFileReader};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::TryStreamExt;
use ingot_agent::{Batch, Quality, Reading};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

use super::receipt::verify;
use super::*;
use crate::audit::audit;
use crate::decode::{Field, Parts};
use crate::examine::WHOLE;
use crate::lake::BronzeObject;
use crate::maintain::MaintainSettings;
use crate::query::query;
use crate::rebuild::rebuild;
use crate::run::run;

const PERSON: &str = "ann.forgetme@mail.example";
const DEVICE: &str = "sensor-forgetme";
const AT_MS: i64 = 1_767_268_800_000;

struct Fixture {
    dir: TempDir,
    lake: Lake,
    contracts: Vec<Contract>,
    key: PseudonymKey,
}

fn order(n: usize, email: &str, status: &str, day: u32) -> String {
    format!(
        "{{\"order_id\":\"A{n}\",\"status\":\"{status}\",\"amount\":{n}.5,\"currency\":\"EUR\",\"created_at\":\"2026-01-0{day}T10:00:00Z\",\"customer_email\":\"{email}\",\"notes\":\"n{n}\"}}"
    )
}

fn frame(seq: u64, values: &[(&str, u64, f64)]) -> Vec<u8> {
    let mut batch: Box<Batch<64, 64, 8192>> = Box::new(Batch::new("gw", 7).unwrap());
    batch.next_seq(seq);
    for (device, count, value) in values {
        let device = batch.device(device, 1).unwrap();
        let series = batch.series(device, "temperature").unwrap();
        let at_ms = AT_MS + 1_000 * count.cast_signed();
        batch.push(series, &Reading { seq: *count, at_ms, value: *value, quality: Quality::GOOD }).unwrap();
    }
    let mut bytes = Vec::new();
    batch.seal(AT_MS + 60_000, 5, |part| bytes.extend_from_slice(part));
    bytes
}

fn gz(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

impl Fixture {
    /// `pseudonym`: the address has one in silver.
    async fn new(pseudonym: bool) -> Self {
        let fixture = Self::with_bronze(pseudonym);
        fixture.run().await;
        fixture
    }

    fn with_bronze(pseudonym: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(url::Url::from_directory_path(dir.path()).unwrap().as_str()).unwrap();
        let key = PseudonymKey::new(b"0123456789abcdef0123456789abcdef").unwrap();
        let mut contracts = Contract::embedded();
        if pseudonym {
            let text = include_str!("../../../contracts/orders.yaml");
            let text =
                text.replacen("property: redact, value: mask", "property: redact, value: pseudonym", 1);
            contracts[1] = Contract::parse(&text).unwrap();
        }
        contracts.iter_mut().for_each(|contract| contract.pseudonym_key = Some(key.clone()));
        let fixture = Self { dir, lake, contracts, key };
        fixture.fill();
        fixture
    }

    fn write(&self, key: &str, bytes: impl AsRef<[u8]>) {
        let path = self.dir.path().join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn fill(&self) {
        let other = "bob@mail.example";
        let lines = [
            order(1, PERSON, "paid", 1),
            order(2, other, "paid", 1),
            order(3, PERSON, "lost", 1),
            format!("{{\"order_id\":\"A4\",\"customer_email\":\"{PERSON}"),
            order(5, other, "lost", 1),
            order(2, other, "shipped", 1),
            order(1, PERSON, "paid", 1),
        ];
        self.write("bronze/orders/dt=2026-01-01/a.ndjson", lines.join("\n"));
        self.write(
            "bronze/orders/dt=2026-01-02/b.csv",
            format!(
                "order_id,status,amount,currency,created_at,customer_email\nA6,paid,5,EUR,2026-01-02T10:00:00Z,{PERSON}\nA7,paid,6,EUR,2026-01-02T10:00:00Z,{other}\nA8,paid,{PERSON}\nA9,paid,x,EUR,2026-01-02T10:00:00Z,{other}\n"
            ),
        );
        let packed = [order(10, other, "paid", 2), order(11, PERSON, "paid", 2), order(12, other, "lost", 2)];
        self.write("bronze/orders/dt=2026-01-02/c.ndjson.gz", gz(&packed.join("\n")));
        self.write("bronze/orders/dt=2026-01-02/other.ndjson", order(13, other, "paid", 2));
        let name =
            |seq| format!("bronze/sensor_readings/dt=2026-01-01/gateway=gw/0000000000000007-{seq:010}.ingot");
        let first = [(DEVICE, 0, 20.0), ("d2", 0, 1.0 / 3.0), (DEVICE, 1, 999.0), ("d2", 1, 999.0)];
        self.write(&name(0), frame(0, &first));
        self.write(
            &name(1),
            frame(1, &[("d2", 2, 21.0), ("d2", 3, -999.0), (DEVICE, 2, 21.5), ("d2", 1, 999.0)]),
        );
        self.write(&name(2), frame(2, &[("d2", 4, 21.0)]));
        self.write(
            "bronze/sensor_readings/dt=2026-01-01/d.ndjson",
            format!("{{\"device\":\"{DEVICE}\",\"channel\":\"temperature\",\"value\":5,\"at\":{AT_MS},\"seq\":3,\"boot\":1}}\n"),
        );
    }

    async fn run(&self) {
        let report = run(&self.lake, &self.contracts, |_, _| {}).await.unwrap();
        assert!(report.failed.is_empty(), "{:?}", report.failed);
    }

    async fn forget(&self, subject: &str) -> ForgetReport {
        let settings = ForgetSettings { alone: true, dry_run: false };
        let subject: Subject = subject.parse().unwrap();
        forget(&self.lake, &self.contracts, &self.key, &subject, settings, |_, _| {}).await.unwrap()
    }

    fn look<'a>(&'a self, contracts: &'a [&'a Contract], subject: &'a Subject) -> Look<'a> {
        Look { lake: &self.lake, contracts, key: &self.key, subject, started_ms: AT_MS }
    }

    async fn rows(&self, sql: &str) -> String {
        let rows = query(&self.lake, &self.contracts, sql).await.unwrap();
        pretty_format_batches(&rows).unwrap().to_string()
    }

    /// Every other row of every table, all of its columns.
    async fn others(&self) -> Vec<String> {
        let mut others = Vec::new();
        for sql in [
            "SELECT * FROM silver.orders WHERE order_id NOT IN ('A1', 'A6', 'A11') ORDER BY order_id",
            "SELECT * FROM silver.sensor_readings WHERE device <> 'sensor-forgetme' ORDER BY device, seq",
            "SELECT rules, bronze_key, bronze_etag, ordinal, record, discarded_at FROM discard
             WHERE rule <> 'forgotten' AND record NOT LIKE '%A1\"%' AND record NOT LIKE '%A3%' AND record NOT LIKE '%A4%'
               AND record NOT LIKE '%forgetme%' AND ordinal || bronze_key <> '2bronze/orders/dt=2026-01-02/b.csv'
             ORDER BY bronze_key, ordinal",
        ] {
            others.push(self.rows(sql).await);
        }
        others
    }

    async fn holds(&self) {
        let balance = audit(&self.lake, &self.contracts).await.unwrap();
        assert!(balance.is_balanced(), "{:?}", balance.findings);
        let into = tempfile::tempdir().unwrap();
        let into = Lake::open(url::Url::from_directory_path(into.path()).unwrap().as_str()).unwrap();
        let rebuilt = rebuild(&self.lake, &into, &self.contracts, |_, _| {}).await.unwrap();
        assert!(rebuilt.equal, "{:#?}", rebuilt.tables);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Where the text is: in a file's bytes, or in what is packed in them.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut holding = Vec::new();
    for path in files(folder) {
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        let bytes = std::fs::read(&path).unwrap();
        let mut seen = String::from_utf8_lossy(&bytes).into_owned() + &name;
        if name.ends_with(".parquet") {
            let reader = SerializedFileReader::new(Bytes::from(bytes)).unwrap();
            seen += &format!("{:?}", reader.metadata());
            reader.get_row_iter(None).unwrap().for_each(|row| seen += &row.unwrap().to_string());
        } else if name.ends_with(".gz") {
            MultiGzDecoder::new(&bytes[..]).read_to_string(&mut seen).unwrap();
        } else if name.ends_with(".ingot") {
            let key = BronzeKey::parse(&name, |_| true).unwrap();
            let contract = &Contract::embedded()[0];
            let mut parts = Parts::open(&key, Bytes::from(bytes), WHOLE);
            parts.fill();
            parts.part().rows(contract, |_, row| {
                if let Ok([Field::Text(device), ..]) = row {
                    seen += device;
                }
            });
        }
        if seen.contains(text) {
            holding.push(name);
        }
    }
    holding
}

#[tokio::test]
async fn a_person_and_a_device_are_gone_from_every_byte_and_nobody_else_is() {
    for pseudonym in [false, true] {
        let lake = Fixture::new(pseudonym).await;
        let others = lake.others().await;
        assert!(!holding(lake.dir.path(), PERSON).is_empty());
        let report = lake.forget(&format!("customer_email={PERSON}")).await;
        let erased = &report.datasets["orders"];
        assert_eq!((erased.bronze_objects, erased.bronze_rows), (3, 7), "{report:?}");
        assert_eq!((erased.silver_rows, erased.discard_rows), (3, 4), "{report:?}");
        assert_eq!(holding(lake.dir.path(), PERSON), Vec::<String>::new());
        assert_eq!(holding(lake.dir.path(), &lake.key.pseudonym(PERSON)), Vec::<String>::new());
        assert_eq!(lake.others().await, others);
        lake.holds().await;
        lake.run().await;

        let tables = holding(lake.dir.path(), DEVICE);
        assert!(tables.iter().any(|name| name.starts_with("gold")), "{tables:?}");
        let report = lake.forget(&format!("device={DEVICE}")).await;
        let erased = &report.datasets["sensor_readings"];
        assert_eq!((erased.bronze_objects, erased.bronze_rows), (3, 4), "{report:?}");
        assert_eq!((erased.silver_rows, erased.discard_rows), (3, 1), "{report:?}");
        assert_eq!(holding(lake.dir.path(), DEVICE), Vec::<String>::new());
        assert_eq!(lake.others().await, others);
        lake.holds().await;

        let receipt = std::fs::read_to_string(lake.dir.path().join(report.receipt.unwrap())).unwrap();
        let subject: Subject = format!("device={DEVICE}").parse().unwrap();
        let statement = verify(&receipt, &lake.key, Some(&subject)).unwrap();
        assert_eq!(&statement.datasets["sensor_readings"], erased);

        // A redelivery under other names does not come back, and is erased by the same command.
        lake.write(
            "bronze/orders/dt=2026-01-03/again.ndjson",
            [order(1, PERSON, "paid", 1), order(20, "bob@mail.example", "paid", 3)].join("\n"),
        );
        lake.write(
            "bronze/sensor_readings/dt=2026-01-01/again.ingot",
            frame(3, &[(DEVICE, 9, 20.0), ("d2", 5, 20.0)]),
        );
        lake.run().await;
        assert!(!lake.rows("SELECT order_id FROM silver.orders").await.contains(" A1 "));
        let forgotten = lake.rows("SELECT bronze_key, record FROM discard WHERE rule = 'forgotten' AND bronze_key LIKE '%again%'").await;
        assert_eq!(forgotten.matches("the row is forgotten").count(), 2, "{forgotten}");
        let report = lake.forget(&format!("device={DEVICE}")).await;
        assert_eq!(report.datasets["sensor_readings"].bronze_rows, 1, "{report:?}");
        assert_eq!(holding(lake.dir.path(), DEVICE), Vec::<String>::new());
        lake.forget(&format!("customer_email={PERSON}")).await;
        assert_eq!(holding(lake.dir.path(), PERSON), Vec::<String>::new());
        lake.holds().await;
    }
}

#[tokio::test]
async fn in_a_bucket_they_are_gone_from_every_object_and_no_object_is_new() {
    let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut lake = Fixture::with_bronze(false);
    for path in files(lake.dir.path()) {
        let key = path.strip_prefix(lake.dir.path()).unwrap().display().to_string();
        bucket.put(&key.into(), std::fs::read(&path).unwrap().into()).await.unwrap();
    }
    lake.lake = Lake::over(url::Url::parse("memory://forgetful").unwrap(), Arc::clone(&bucket));
    lake.run().await;
    let others = lake.others().await;
    let objects = lake.lake.list_bronze().await.unwrap();
    for (subject, dataset, name) in [
        (format!("customer_email={PERSON}"), "orders", PERSON),
        (format!("device={DEVICE}"), "sensor_readings", DEVICE),
    ] {
        let before = tempfile::tempdir().unwrap();
        copy(&bucket, before.path()).await;
        assert!(!holding(before.path(), name).is_empty());
        let report = lake.forget(&subject).await;
        assert!(report.receipt.is_some() && report.datasets[dataset].bronze_rows > 3, "{report:?}");
        let after = tempfile::tempdir().unwrap();
        copy(&bucket, after.path()).await;
        assert_eq!(holding(after.path(), name), Vec::<String>::new());
        assert_eq!(lake.others().await, others);
        let report = run(&lake.lake, &lake.contracts, |_, _| {}).await.unwrap();
        assert_eq!((report.total.objects, report.failed.len()), (0, 0));
        let balance = audit(&lake.lake, &lake.contracts).await.unwrap();
        assert!(balance.is_balanced(), "{:?}", balance.findings);
    }
    let identity = |objects: Vec<BronzeObject>| -> Vec<(String, String, i64)> {
        objects.into_iter().map(|object| (object.key, object.etag, object.modified_ms)).collect()
    };
    assert_eq!(identity(lake.lake.list_bronze().await.unwrap()), identity(objects));
}

/// Everything that is in the bucket, as files.
async fn copy(bucket: &Arc<dyn ObjectStore>, to: &Path) {
    let listed: Vec<_> = bucket.list(None).try_collect().await.unwrap();
    for object in listed {
        let file = to.join(object.location.as_ref());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bucket.get(&object.location).await.unwrap().bytes().await.unwrap()).unwrap();
    }
}

/// What a cut at a moment leaves: the plan is stored, and some of the steps are done.
#[tokio::test]
async fn cut_after_any_step_the_same_command_completes_it() {
    let subject: Subject = format!("device={DEVICE}").parse().unwrap();
    for done in 0..5 {
        let lake = Fixture::new(false).await;
        let contract = &lake.contracts[0];
        let contracts = [contract];
        let mark = subject.mark(&lake.key);
        forgotten::remember(&lake.lake, &lake.key, &subject.column, &mark).await.unwrap();
        let look = lake.look(&contracts, &subject);
        let plan = look.first(&mut BTreeSet::new(), |_, _| {}).await.unwrap();
        let plan = plan.stored(&lake.lake, &mark).await.unwrap();
        let planned = &plan.datasets[&contract.dataset];
        let some = if done == 1 { 1 } else { planned.objects.len() };
        if done > 0 {
            for object in planned.objects.iter().filter(|object| object.in_bronze).take(some) {
                rewrite(&lake.lake, contract, object).await.unwrap();
            }
        }
        if done > 1 {
            let checker = Checker::new(contract).unwrap();
            books::erase(&lake.lake, &checker, planned).await.unwrap();
        }
        if done > 2 {
            gold::refresh(&lake.lake, contract).await.unwrap();
            traces::erase(&lake.lake, contract, &lake.key, &subject).await.unwrap();
        }
        if done > 3 {
            cut(&lake.lake, &silver::path(&contract.dataset), i64::MAX).await.unwrap();
        }
        // A processor goes on with a lake in which half is done, before the command is given again.
        lake.run().await;
        let report = lake.forget(&format!("device={DEVICE}")).await;
        let erased = &report.datasets["sensor_readings"];
        assert_eq!((erased.bronze_rows, erased.silver_rows, erased.discard_rows), (4, 3, 1), "cut {done}");
        assert_eq!(holding(lake.dir.path(), DEVICE), Vec::<String>::new(), "cut {done}");
        lake.holds().await;
    }
}

/// The same tier by tier: what retention let go of silver and discard is still in bronze and gold.
#[tokio::test]
async fn what_retention_let_go_is_erased_where_it_still_is_and_the_books_balance() {
    let mut lake = Fixture::with_bronze(false);
    lake.contracts[0].retention.silver_days = Some(30);
    lake.contracts[0].retention.discard_days = Some(30);
    lake.run().await;
    let maintain = async |lake: &Fixture| {
        let settings = MaintainSettings::default();
        let due = crate::maintain::plan(&lake.lake, &lake.contracts, settings, AT_MS + 90 * 86_400_000).await;
        let done = crate::maintain::maintain(&lake.lake, &due.unwrap(), settings, |_, _| {}).await;
        assert_eq!(done.failed, Vec::<String>::new());
    };
    maintain(&lake).await;
    let count = "SELECT count(*) AS n FROM silver.sensor_readings";
    assert!(lake.rows(count).await.contains("| 0 |"));
    let gold =
        "SELECT * FROM gold.sensor_hourly WHERE device <> 'sensor-forgetme' ORDER BY device, window_start";
    let others = lake.rows(gold).await;
    assert!(lake.rows("SELECT device FROM gold.sensor_hourly").await.contains(DEVICE));
    // One that comes late is in silver and discard, beside what went of its object's kind.
    lake.write(
        "bronze/sensor_readings/dt=2026-01-01/late.ingot",
        frame(3, &[(DEVICE, 4, 20.0), ("d2", 5, 20.0), (DEVICE, 5, 999.0)]),
    );
    lake.run().await;

    let report = lake.forget(&format!("device={DEVICE}")).await;
    let erased = &report.datasets["sensor_readings"];
    assert_eq!((erased.bronze_objects, erased.bronze_rows), (4, 6), "{report:?}");
    assert_eq!((erased.silver_rows, erased.discard_rows), (1, 1), "{report:?}");
    assert!(report.receipt.is_some());
    assert_eq!(holding(lake.dir.path(), DEVICE), Vec::<String>::new());
    assert_eq!(lake.rows(gold).await, others, "gold of others stays");
    for _ in 0..2 {
        let balance = audit(&lake.lake, &lake.contracts).await.unwrap();
        assert!(balance.is_balanced(), "{:?}", balance.findings);
        maintain(&lake).await;
        lake.run().await;
    }
}

/// What a processor promotes that began before the subject was noted.
async fn promoted_unknowing(lake: &Fixture, key: &str) {
    let object = lake.lake.stored_object(key).await.unwrap().unwrap();
    let key = BronzeKey::parse(key, |_| true).unwrap();
    let checker = Checker::new(&lake.contracts[0]).unwrap();
    let candidate = crate::promote::Candidate { object, key };
    crate::promote::promote(&lake.lake, &checker, &[candidate], AT_MS).await.unwrap();
}

#[tokio::test]
async fn rows_that_came_after_the_plan_was_made_go_with_the_same_command_again() {
    let lake = Fixture::new(false).await;
    let subject: Subject = format!("device={DEVICE}").parse().unwrap();
    let mark = subject.mark(&lake.key);
    forgotten::remember(&lake.lake, &lake.key, &subject.column, &mark).await.unwrap();
    let contracts = [&lake.contracts[0]];
    let look = lake.look(&contracts, &subject);
    let mut read = BTreeSet::new();
    let plan = look.first(&mut read, |_, _| {}).await.unwrap();
    plan.stored(&lake.lake, &mark).await.unwrap();
    assert_eq!(look.again(&mut read).await.unwrap().objects(), 3, "its rows are in the tables still");

    let late = "bronze/sensor_readings/dt=2026-01-01/late.ingot";
    lake.write(late, frame(3, &[(DEVICE, 4, 20.0), ("d2", 5, 20.0)]));
    promoted_unknowing(&lake, late).await;
    let came = look.again(&mut read).await.unwrap();
    let came: Vec<_> =
        came.datasets["sensor_readings"].objects.iter().filter(|object| object.key == late).collect();
    assert!(came.len() == 1 && came[0].in_bronze, "{came:?}");

    let report = lake.forget(&format!("device={DEVICE}")).await;
    let erased = &report.datasets["sensor_readings"];
    assert_eq!((erased.bronze_objects, erased.bronze_rows, erased.silver_rows), (4, 5, 4), "{report:?}");
    assert!(report.receipt.is_some());
    assert_eq!(holding(lake.dir.path(), DEVICE), Vec::<String>::new());
    lake.holds().await;
}

#[tokio::test]
async fn an_object_that_was_overwritten_or_cannot_be_rewritten_is_done_once_it_is_mended() {
    let lake = Fixture::new(false).await;
    let key = "bronze/sensor_readings/dt=2026-01-01/d.ndjson";
    let subject: Subject = format!("device={DEVICE}").parse().unwrap();
    let contracts = [&lake.contracts[0]];
    let look = lake.look(&contracts, &subject);
    // An earlier run made its plan and was cut; then the object was stored again with other rows.
    let plan = look.first(&mut BTreeSet::new(), |_, _| {}).await.unwrap();
    plan.stored(&lake.lake, &subject.mark(&lake.key)).await.unwrap();
    let row = |seq: u32| {
        format!(
            "{{\"device\":\"{DEVICE}\",\"channel\":\"temperature\",\"value\":5,\"at\":{AT_MS},\"seq\":{seq},\"boot\":1}}\n"
        )
    };
    lake.write(key, row(3) + &row(50) + &row(3).replace(DEVICE, "d2"));
    lake.run().await;
    let report = lake.forget(&format!("device={DEVICE}")).await;
    assert!(report.failed.is_empty() && report.receipt.is_some(), "{report:?}");
    assert_eq!(holding(lake.dir.path(), DEVICE), Vec::<String>::new());
}

#[tokio::test]
async fn what_may_be_in_flight_stays_and_says_so_and_a_lake_that_forgot_wants_its_key() {
    let lake = Fixture::new(false).await;
    let orphan = lake.dir.path().join("silver/sensor_readings/dt=2026-01-01/part-0-orphan.parquet");
    std::fs::write(&orphan, DEVICE).unwrap();
    let subject: Subject = format!("device={DEVICE}").parse().unwrap();
    let forget = async |settings, contracts: &[Contract]| {
        forget(&lake.lake, contracts, &lake.key, &subject, settings, |_, _| {}).await.unwrap()
    };
    let dry = forget(ForgetSettings { dry_run: true, alone: false }, &lake.contracts).await;
    assert_eq!((dry.datasets["sensor_readings"].bronze_rows, dry.receipt), (4, None));
    assert!(!lake.dir.path().join(forgotten::PATH).exists());

    let report = forget(ForgetSettings::default(), &lake.contracts).await;
    assert_eq!((report.in_flight, report.is_complete(), &report.receipt), (1, false, &None));
    assert!(orphan.exists());
    let report = forget(ForgetSettings { alone: true, dry_run: false }, &lake.contracts).await;
    assert!(report.is_complete() && report.receipt.is_some() && !orphan.exists());
    // The receipt is of both runs: nothing was found by the second one.
    assert_eq!(report.datasets["sensor_readings"].silver_rows, 3);

    let mut keyless = lake.contracts.clone();
    keyless.iter_mut().for_each(|contract| contract.pseudonym_key = None);
    let refused = run(&lake.lake, &keyless, |_, _| {}).await.unwrap_err().to_string();
    assert!(refused.contains("--pseudonym-key-file"), "{refused}");
    let other = PseudonymKey::new(b"fedcba9876543210fedcba9876543210").unwrap();
    keyless.iter_mut().for_each(|contract| contract.pseudonym_key = Some(other.clone()));
    let refused = run(&lake.lake, &keyless, |_, _| {}).await.unwrap_err().to_string();
    assert!(refused.contains("another key"), "{refused}");
}

#[tokio::test]
async fn a_column_that_names_nobody_is_refused_with_those_that_do() {
    let lake = Fixture::new(false).await;
    for column in ["seq", "status", "no_such"] {
        let subject: Subject = format!("{column}=secret-value").parse().unwrap();
        let settings = ForgetSettings::default();
        let refused = forget(&lake.lake, &lake.contracts, &lake.key, &subject, settings, |_, _| {}).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("columns that are: country, customer_email, device, notes"), "{refused}");
        assert!(!refused.contains("secret-value") && !format!("{subject:?}").contains("secret-value"));
    }
}
