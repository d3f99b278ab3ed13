//! A lake in a bucket is the lake on a disk: the same commands, the same rows, any number of processors, and refusals that
//! say what to do. S3 is moto's.

use std::process::Command;

use crate::moto::{Moto, ended};
use serde_json::{Value, json};

const LAKE: &str = "s3://lake/tenant=a";

/// Keys with what has to be encoded in URLs, and in them good rows, bad ones and one twice.
fn objects() -> Vec<(String, String)> {
    let reading = |device: &str, seq: u64, value: f64| {
        json!({"device": device, "boot": 1, "seq": seq, "channel": "temperature", "value": value,
               "at": 1_767_225_600_000_u64 + seq * 1_000, "quality": 0})
    };
    let order = |id: usize, currency: &str| {
        json!({"order_id": format!("A{id}"), "status": "paid", "amount": 19.99, "currency": currency,
               "created_at": "2026-01-01T10:00:00Z", "customer_email": "ann@example.org"})
    };
    let mut objects = Vec::new();
    for number in 0..12 {
        let rows = [reading("d1", number, 20.5), reading("d1", number, 20.5), reading("d2", number, 500.5)];
        let key = format!("bronze/sensor_readings/dt=2026-01-01/gateway=g/a {number}+fünf%.ndjson");
        objects.push((key, rows));
    }
    let orders = [order(1, "EUR"), order(2, "BTC"), order(3, "GBP")];
    objects.push(("bronze/orders/dt=2026-01-01/shop.ndjson".to_owned(), orders));
    let lines = |rows: [Value; 3]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    objects.into_iter().map(|(key, rows)| (key, lines(rows))).collect()
}

/// Moto with a bucket that has the objects.
fn filled() -> Moto {
    let moto = Moto::start();
    moto.bucket("lake");
    for (key, text) in objects() {
        moto.put("lake", &format!("tenant=a/{key}"), text.as_bytes());
    }
    moto
}

/// What a lake holds, without what is of one store: tags, and times of writing and of processing.
fn held(moto: &Moto, lake: &str) -> Vec<Vec<Value>> {
    [
        "SELECT device, boot, seq, channel, value, at, quality, dt, bronze_key, ordinal FROM silver.sensor_readings ORDER BY device, seq",
        "SELECT order_id, status, amount, currency, created_at, customer_email, bronze_key, ordinal FROM silver.orders ORDER BY order_id",
        "SELECT dataset, bronze_key, ordinal, rule, record FROM discard ORDER BY bronze_key, ordinal, rule",
        "SELECT dataset, bronze_key, bytes, rows_in, silver, discarded, duplicates, rules FROM ledger ORDER BY bronze_key",
        "SELECT * FROM gold.sensor_hourly ORDER BY device, channel, window_start",
        "SELECT * FROM gold.orders_by_status ORDER BY status, currency",
    ]
    .iter()
    .map(|sql| moto.rows(lake, sql))
    .collect()
}

fn done(moto: &Moto, words: &[&str]) -> Value {
    let (code, report, stderr) = moto.processor(words);
    assert_eq!(code, 0, "{words:?}: {stderr} {report}");
    report
}

