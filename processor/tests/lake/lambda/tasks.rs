//! What the clock asks for, and what a function is set up with.

use std::process::Command;

use serde_json::json;

use super::{LAKE, ODD, balanced, batch, created, failed, moto, program, put, readings, silver};
use crate::runtime::Function;

#[test]
fn an_object_whose_event_was_lost_is_found_by_the_audit_and_comes_through_the_queue() {
    let moto = moto();
    let queue = moto.queue("bronze");
    for key in ODD {
        put(&moto, key, &readings("d", 5));
    }
    let words = ["audit", "--lake", LAKE, "--requeue", "--queue-url", &queue, "--unprocessed-after-s", "0"];
    let (code, audited, stderr) = moto.processor(&words);
    assert_eq!((code, &audited["unprocessed_objects"]), (1, &json!(4)), "{stderr} {audited}");
    assert_eq!(audited["requeued"], 4, "{audited}");
    let bodies = moto.received(&queue);
    assert_eq!(bodies.len(), 4, "{bodies:?}");
    let function = Function::start(program(&moto));
    assert_eq!(failed(&function.invoke(&batch(&bodies)).unwrap()), [""; 0]);
    assert_eq!(silver(&moto, "d"), (5, 5));
    assert_eq!(balanced(&moto)["objects"], 4);
}

#[test]
fn tasks_do_what_the_commands_of_their_names_do() {
    let moto = moto();
    let (bronze, seen) = (moto.queue("bronze"), moto.queue("seen"));
    let topic = moto.topic("alerts", "seen");
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
    let opened: Vec<String> = moto.received(&seen);
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
    assert_eq!(moto.received(&bronze), Vec::<String>::new());
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
        include_str!("../../../../contracts/orders.yaml").replacen("value: mask", "value: pseudonym", 1);
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
