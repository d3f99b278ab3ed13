//! What auditors and analysts ask: is it all there, where did this number come from, and what if the
//! contract had been another.

use std::fmt::Write as _;
use std::fs::File;
use std::process::Output;
use std::time::{Duration, SystemTime};

use ingot_tests::{TempLake, gateway, one_json, succeeded};
use serde_json::{Value, json};

/// Readings of one device, one a second.
fn readings(device: &str, seqs: impl IntoIterator<Item = u64>) -> String {
    let mut lines = String::new();
    for seq in seqs {
        let at = 1_767_225_600_000 + seq * 1_000;
        writeln!(
            lines,
            r#"{{"device":"{device}","channel":"temperature","value":{}.25,"at":{at},"boot":7,"seq":{seq}}}"#,
            seq % 40
        )
        .unwrap();
    }
    lines
}

fn is_older(lake: &TempLake, key: &str, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3_600);
    File::options().append(true).open(lake.path().join(key)).unwrap().set_modified(then).unwrap();
}

fn failed(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    one_json(output)
}

#[test]
fn the_audit_knows_every_device_by_its_numbers() {
    let lake = TempLake::new();
    lake.write("bronze/sensor_readings/a.ndjson", readings("whole", 0..50) + &readings("holed", 0..20));
    lake.write(
        "bronze/sensor_readings/b.ndjson",
        readings("holed", 30..40) + "no json\n" + &readings("whole", 10..13),
    );
    lake.run(&[]);
    // 10 are missing, one line of discard may hide one of them.
    let audit = failed(&lake.processor(&["audit", "--format", "json"]));
    let devices = &audit["devices"]["sensor_readings"];
    for (what, count) in [
        ("sequences", 2),
        ("seen", 80),
        ("duplicates", 3),
        ("gaps", 1),
        ("missing", 10),
        ("unreadable", 1),
        ("lost", 9),
    ] {
        assert_eq!(devices[what], count, "{what}: {devices}");
    }
    let worst = &devices["incomplete"][0];
    assert_eq!((&worst["device"], &worst["first_missing"]), (&json!("holed"), &json!(20)));
    assert!(audit["findings"].to_string().contains("9 readings were never seen"), "{audit}");

    // They come after all, late, and all is well.
    lake.write("bronze/sensor_readings/c.ndjson", readings("holed", 20..30));
    lake.run(&[]);
    let devices = lake.audit()["devices"]["sensor_readings"].clone();
    assert_eq!(
        (&devices["missing"], &devices["late"], &devices["seen"]),
        (&json!(0), &json!(10), &json!(90))
    );
}

#[test]
fn the_audit_joins_more_than_one_batch_of_rows() {
    let lake = TempLake::new();
    for part in [2, 0, 1] {
        let seqs = (part * 10_000..part * 10_000 + 10_000).filter(|seq| *seq != 12_345);
        lake.write(&format!("bronze/sensor_readings/{part}.ndjson"), readings("long", seqs));
        lake.run(&[]);
    }
    let audit = failed(&lake.processor(&["audit", "--format", "json"]));
    let devices = &audit["devices"]["sensor_readings"];
    for (what, count) in [("seen", 29_999), ("late", 19_999), ("lost", 1), ("gaps", 1)] {
        assert_eq!(devices[what], count, "{what}: {devices}");
    }
    assert_eq!(devices["incomplete"][0]["first_missing"], 12_345);
}

#[test]
fn an_object_that_the_cloud_forgot_is_found_and_requeued() {
    let lake = TempLake::new();
    let spool = tempfile::tempdir().unwrap();
    lake.write("bronze/sensor_readings/a.ndjson", readings("d", 0..5));
    lake.run(&[]);
    succeeded(gateway(&lake, spool.path(), &readings("e", 0..10)));
    let fresh = lake.audit();
    assert_eq!((&fresh["in_flight_objects"], &fresh["unprocessed_objects"]), (&json!(1), &json!(0)));

    let forgotten = "bronze/sensor_readings/forgotten 'quoted'.ndjson";
    lake.write(forgotten, readings("d", 5..6));
    is_older(&lake, forgotten, 2);
    let audit = failed(&lake.processor(&["audit", "--requeue", "--format", "json"]));
    assert_eq!((&audit["requeued"], &audit["unprocessed"]), (&json!(1), &json!([forgotten])));
    lake.run(&[]);
    assert_eq!(lake.audit()["in_flight_objects"], 0);
}

