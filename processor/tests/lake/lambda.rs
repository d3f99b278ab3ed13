//! The processor as a function of Lambda: what queues, S3 and the clock bring is done once, and what cannot be done comes
//! again, alone. The program is the real one; Lambda's Runtime API is the test's, S3, SQS, SNS and the rest are moto's.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use crate::moto::Moto;
use crate::runtime::Function;
use serde_json::{Value, json};

const LAKE: &str = "s3://lake/tenant=a";
const PREFIX: &str = "tenant=a/";

/// What a key has to bear: signs that URLs and forms write otherwise.
const ODD: [&str; 4] = [
    "bronze/sensor_readings/dt=2026-01-01/gateway=gw+1/plus+sign.ndjson",
    "bronze/sensor_readings/dt=2026-01-01/with space.ndjson",
    "bronze/sensor_readings/dt=2026-01-01/fünf%41.ndjson",
    "bronze/sensor_readings/dt=2026-01-01/a=b&c.ndjson",
];

fn moto() -> Moto {
    let moto = Moto::start();
    moto.bucket("lake");
    moto
}

fn program(moto: &Moto) -> Command {
    let mut program = moto.command();
    program.env("INGOT_LAKE", LAKE);
    program
}

/// Good readings of a device, one that is out of range, and one twice.
fn readings(device: &str, good: u64) -> String {
    let line = |seq: u64, value: f64| {
        let at = 1_767_225_600_000_u64 + seq * 1_000;
        json!({"device": device, "boot": 1, "seq": seq, "channel": "temperature", "value": value, "at": at, "quality": 0})
    };
    let lines = (0..good).map(|seq| line(seq, 20.5)).chain([line(good, 500.5), line(0, 20.5)]);
    lines.map(|line| format!("{line}\n")).collect()
}

fn put(moto: &Moto, key: &str, text: &str) {
    moto.put("lake", &format!("{PREFIX}{key}"), text.as_bytes());
}

/// A key as S3 writes it in its events.
fn encoded(key: &str) -> String {
    let parts = format!("{PREFIX}{key}");
    let parts = parts.split('/').map(|part| url::form_urlencoded::byte_serialize(part.as_bytes()).collect());
    parts.collect::<Vec<String>>().join("/")
}

/// S3's own event of some objects.
fn created(keys: &[&str]) -> Value {
    let record = |key: &&str| {
        json!({"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
               "s3": {"bucket": {"name": "lake"}, "object": {"key": encoded(key)}}})
    };
    json!({"Records": keys.iter().map(record).collect::<Vec<_>>()})
}

/// A batch of messages, called `m0`, `m1`, ….
fn batch(bodies: &[String]) -> Value {
    let message = |(number, body): (usize, &String)| json!({"messageId": format!("m{number}"), "eventSource": "aws:sqs", "body": body});
    json!({"Records": bodies.iter().enumerate().map(message).collect::<Vec<_>>()})
}

