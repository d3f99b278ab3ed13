//! Bad input loses nothing: whatever lies in bronze, each row is in silver or in discard with a reason, or its object is
//! set aside with one; the rest lands, the books balance, and the program survives.

use std::collections::BTreeMap;

use ingot_tests::TempLake;
use ingot_tests::pack::{gz, parquet, zst};
use serde_json::Value;

const MIB: usize = 1024 * 1024;

/// What becomes of an object: rows in silver, and rows by the rule that discards them; or it is set aside.
enum Fate {
    Rows(u64, Vec<(&'static str, u64)>),
    SetAside,
}

/// An object: its name below the dataset's folder, its bytes, its fate.
struct Case(&'static str, Vec<u8>, Fate);

fn order(id: &str) -> String {
    order_with(id, "\"amount\":5", "\"created_at\":\"2026-01-01T10:00:00Z\"")
}

fn order_with(id: &str, amount: &str, created_at: &str) -> String {
    format!("{{\"order_id\":\"{id}\",\"status\":\"paid\",{amount},\"currency\":\"EUR\",{created_at}}}\n")
}

/// A name that a file can have and no object.
const IMPOSSIBLE: &str = "bronze/orders/dt=2026-01-01/\u{1b}[2J.ndjson";

/// Good lines around a bad one.
fn around(id: &str, bad: &[u8]) -> Vec<u8> {
    [order(&format!("{id}-before")).as_bytes(), bad, b"\n", order(&format!("{id}-after")).as_bytes()].concat()
}

fn lines() -> Vec<Case> {
    let deep = 1_000_000;
    let long = "x".repeat(100 * MIB);
    vec![
        Case(
            "utf8.ndjson",
            around("utf8", b"{\"order_id\":\"\xff\xfe\"}"),
            Fate::Rows(2, vec![("not_utf8", 1)]),
        ),
        Case(
            "long.ndjson",
            around("long", format!("{{\"order_id\":\"{long}\"}}").as_bytes()),
            Fate::Rows(2, vec![("line_too_long", 1)]),
        ),
        Case(
            "long.csv",
            format!(
                "order_id,status,amount,currency,created_at\n{}\n\"{long}\n\",paid\n{}\n",
                row("c1"),
                row("c2")
            )
            .into_bytes(),
            Fate::Rows(2, vec![("line_too_long", 1)]),
        ),
        Case(
            "deep.ndjson",
            around("deep", format!("{{\"notes\":{}", "[".repeat(deep)).as_bytes()),
            Fate::Rows(2, vec![("malformed_json", 1)]),
        ),
        Case(
            "deep-closed.ndjson",
            around("closed", format!("{}{}", "[".repeat(deep / 2), "]".repeat(deep / 2)).as_bytes()),
            Fate::Rows(2, vec![("not_an_object", 1)]),
        ),
        Case(
            "numbers.ndjson",
            numbers().into_bytes(),
            Fate::Rows(1, vec![("type.amount", 9), ("malformed_json", 3)]),
        ),
        Case(
            "dates.ndjson",
            dates().into_bytes(),
            Fate::Rows(1, vec![("type.created_at", 15), ("required.created_at", 1)]),
        ),
        Case("empty.ndjson", Vec::new(), Fate::Rows(0, vec![])),
    ]
}

fn numbers() -> String {
    let beyond = [
        "1e400",
        "-1e400",
        "123456789012345678901234567890",
        "0.001",
        "5e-400",
        "\"5\"",
        "true",
        "[5]",
        "{}",
        // No JSON at all.
        "NaN",
        "Infinity",
        "0x10",
    ];
    let bad = |(n, number): (usize, &&str)| {
        order_with(
            &format!("n{n}"),
            &format!("\"amount\":{number}"),
            "\"created_at\":\"2026-01-01T10:00:00Z\"",
        )
    };
    beyond.iter().enumerate().map(bad).collect::<String>() + &order("number")
}

fn dates() -> String {
    let wrong = [
        "\"2026-13-01T00:00:00Z\"",
        "\"2026-02-30T00:00:00Z\"",
        "\"2026-01-01T25:00:00Z\"",
        "\"2026-01-01T00:60:00Z\"",
        "\"2026-01-01T00:00:00+25:00\"",
        "\"2026-01-01T00:00:00\"",
        "\"2026-01-01\"",
        "\"2026-01-01T00:00Z\"",
        "\"01/02/2026\"",
        "\"20260101T000000Z\"",
        "\"Thu, 01 Jan 2026 00:00:00 GMT\"",
        "\"1767225600\"",
        "1767225600",
        "\"yesterday\"",
        "\"\"",
        "null",
    ];
    let bad = |(n, date): (usize, &&str)| {
        order_with(&format!("t{n}"), "\"amount\":5", &format!("\"created_at\":{date}"))
    };
    wrong.iter().enumerate().map(bad).collect::<String>() + &order("date")
}

fn row(id: &str) -> String {
    format!("{id},paid,5,EUR,2026-01-01T10:00:00Z")
}

fn tables() -> Vec<Case> {
    let header = "order_id,status,amount,currency,created_at,notes\n";
    let ragged = format!(
        "{header}{},\"two\nlines, \"\"quoted\"\"\"\nr2,paid\n{},,,\n{},\n",
        row("r1"),
        row("r3"),
        row("r4")
    );
    let open =
        format!("{header}{},\n{},\"never closed\n{},\n{},\n", row("q1"), row("q2"), row("q3"), row("q4"));
    vec![
        Case("ragged.csv", ragged.into_bytes(), Fate::Rows(2, vec![("ragged_row", 2)])),
        // What an open quote swallows is one row with the one that opened it: nobody can say where the next begins.
        Case("quote.csv", open.into_bytes(), Fate::Rows(1, vec![("open_quote", 1)])),
        Case(
            "no-header.csv",
            format!("{}\n{}\n", row("h1"), row("h2")).into_bytes(),
            Fate::Rows(0, vec![("no_header", 1), ("required.order_id", 1)]),
        ),
    ]
}

fn packed() -> Vec<Case> {
    let text: String = (0..5_000).map(|n| order(&format!("gz{n}"))).collect();
    let whole = gz(text.as_bytes());
    let zstd = zst(text.replace("gz", "z").as_bytes());
    let zeros = vec![b'\n'; 128 * MIB];
    let table: String = (0..2_000).map(|n| order(&format!("p{n}"))).collect();
    let table = parquet(&table);
    let other = parquet(
        "{\"customer\":\"ann\",\"visits\":3,\"of\":{\"a\":[1,2]}}\n{\"customer\":\"bob\",\"visits\":null}\n",
    );
    // The footer's length stands before its closing mark.
    let mut footer = table.clone();
    let end = footer.len() - 8;
    let len = u32::from_le_bytes(footer[end..end + 4].try_into().unwrap()) as usize;
    footer[end - len..end - len + 16].fill(0xff);
    // An embedded Arrow schema that is none; nobody asks it.
    let mut schema = parquet(&(0..2_000).map(|n| order(&format!("s{n}"))).collect::<String>());
    let at = schema.windows(12).rposition(|word| word == b"ARROW:schema").unwrap() + 20;
    schema[at..at + 64].fill(b'!');
    vec![
        Case("cut.ndjson.gz", whole[..whole.len() / 2].to_vec(), Fate::Rows(u64::MAX, vec![("gz", 1)])),
        Case("cut.ndjson.zst", zstd[..zstd.len() / 2].to_vec(), Fate::Rows(u64::MAX, vec![("zst", 1)])),
        Case("no.ndjson.gz", b"no gzip".to_vec(), Fate::Rows(0, vec![("gz", 1)])),
        Case("no.ndjson.zst", b"no zstd".to_vec(), Fate::Rows(0, vec![("zst", 1)])),
        Case("bomb.ndjson.gz", gz(&zeros), Fate::SetAside),
        Case("bomb.csv.zst", zst(&zeros), Fate::SetAside),
        Case("good.parquet", table.clone(), Fate::Rows(2_000, vec![])),
        Case("other.parquet", other, Fate::Rows(0, vec![("required.order_id", 2)])),
        Case("cut.parquet", table[..table.len() / 2].to_vec(), Fate::Rows(0, vec![("parquet", 1)])),
        Case("schema.parquet", schema, Fate::Rows(2_000, vec![])),
        Case("footer.parquet", footer, Fate::Rows(0, vec![("parquet", 1)])),
        Case("no.parquet", b"no Parquet".to_vec(), Fate::Rows(0, vec![("parquet", 1)])),
        Case("empty.parquet", Vec::new(), Fate::Rows(0, vec![("parquet", 1)])),
    ]
}

fn names() -> Vec<Case> {
    let names = ["a b.ndjson", "a+b.ndjson", "100%25.ndjson", "fünf 数.ndjson", "=&#'.ndjson"];
    names
        .into_iter()
        .enumerate()
        .map(|(n, name)| Case(name, order(&format!("name{n}")).into_bytes(), Fate::Rows(1, vec![])))
        .collect()
}

#[test]
fn whatever_lies_in_bronze_the_rest_lands_and_the_books_balance() {
    let lake = TempLake::new();
    let cases: Vec<Case> = [lines(), tables(), packed(), names()].into_iter().flatten().collect();
    let key = |case: &Case| format!("bronze/orders/dt=2026-01-01/{}", case.0);
    for case in &cases {
        lake.write(&key(case), &case.1);
    }
    lake.write("bronze/orders/readme.docx", "no rows");
    lake.write(IMPOSSIBLE, order("nowhere"));
    let report = lake.run(&[]);
    assert_eq!((&report["failed"], &report["skipped"]), (&serde_json::json!({}), &serde_json::json!(2)));

    let by_key = |sql: &str| -> BTreeMap<String, Value> {
        let rows = lake.query(sql).into_iter();
        rows.map(|row| (row["bronze_key"].as_str().unwrap().to_owned(), row)).collect()
    };
    let ledger = by_key("SELECT bronze_key, rows_in, silver, discarded, duplicates, rules FROM ledger");
    let mut wrong = Vec::new();
    for case in &cases {
        let key = key(case);
        let set_aside = report["quarantined"][&key].as_str();
        let ended_well = match (&case.2, ledger.get(&key)) {
            (Fate::SetAside, None) => set_aside.is_some_and(|reason| reason.contains("expands to more than")),
            (Fate::Rows(silver, rules), Some(entry)) => {
                let expected: BTreeMap<String, u64> =
                    rules.iter().map(|(rule, rows)| ((*rule).to_owned(), *rows)).collect();
                let found: BTreeMap<String, u64> =
                    serde_json::from_str(entry["rules"].as_str().unwrap()).unwrap();
                let in_silver = entry["silver"].as_u64().unwrap();
                // Of a stream that is cut, what was whole lands.
                let right = if *silver == u64::MAX { in_silver > 0 } else { in_silver == *silver };
                right && found == expected
            }
            _ => false,
        };
        if !ended_well {
            wrong.push(format!("{key}: {:?}, {set_aside:?}", ledger.get(&key)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let reasons = lake.query("SELECT count(*) AS n FROM discard WHERE rule = '' OR record = ''");
    assert_eq!(reasons[0]["n"], 0, "each discarded row has a reason and says what it was");

    // What no object can be named is a finding, shown so that it cannot write to a terminal.
    let audited = lake.processor(&["audit"]);
    let said = String::from_utf8(audited.stdout).unwrap();
    assert_eq!(audited.status.code(), Some(1), "{said}");
    assert!(said.contains("\\u{1b}[2J.ndjson\": the name has a control character"), "{said}");
    std::fs::remove_file(lake.path().join(IMPOSSIBLE)).unwrap();
    lake.audit();
}