/// Orders in 24 objects; every seventh is above the limit, every eleventh in a currency that is on no
/// list, and some are both.
fn shop() -> TempLake {
    let lake = TempLake::new();
    for object in 0..24 {
        let mut lines = String::new();
        for row in 0..20 {
            let n = object * 20 + row;
            let amount = if n % 7 == 0 { 150_000 } else { 1 + n };
            let currency = if n % 11 == 0 { "BTC" } else { "EUR" };
            let day = 1 + object % 3;
            writeln!(
                lines,
                r#"{{"order_id":"A{n}","status":"paid","amount":{amount},"currency":"{currency}","created_at":"2026-01-0{day}T10:00:00Z","notes":"ring ann@example.org"}}"#
            )
            .unwrap();
        }
        lines += "{\"order_id\":\n";
        lake.write(&format!("bronze/orders/dt=2026-01-0{}/{object:02}.ndjson", 1 + object % 3), lines);
    }
    lake
}

/// The orders' contract with another limit.
fn limit_of(amount: u64) -> tempfile::NamedTempFile {
    let text = std::fs::read_to_string(ingot_tests::workspace().join("contracts/orders.yaml")).unwrap();
    let other = text.replace("amount > 100000", &format!("amount > {amount}"));
    assert_ne!(text, other);
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::io::Write::write_all(&mut file, other.as_bytes()).unwrap();
    file
}

/// Rebuilds the lake under a contract; the report.
fn rebuilt(lake: &TempLake, contract: &str) -> Value {
    let into = TempLake::new();
    one_json(&succeeded(lake.processor(&[
        "rebuild",
        "--contract",
        contract,
        "--into",
        &into.url(),
        "--format",
        "json",
    ])))
}

#[test]
fn a_redrive_gives_what_a_full_reprocess_gives_and_touches_nothing_else() {
    let lake = shop();
    lake.run(&["--contract", "contracts/orders.yaml"]);
    let contract = limit_of(200_000);
    let contract = contract.path().to_str().unwrap();
    assert_eq!(rebuilt(&lake, contract)["equal"], false);

    let others = "SELECT bronze_key, ordinal, rules, CAST(discarded_at AS VARCHAR) AS at FROM discard \
                  WHERE strpos(rules, 'amount_range') = 0 ORDER BY bronze_key, ordinal";
    let before = lake.query(others);
    let redrive = ["redrive", "--contract", contract, "--rule", "amount_range", "--format", "json"];
    let report = one_json(&succeeded(lake.processor(&redrive)));
    // 69 of 480 are above the old limit; 7 of them are in bitcoins, too.
    assert_eq!(
        [&report["rows"], &report["silver"], &report["discarded"], &report["duplicates"]],
        [&json!(69), &json!(62), &json!(7), &json!(0)]
    );
    assert_eq!(report["rules"], json!({"bad_currency": 7}));
    let after: Vec<Value> = lake.query(others).into_iter().filter(|row| before.contains(row)).collect();
    assert!(after == before, "a row that the rule had not discarded was written anew");
    let twice = lake.query("SELECT count(*) AS n FROM silver.orders GROUP BY order_id HAVING count(*) > 1");
    assert!(twice.is_empty());

    let audit = ["audit", "--contract", contract, "--format", "json"];
    succeeded(lake.processor(&audit));
    let full = rebuilt(&lake, contract);
    assert_eq!(full["equal"], true, "{full}");
    let again = one_json(&succeeded(lake.processor(&redrive)));
    assert_eq!((&again["objects"], &again["gold"]), (&json!(0), &json!([])));
    // Of a rule by whose name nothing is discarded, it says by which names something is.
    assert_eq!(again["other_rules"]["bad_currency"], 44, "{again}");
    assert!(again["other_rules"].get("amount_range").is_none(), "{again}");
}