#[test]
fn every_command_does_in_a_bucket_what_it_does_on_a_disk() {
    let moto = filled();
    let dir = tempfile::tempdir().unwrap();
    let disk = format!("file://{}", dir.path().display());
    for (key, text) in objects() {
        let file = dir.path().join(key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    for lake in [LAKE, &disk] {
        let report = done(&moto, &["run", "--lake", lake]);
        assert_eq!((&report["rows_in"], &report["silver"]), (&json!(39), &json!(14)), "{report}");
        assert_eq!((&report["discarded"], &report["duplicates"]), (&json!(13), &json!(12)), "{report}");
        assert_eq!(done(&moto, &["run", "--lake", lake])["objects"], 0, "it is all in the ledger");
        assert_eq!(done(&moto, &["audit", "--lake", lake])["objects"], 13);
    }
    assert_eq!(held(&moto, LAKE), held(&moto, &disk));
    let tags = moto.rows(LAKE, "SELECT DISTINCT bronze_etag FROM ledger");
    assert!(tags.iter().all(|tag| tag["bronze_etag"].as_str().unwrap().len() == 32), "{tags:?}");

    // A rule that was wrong: its rows are judged again.
    let wider = include_str!("../../../contracts/orders.yaml").replace("'CAD')", "'CAD', 'BTC')");
    let file = dir.path().join("orders.yaml");
    std::fs::write(&file, wider).unwrap();
    for lake in [LAKE, &disk] {
        let words =
            ["redrive", "--lake", lake, "--contract", file.to_str().unwrap(), "--rule", "bad_currency"];
        assert_eq!(done(&moto, &words)["silver"], 1);
    }
    // Upkeep: a few files instead of many, and no row changes.
    for lake in [LAKE, &disk] {
        let words = ["maintain", "--lake", lake, "--closed-after-days", "0", "--small-files-min", "2"];
        let maintained = done(&moto, &words);
        assert!(!maintained["done"].as_array().unwrap().is_empty(), "{maintained}");
        assert_eq!(done(&moto, &words)["done"], json!([]), "nothing is due any more");
        done(&moto, &["audit", "--lake", lake]);
    }
    assert_eq!(held(&moto, LAKE), held(&moto, &disk));
    let cell = ["trace", "--lake", LAKE, "--gold", "sensor_hourly", "--where", "device = 'd1'"];
    assert!(done(&moto, &cell).to_string().contains("a 3+fünf%.ndjson"));

    // A device is forgotten: what is left of its rows is their places, and its objects are no new ones.
    let key = dir.path().join("key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    let key = ["--pseudonym-key-file", key.to_str().unwrap()];
    for lake in [LAKE, &disk] {
        let words = ["forget", "--lake", lake, "--subject", "device=d1", "--alone"];
        let forgotten = done(&moto, &[&words[..], &key].concat());
        let erased = &forgotten["datasets"]["sensor_readings"];
        assert_eq!(
            (&erased["bronze_objects"], &erased["bronze_rows"]),
            (&json!(12), &json!(24)),
            "{forgotten}"
        );
        assert_eq!(done(&moto, &[&["run", "--lake", lake][..], &key].concat())["objects"], 0);
        done(&moto, &["audit", "--lake", lake]);
    }
    assert_eq!(held(&moto, LAKE), held(&moto, &disk));
    assert_eq!(held(&moto, LAKE)[0], Vec::<Value>::new());
    let left = moto.get("lake", &format!("tenant=a/{}", objects()[3].0));
    assert!(!left.contains("\"d1\"") && left.contains("\"d2\""), "{left}");

    // What only a disk can do is refused before anything changes.
    let (code, _, stderr) = moto.processor(&["rebuild", "--lake", &disk, "--into", "s3://lake/new"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("needs lakes in folders of this machine, and s3://lake/"), "{stderr}");
}

#[test]
fn processors_that_run_at_the_same_time_take_each_row_once() {
    let moto = filled();
    let start = || moto.command().args(["--format", "json", "run", "--lake", LAKE]).output();
    let ran: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| ended(&thread.join().unwrap().unwrap())).collect()
    });
    for (code, report, stderr) in &ran {
        assert_eq!(*code, 0, "{stderr} {report}");
    }
    done(&moto, &["run", "--lake", LAKE]);
    let audited = done(&moto, &["audit", "--lake", LAKE]);
    assert_eq!((&audited["rows_in"], &audited["silver"]), (&json!(39), &json!(14)), "{audited}");

    let alone = filled();
    done(&alone, &["run", "--lake", LAKE]);
    let [together, alone] = [held(&moto, LAKE), held(&alone, LAKE)];
    assert_eq!(together, alone);
}

#[test]
fn what_is_wrong_with_a_bucket_is_said_with_what_to_do() {
    let moto = Moto::start();
    moto.bucket("lake");
    moto.put("lake", "bronze/orders/a.ndjson", b"{}\n");

    let (code, _, stderr) = moto.processor(&["run", "--lake", "s3://elsewhere"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("there is no bucket elsewhere; create it, or correct --lake"), "{stderr}");

    let refused = |change: &dyn Fn(&mut Command), lake: &str| {
        let mut command = moto.command();
        command.args(["run", "--lake", lake]);
        change(&mut command);
        let (code, _, stderr) = ended(&command.output().unwrap());
        assert_eq!(code, 2, "{stderr}");
        stderr
    };
    let no_region = |command: &mut Command| {
        command.env_remove("AWS_REGION");
    };
    assert!(refused(&no_region, "s3://lake").contains("no AWS region: set AWS_REGION"));
    let plain = |command: &mut Command| {
        command.env("AWS_ENDPOINT_URL_S3", "http://10.0.0.1:9000");
    };
    assert!(refused(&plain, "s3://lake").contains("AWS_ENDPOINT_URL_S3 is http:// to another machine"));
    assert!(refused(&|_| {}, "s3://lake/a b").contains("is not a lake URL; write file:///"));
    assert!(refused(&|_| {}, "gs://lake").contains("is not a lake URL; write file:///"));

    let [id, secret] = moto.user("reader", &["s3:GetObject", "s3:ListBucket"]);
    moto.check_rights(true);
    let ran = moto
        .command()
        .args(["run", "--lake", "s3://lake"])
        .env("AWS_ACCESS_KEY_ID", &id)
        .env("AWS_SECRET_ACCESS_KEY", &secret)
        .output();
    let (code, _, stderr) = ended(&ran.unwrap());
    assert_eq!(code, 1);
    let wanted = "the role of these credentials needs s3:PutObject on arn:aws:s3:::lake/discard/_delta_log/00000000000000000000.json";
    assert_eq!(stderr.matches(wanted).count(), 1, "{stderr}");
    let ran = moto.command().args(["run", "--lake", "s3://lake"]).env("AWS_ACCESS_KEY_ID", "nobody").output();
    let (code, _, stderr) = ended(&ran.unwrap());
    assert_eq!(code, 1);
    assert!(stderr.contains("there are no usable AWS credentials (InvalidAccessKeyId"), "{stderr}");
}