/// The ids that the answer gives back.
fn failed(answer: &Value) -> Vec<String> {
    let failures = answer["batchItemFailures"].as_array().expect("an answer to a queue");
    let mut ids: Vec<String> =
        failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// How often each reading of a device is in silver.
fn silver(moto: &Moto, device: &str) -> (u64, u64) {
    let sql = format!(
        "SELECT count(*) AS rows, count(DISTINCT seq) AS keys FROM silver.sensor_readings WHERE device = '{device}'"
    );
    let row = moto.rows(LAKE, &sql).remove(0);
    (row["rows"].as_u64().unwrap(), row["keys"].as_u64().unwrap())
}

fn balanced(moto: &Moto) -> Value {
    let (code, audited, stderr) = moto.processor(&["audit", "--lake", LAKE]);
    // Between two tasks `gold`, gold shows older silver.
    let findings: Vec<&Value> = audited["findings"].as_array().unwrap().iter().collect();
    assert!(
        findings.iter().all(|finding| finding.as_str().unwrap().starts_with("gold ")),
        "{code} {stderr} {audited}"
    );
    let sum = ["silver", "discarded", "duplicates"].map(|name| audited[name].as_i64().unwrap());
    assert_eq!(audited["rows_in"], sum.iter().sum::<i64>(), "{audited}");
    audited
}

#[test]
fn messages_of_a_queue_are_done_once_however_they_are_dressed_and_grouped() {
    let moto = moto();
    for (number, key) in ODD.iter().enumerate() {
        put(&moto, key, &readings(&format!("d{number}"), 5));
    }
    let function = Function::start(program(&moto));
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "lake"});
    let bridged = json!({"source": "aws.s3", "detail-type": "Object Created",
                         "detail": {"bucket": {"name": "lake"}, "object": {"key": format!("{PREFIX}{}", ODD[2])}}});
    let first = batch(&[
        created(&[ODD[0], ODD[1]]).to_string(),
        test.to_string(),
        bridged.to_string(),
        created(&[ODD[0]]).to_string(),
    ]);
    assert_eq!(function.invoke(&first).unwrap(), json!({"batchItemFailures": []}));
    let metrics = function.lines();
    let rows_in = metrics.iter().find(|line| line.get("RowsIn").is_some()).expect("a line of metrics");
    assert_eq!(
        (&rows_in["dataset"], &rows_in["RowsIn"]),
        (&json!("sensor_readings"), &json!(21)),
        "{rows_in}"
    );
    assert_eq!((&rows_in["RowsSilver"], &rows_in["RowsDiscarded"]), (&json!(15), &json!(3)), "{rows_in}");
    assert!(metrics.iter().any(|line| line["rule"] == "out_of_range" && line["RowsDiscarded"] == 3));

    // Redelivered in other company, and by way of no queue.
    let second = batch(&[created(&[ODD[3], ODD[1]]).to_string(), created(&[ODD[2]]).to_string()]);
    assert_eq!(function.invoke(&second).unwrap(), json!({"batchItemFailures": []}));
    let direct = function.invoke(&created(&[ODD[3], ODD[0]])).unwrap();
    assert_eq!((&direct["objects"], &direct["failed"]), (&json!(0), &json!({})), "{direct}");
    assert_eq!(function.invoke(&bridged).unwrap()["objects"], 0);
    for number in 0..4 {
        assert_eq!(silver(&moto, &format!("d{number}")), (5, 5));
    }
    let audited = balanced(&moto);
    assert_eq!((&audited["objects"], &audited["rows_in"]), (&json!(4), &json!(28)), "{audited}");

    println!("init {:?}, memory of a batch {:?} KiB", function.init, function.memory_kib());
}

#[test]
fn what_is_wrong_fails_alone_and_what_nobody_speaks_for_is_let_go() {
    let moto = moto();
    put(&moto, "bronze/sensor_readings/dt=2026-01-01/good.ndjson", &readings("good", 3));
    put(&moto, "bronze/sensor_readings/dt=2026-01-01/broken.ndjson.gz", "this is no gzip");
    let function = Function::start(program(&moto));
    let mut elsewhere = created(&["bronze/sensor_readings/dt=2026-01-01/good.ndjson"]);
    elsewhere["Records"][0]["s3"]["bucket"]["name"] = json!("other");
    let mut outside = created(&["bronze/x"]);
    outside["Records"][0]["s3"]["object"]["key"] = json!("tenant%3Db/bronze/sensor_readings/a.ndjson");
    let event = batch(&[
        "{\"half\":".to_owned(),
        json!({"what": "is this"}).to_string(),
        elsewhere.to_string(),
        created(&["bronze/sensor_readings/dt=2026-01-01/gone.ndjson"]).to_string(),
        created(&["bronze/people/a.csv"]).to_string(),
        created(&["silver/sensor_readings/part-0.parquet"]).to_string(),
        outside.to_string(),
        created(&["bronze/sensor_readings/dt=2026-01-01/good.ndjson"]).to_string(),
        created(&[
            "bronze/sensor_readings/dt=2026-01-01/good.ndjson",
            "bronze/sensor_readings/dt=2026-01-01/gone.ndjson",
        ])
        .to_string(),
    ]);
    let answer = function.invoke(&event).unwrap();
    assert_eq!(failed(&answer), ["m0", "m1", "m2", "m3", "m8"], "{answer}");
    assert_eq!(silver(&moto, "good"), (3, 3));

    // What can be read of a damaged file is a row of discard: it is done.
    let broken = batch(&[created(&["bronze/sensor_readings/dt=2026-01-01/broken.ndjson.gz"]).to_string()]);
    assert_eq!(failed(&function.invoke(&broken).unwrap()), [""; 0]);
    let audited = balanced(&moto);
    assert_eq!((&audited["objects"], &audited["in_flight_objects"]), (&json!(2), &json!(0)), "{audited}");

    // Of an invocation without a queue there is nothing to give back but the whole.
    let gone = function.invoke(&created(&["bronze/sensor_readings/dt=2026-01-01/gone.ndjson"])).unwrap_err();
    assert!(
        gone["errorMessage"].as_str().unwrap().contains("gone.ndjson: there is no such object"),
        "{gone}"
    );
    assert!(
        function.invoke(&elsewhere).unwrap_err()["errorMessage"].as_str().unwrap().contains("bucket other")
    );
    let strange = function.invoke(&json!({"what": "is this"})).unwrap_err();
    assert!(
        strange["errorMessage"].as_str().unwrap().contains("is no batch of SQS, event of S3, or task"),
        "{strange}"
    );
    // After all of that it works as before.
    put(&moto, "bronze/sensor_readings/dt=2026-01-02/next.ndjson", &readings("next", 2));
    let next = batch(&[created(&["bronze/sensor_readings/dt=2026-01-02/next.ndjson"]).to_string()]);
    assert_eq!(failed(&function.invoke(&next).unwrap()), [""; 0]);
    assert_eq!(silver(&moto, "next"), (2, 2));
}