#[test]
fn a_redrive_that_is_killed_or_run_by_two_ends_in_the_same() {
    let lake = shop();
    lake.run(&["--contract", "contracts/orders.yaml"]);
    let contract = limit_of(200_000);
    let contract = contract.path().to_str().unwrap();
    let redrive = || {
        let mut command = std::process::Command::new(ingot_tests::binary("ingot-processor"));
        command.args(["redrive", "--lake", &lake.url(), "--contract", contract, "--rule", "amount_range"]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    for cut_ms in [40, 120, 250, 400, 600, 900] {
        let mut child = redrive();
        std::thread::sleep(Duration::from_millis(cut_ms));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let ends = [redrive(), redrive()].map(|mut child| child.wait().unwrap().code());
    assert_eq!(ends, [Some(0), Some(0)]);
    succeeded(lake.processor(&["audit", "--contract", contract, "--format", "json"]));
    let full = rebuilt(&lake, contract);
    assert_eq!(full["equal"], true, "{full}");
}

/// A lake made of tables of two states of a lake: what a cut between two commits leaves.
fn cut(before: &TempLake, after: &TempLake, done: &[&str]) -> TempLake {
    let lake = TempLake::new();
    for table in ["bronze", "versions", "silver", "discard", "gold", "ledger"] {
        let from = if done.contains(&table) { after } else { before };
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(from.path().join(table)).arg(lake.path());
        assert!(copy.status().unwrap().success());
    }
    lake
}

#[test]
fn a_redrive_goes_on_from_a_cut_between_any_two_commits() {
    let before = shop();
    before.run(&["--contract", "contracts/orders.yaml"]);
    let contract = limit_of(200_000);
    let contract = contract.path().to_str().unwrap();
    let redrive = ["redrive", "--contract", contract, "--rule", "amount_range", "--format", "json"];
    let after = cut(&before, &before, &[]);
    succeeded(after.processor(&redrive));
    for done in [
        &["versions"][..],
        &["versions", "ledger"],
        &["versions", "ledger", "discard"],
        &["versions", "ledger", "discard", "silver"],
    ] {
        let lake = cut(&before, &after, done);
        succeeded(lake.processor(&redrive));
        let audit = lake.processor(&["audit", "--contract", contract]);
        assert!(audit.status.success(), "{done:?}: {}", String::from_utf8_lossy(&audit.stdout));
        let full = rebuilt(&lake, contract);
        assert_eq!(full["equal"], true, "{done:?}: {full}");
    }
}

#[test]
fn a_rebuild_from_bronze_alone_is_what_was_there_and_goes_on_where_it_was_cut() {
    let lake = shop();
    lake.run(&["--contract", "contracts/orders.yaml"]);
    // The same rows in an object that came later, under a key that sorts before.
    let first = std::fs::read(lake.path().join("bronze/orders/dt=2026-01-01/00.ndjson")).unwrap();
    lake.write("bronze/orders/dt=2026-01-01/!again.ndjson", first);
    succeeded(lake.processor(&["run", "--contract", "contracts/orders.yaml"]));

    let into = TempLake::new();
    let args = ["rebuild", "--contract", "contracts/orders.yaml", "--into", &into.url(), "--format", "json"];
    let mut child = std::process::Command::new(ingot_tests::binary("ingot-processor"))
        .args(["rebuild", "--lake", &lake.url()])
        .args(&args[1..])
        .current_dir(ingot_tests::workspace())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    let report = one_json(&succeeded(lake.processor(&args)));
    assert_eq!((&report["equal"], &report["objects"]), (&json!(true), &json!(25)), "{report}");
    assert_eq!(report["tables"].as_object().unwrap().len(), 6);
    succeeded(into.processor(&["audit", "--contract", "contracts/orders.yaml"]));

    let elsewhere = TempLake::new();
    elsewhere.write("bronze/orders/precious.ndjson", "{}\n");
    let refused = lake.processor(&["rebuild", "--into", &elsewhere.url()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("is not empty"));
}

#[test]
fn a_cell_of_gold_is_followed_to_the_gateways_batch() {
    let lake = TempLake::new();
    let spool = tempfile::tempdir().unwrap();
    succeeded(gateway(&lake, spool.path(), &(readings("d1", 0..40) + &readings("d2", 0..40))));
    lake.write("bronze/sensor_readings/more.ndjson", readings("d1", 40..45));
    lake.run(&[]);
    let cell = "device = 'd1' AND window_start = '2026-01-01T00:00:00Z'";
    let args = ["trace", "--gold", "sensor_hourly", "--where", cell, "--rows-max", "3"];
    let trace = one_json(&succeeded(lake.processor(&[&args[..], &["--format", "json"]].concat())));
    assert_eq!(
        [&trace["cells"], &trace["silver_rows"], &trace["objects"], &trace["cells_listed"][0]["count"]],
        [&json!(1), &json!(45), &json!(2), &json!(45)]
    );
    assert_eq!(trace["silver_rows_listed"].as_array().unwrap().len(), 3);
    let framed = &trace["objects_listed"][0];
    let batch = &framed["batches"][0];
    assert_eq!((&framed["rows"], &framed["rows_in"], &batch["rows"]), (&json!(40), &json!(80), &json!(40)));
    assert_eq!(
        (&batch["gateway"], &batch["seq"], &batch["byte_offset"]),
        (&json!("edge-1"), &json!(0), &json!(0))
    );
    let sealed = format!("/gateway=edge-1/{}-0000000000.ingot", batch["boot"].as_str().unwrap());
    assert!(framed["key"].as_str().unwrap().ends_with(&sealed), "{framed}");
    assert_eq!(
        (&trace["objects_listed"][1]["rows"], &trace["objects_listed"][1]["batches"]),
        (&json!(5), &json!([]))
    );

    let text = String::from_utf8(succeeded(lake.processor(&args)).stdout).unwrap();
    for words in [
        "1 cells",
        "made of 45 rows of silver.sensor_readings",
        "and 42 more",
        "batch 0, sealed 20",
        ": 40 of 80 readings",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let nothing = lake.processor(&["trace", "--gold", "sensor_hourly", "--where", "device = 'none'"]);
    assert_eq!(nothing.status.code(), Some(1));
    for wrong in [["sensor_hourly", "devise = 'd1'"], ["no_such_gold", "true"]] {
        let refused = lake.processor(&["trace", "--gold", wrong[0], "--where", wrong[1]]);
        assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    }
}

#[test]
fn lineage_tells_a_run_from_start_to_end_and_its_collector_may_be_down() {
    let lake = shop();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lineage.ndjson");
    let target = format!("file://{}", file.display());
    lake.run(&["--contract", "contracts/orders.yaml", "--lineage", &target]);
    lake.run(&["--contract", "contracts/orders.yaml", "--lineage", &target]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("ann@"), "a value is in the lineage");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The second run had nothing to do and says nothing.
    let kinds: Vec<&Value> = events.iter().map(|event| &event["eventType"]).collect();
    assert_eq!(kinds, [&json!("START"), &json!("COMPLETE")]);
    assert_eq!(events[0]["run"]["runId"], events[1]["run"]["runId"]);
    let end = &events[1];
    let input = &end["inputs"][0];
    assert_eq!(input["name"], format!("{}/bronze/orders", lake.path().display()));
    let metrics = &input["inputFacets"]["dataQualityMetrics"];
    assert_eq!((&metrics["rowCount"], &metrics["fileCount"]), (&json!(504), &json!(24)));
    let assertions = input["inputFacets"]["dataQualityAssertions"]["assertions"].as_array().unwrap();
    let verdict =
        |name: &str| &assertions.iter().find(|found| found["assertion"] == name).unwrap()["success"];
    assert_eq!((verdict("amount_range"), verdict("bad_status")), (&json!(false), &json!(true)));
    let output = |name: &str| {
        let path = format!("{}/{name}", lake.path().display());
        end["outputs"].as_array().unwrap().iter().find(|output| output["name"] == path.as_str()).unwrap()
    };
    let silver = output("silver/orders");
    assert_eq!(silver["outputFacets"]["outputStatistics"]["rowCount"], 374);
    let email = &silver["facets"]["columnLineage"]["fields"]["customer_email"]["inputFields"][0];
    assert_eq!(
        (&email["field"], &email["transformations"][0]["masking"]),
        (&json!("customer_email"), &json!(true))
    );
    let total = &output("gold/orders_by_status")["facets"]["columnLineage"]["fields"]["total_amount"]["inputFields"]
        [0];
    assert_eq!(
        (&total["field"], &total["transformations"][0]["subtype"]),
        (&json!("amount"), &json!("AGGREGATION"))
    );

    // Nothing listens there; the work is done, in time, and the loss is told.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    lake.write("bronze/orders/late.ndjson", "{}\n");
    let down = format!("http://127.0.0.1:{port}/api/v1/lineage");
    let output =
        succeeded(lake.processor(&["run", "--contract", "contracts/orders.yaml", "--lineage", &down]));
    assert!(String::from_utf8(output.stderr).unwrap().contains("a lineage event is dropped"));
    lake.audit();
    let refused = lake.processor(&["run", "--lineage", "http://collector.example.org/"]);
    assert_eq!(refused.status.code(), Some(2));
}
