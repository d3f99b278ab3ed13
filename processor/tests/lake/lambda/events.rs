//! Messages of queues and events of S3: each is done once, and what is wrong fails alone.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::{LAKE, ODD, PREFIX, balanced, batch, created, failed, moto, program, put, readings, silver};
use crate::runtime::Function;

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

#[test]
fn the_events_that_s3_itself_sends_are_understood() {
    let moto = moto();
    let queue = moto.queue("bronze");
    let wanted = "<NotificationConfiguration><QueueConfiguration><Id>b</Id>\
                  <Queue>arn:aws:sqs:eu-west-1:123456789012:bronze</Queue>\
                  <Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>";
    moto.ask("s3", "PUT", "/lake?notification", "", wanted.as_bytes());
    for (number, key) in ODD.iter().enumerate() {
        put(&moto, key, &readings(&format!("d{number}"), 5));
    }
    let bodies = moto.received(&queue);
    assert_eq!(bodies.len(), 5, "four objects and the test of the way: {bodies:?}");
    let function = Function::start(program(&moto));
    assert_eq!(failed(&function.invoke(&batch(&bodies)).unwrap()), [""; 0]);
    for number in 0..4 {
        assert_eq!(silver(&moto, &format!("d{number}")), (5, 5));
    }
}