#[test]
fn out_of_time_the_rest_comes_again_and_adds_nothing_twice() {
    let moto = moto();
    let keys: Vec<String> =
        (0..150).map(|n| format!("bronze/sensor_readings/dt=2026-01-01/{n:03}.ndjson")).collect();
    for (number, key) in keys.iter().enumerate() {
        put(&moto, key, &readings(&format!("d{number}"), 2));
    }
    let function = Function::start(program(&moto));
    let bodies: Vec<String> = keys.iter().map(|key| created(&[key]).to_string()).collect();
    // Less than what the answer is kept: nothing is begun.
    let nothing = function.invoke_within(&batch(&bodies), Duration::from_secs(4)).unwrap();
    assert_eq!(failed(&nothing).len(), 150);
    // As with a queue: what failed comes again, with little time, and more each, until nothing fails.
    let mut waiting: BTreeSet<usize> = (0..150).collect();
    let mut rounds = 0;
    while !waiting.is_empty() {
        rounds += 1;
        assert!(rounds < 50, "{} messages are never done", waiting.len());
        let numbers: Vec<usize> = waiting.iter().copied().collect();
        let some: Vec<String> = numbers.iter().map(|number| bodies[*number].clone()).collect();
        let time = Duration::from_secs(6 + 2 * rounds);
        let answer = function.invoke_within(&batch(&some), time).unwrap();
        waiting = failed(&answer).iter().map(|id| numbers[id[1..].parse::<usize>().unwrap()]).collect();
    }
    let audited = balanced(&moto);
    assert_eq!((&audited["objects"], &audited["silver"]), (&json!(150), &json!(300)), "{audited}");
    let sql = "SELECT count(*) AS rows FROM silver.sensor_readings";
    assert_eq!(moto.rows(LAKE, sql), [json!({"rows": 300})]);
}

#[test]
fn a_batch_that_the_rule_could_not_store_lands_in_bronze_byte_for_byte() {
    let moto = moto();
    let function = Function::start(program(&moto));
    let undelivered = |topic: &str, payload: &str| {
        json!({"ruleName": "ingot_bronze", "topic": topic, "clientId": "gw-1", "base64OriginalPayload": payload,
               "failures": [{"failedAction": "S3Action", "failedResource": "lake", "errorMessage": "denied"}]})
        .to_string()
    };
    let topic = "$aws/rules/ingot_bronze/ingot/bronze/gw-1/2026-01-01/00000000000000ab-0000000012";
    let fine = undelivered(topic, "AAEC/w==");
    let event = batch(&[
        fine.clone(),
        undelivered("weather/today", "AAEC/w=="),
        undelivered(topic, "?"),
        fine.clone(),
    ]);
    assert_eq!(failed(&function.invoke(&event).unwrap()), ["m1", "m2"]);
    let key =
        "/lake/tenant=a/bronze/sensor_readings/dt=2026-01-01/gateway=gw-1/00000000000000ab-0000000012.ingot";
    assert_eq!(moto.ask("s3", "GET", key, "", b""), [0, 1, 2, 255]);
    // The same batch again is fine; other bytes under its name are not, and change nothing.
    let again = batch(&[fine, undelivered(topic, "AAAA")]);
    assert_eq!(failed(&function.invoke(&again).unwrap()), ["m1"]);
    assert_eq!(moto.ask("s3", "GET", key, "", b""), [0, 1, 2, 255]);
}

/// A queue of moto's: its URL.
fn queue(moto: &Moto, name: &str) -> String {
    moto.call("sqs", "AmazonSQS.CreateQueue", &json!({"QueueName": name}))["QueueUrl"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The bodies of the messages in a queue.
fn received(moto: &Moto, queue: &str) -> Vec<String> {
    let ask = json!({"QueueUrl": queue, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0});
    let mut answer = moto.call("sqs", "AmazonSQS.ReceiveMessage", &ask);
    let Value::Array(messages) = answer["Messages"].take() else { return Vec::new() };
    messages.iter().map(|message| message["Body"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_events_that_s3_itself_sends_are_understood() {
    let moto = moto();
    let queue = queue(&moto, "bronze");
    let wanted = "<NotificationConfiguration><QueueConfiguration><Id>b</Id>\
                  <Queue>arn:aws:sqs:eu-west-1:123456789012:bronze</Queue>\
                  <Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>";
    moto.ask("s3", "PUT", "/lake?notification", "", wanted.as_bytes());
    for (number, key) in ODD.iter().enumerate() {
        put(&moto, key, &readings(&format!("d{number}"), 5));
    }
    let bodies = received(&moto, &queue);
    assert_eq!(bodies.len(), 5, "four objects and the test of the way: {bodies:?}");
    let function = Function::start(program(&moto));
    assert_eq!(failed(&function.invoke(&batch(&bodies)).unwrap()), [""; 0]);
    for number in 0..4 {
        assert_eq!(silver(&moto, &format!("d{number}")), (5, 5));
    }
}

#[test]
fn an_object_whose_event_was_lost_is_found_by_the_audit_and_comes_through_the_queue() {
    let moto = moto();
    let queue = queue(&moto, "bronze");
    for key in ODD {
        put(&moto, key, &readings("d", 5));
    }
    let words = ["audit", "--lake", LAKE, "--requeue", "--queue-url", &queue, "--unprocessed-after-s", "0"];
    let (code, audited, stderr) = moto.processor(&words);
    assert_eq!((code, &audited["unprocessed_objects"]), (1, &json!(4)), "{stderr} {audited}");
    assert_eq!(audited["requeued"], 4, "{audited}");
    let bodies = received(&moto, &queue);
    assert_eq!(bodies.len(), 4, "{bodies:?}");
    let function = Function::start(program(&moto));
    assert_eq!(failed(&function.invoke(&batch(&bodies)).unwrap()), [""; 0]);
    assert_eq!(silver(&moto, "d"), (5, 5));
    assert_eq!(balanced(&moto)["objects"], 4);
}

#[test]
fn tasks_do_what_the_commands_of_their_names_do() {
    let moto = moto();
    let (bronze, seen) = (queue(&moto, "bronze"), queue(&moto, "seen"));
    let topic = moto.form("sns", "Action=CreateTopic&Name=alerts&Version=2010-03-31");
    let topic = topic.split("<TopicArn>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let subscriber = "arn:aws:sqs:eu-west-1:123456789012:seen";
    moto.form(
        "sns",
        &format!("Action=Subscribe&TopicArn={topic}&Protocol=sqs&Endpoint={subscriber}&Version=2010-03-31"),
    );
    let mut program = program(&moto);
    program
        .env("INGOT_QUEUE_URL", &bronze)
        .env("INGOT_ALERT_TOPIC", &topic)
        .env("INGOT_CATALOG_DATABASE", "ingot")
        .env("INGOT_ATHENA_WORKGROUP", "primary");
    let function = Function::start(program);

    let key = "bronze/sensor_readings/dt=2026-01-01/many.ndjson";
    let bad = |device: u64| {
        json!({"device": format!("b{device}"), "boot": 1, "seq": 0, "channel": "temperature", "value": 500.5,
               "at": 1_767_225_600_000_u64, "quality": 0})
    };
    let lines: String = (0..2_000).map(|device| format!("{}\n", bad(device))).collect();
    put(&moto, key, &(readings("d", 7) + &lines));
    assert_eq!(failed(&function.invoke(&batch(&[created(&[key]).to_string()])).unwrap()), [""; 0]);
    function.lines();

    let gold = function.invoke(&json!({"task": "gold"})).unwrap();
    assert!(gold["gold"].as_array().unwrap().iter().any(|table| table["name"] == "sensor_hourly"), "{gold}");
    let hours = "SELECT count FROM gold.sensor_hourly WHERE device = 'd'";
    assert_eq!(moto.rows(LAKE, hours), [json!({"count": 7})]);
    let opened: Vec<String> = received(&moto, &seen);
    assert!(opened.iter().any(|told| told.contains("out_of_range")), "{opened:?}");

    let maintained = function.invoke(&json!({"task": "maintain"})).unwrap();
    assert!(maintained["done"].is_array(), "{maintained}");

    // An object whose event may yet come is none that was lost.
    put(&moto, "bronze/sensor_readings/dt=2026-01-01/lost.ndjson", &readings("lost", 4));
    let audited = function.invoke(&json!({"task": "audit"})).unwrap();
    assert_eq!((&audited["in_flight_objects"], &audited["requeued"]), (&json!(1), &json!(0)), "{audited}");
    let metrics = function.lines();
    assert_eq!(
        (&metrics[0]["AuditFindings"], &metrics[0]["ObjectsRequeued"]),
        (&json!(0), &json!(0)),
        "{metrics:?}"
    );

    let synced = function.invoke(&json!({"task": "catalog"})).unwrap();
    assert!(
        synced["tables"].as_array().unwrap().iter().any(|table| table["name"] == "silver_sensor_readings"),
        "{synced}"
    );
    assert_eq!(received(&moto, &bronze), Vec::<String>::new());
}

#[test]
fn a_function_that_cannot_start_says_why() {
    let moto = moto();
    let start = |change: &dyn Fn(&mut Command)| {
        let mut program = program(&moto);
        change(&mut program);
        Function::fail_to_start(program)["errorMessage"].as_str().unwrap().to_owned()
    };
    let disk = |program: &mut Command| {
        program.env("INGOT_LAKE", "file:///tmp");
    };
    assert!(start(&disk).contains("a function's lake is in S3"));
    let region = |program: &mut Command| {
        program.env_remove("AWS_REGION");
    };
    assert!(start(&region).contains("set AWS_REGION"));
    let secret = |program: &mut Command| {
        program.env("INGOT_PSEUDONYM_KEY_SECRET", "ingot/key");
    };
    assert!(start(&secret).contains("secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-west-1"));
    let contracts = |program: &mut Command| {
        program.env("INGOT_CONTRACTS", "/nowhere/at/all");
    };
    assert!(start(&contracts).contains("--contracts /nowhere/at/all"));
}

#[test]
fn contracts_come_beside_the_program_and_the_key_from_a_secret() {
    let moto = moto();
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("contracts");
    std::fs::create_dir(&folder).unwrap();
    let orders =
        include_str!("../../../contracts/orders.yaml").replacen("value: mask", "value: pseudonym", 1);
    std::fs::write(folder.join("orders.yaml"), orders).unwrap();
    std::fs::write(folder.join("readme.txt"), "no contract").unwrap();
    let secret = json!({"Name": "ingot/key", "SecretString": "0123456789abcdef0123456789abcdef", "ClientRequestToken": "0123456789abcdef0123456789abcdef"});
    let arn = moto.call("secretsmanager", "secretsmanager.CreateSecret", &secret)["ARN"]
        .as_str()
        .unwrap()
        .to_owned();
    let order = json!({"order_id": "A1", "status": "paid", "amount": 1, "currency": "EUR",
                       "created_at": "2026-01-01T10:00:00Z", "customer_email": "ann@example.org"});
    let key = "bronze/orders/a.ndjson";
    put(&moto, key, &format!("{order}\n"));
    let event = batch(&[created(&[key]).to_string()]);

    // Without the key a person would get another name: nothing is done, and the message waits.
    let mut without = program(&moto);
    without.env("LAMBDA_TASK_ROOT", root.path());
    assert_eq!(failed(&Function::start(without).invoke(&event).unwrap()), ["m0"]);

    let mut program = program(&moto);
    program.env("LAMBDA_TASK_ROOT", root.path()).env("INGOT_PSEUDONYM_KEY_SECRET", &arn);
    let function = Function::start(program);
    assert_eq!(failed(&function.invoke(&event).unwrap()), [""; 0]);
    function.invoke(&json!({"task": "gold"})).unwrap();
    let rows = moto.rows(LAKE, "SELECT customer_email AS name FROM silver.orders");
    // HMAC-SHA256 of the address under the key, 128 bits.
    let hmac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"0123456789abcdef0123456789abcdef");
    let tag = ring::hmac::sign(&hmac, b"ann@example.org");
    let hex: String = tag.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(rows, [json!({"name": format!("p_{hex}")})]);
}
