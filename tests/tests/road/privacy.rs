//! Personal data stays in bronze: a thousand canaries, in every field and format, and not one of them anywhere
//! else: tables, their logs and statistics, lineage, alerts, what the commands say.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ingot_tests::pack::{gz, parquet, zst};
use ingot_tests::{TempLake, binary, one_json, succeeded, workspace};
use serde_json::Value;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const CANARIES: usize = 1_000;

/// A person's data, and the part of it by which it is found again.
struct Canary {
    text: String,
    mark: String,
}

fn canary(n: usize) -> Canary {
    // Marks are digits that no other number here has: six of the canary, between two of its kind.
    let digits = format!("97{n:04}79");
    let (text, mark) = match n % 5 {
        0 => (format!("can{digits}ary@mail.example"), digits),
        1 => (format!("+49 30 {digits}"), digits),
        2 => (card(&format!("4111{digits}77")), digits),
        3 => (iban(&format!("3704{digits}013000")), digits),
        _ => (format!("10.97.{}.{}", n / 250, n % 250), format!("10.97.{}.{}", n / 250, n % 250)),
    };
    Canary { text, mark }
}

/// With the check digit of ISO/IEC 7812.
fn card(digits: &str) -> String {
    let doubled = |(place, digit): (usize, u32)| match (place % 2, digit * 2) {
        (1, _) => digit,
        (_, two) => two / 10 + two % 10,
    };
    let sum: u32 = digits.chars().rev().map(|sign| sign.to_digit(10).unwrap()).enumerate().map(doubled).sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// A German one with the check digits of ISO 13616: DE is 1314.
fn iban(account: &str) -> String {
    let rest =
        format!("{account}131400").bytes().fold(0, |rest, sign| (rest * 10 + u32::from(sign - b'0')) % 97);
    format!("DE{:02}{account}", 98 - rest)
}

/// Orders in which the address and the order's id have pseudonyms.
fn contract(folder: &Path) -> String {
    let text = std::fs::read_to_string(workspace().join("contracts/orders.yaml")).unwrap();
    let text = text.replacen("property: redact, value: mask", "property: redact, value: pseudonym", 1);
    // A key without personal data keeps its digits; this one gets a pseudonym.
    let key = "description: The shop's id of the order";
    assert!(text.contains(key));
    let text = text.replacen(
        key,
        &format!("{key}, customProperties: [{{ property: redact, value: pseudonym }}]"),
        1,
    );
    let path = folder.join("orders.yaml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn order(n: usize, field: &str, value: &str) -> String {
    let mut order = serde_json::json!({
        "order_id": format!("A{n}"), "status": "paid", "amount": 5, "currency": "EUR",
        "created_at": "2026-01-01T10:00:00Z", "customer_email": null, "phone": null, "country": "DE",
        "notes": "", "updated_at": null,
    });
    order[field] = value.into();
    order.to_string()
}

/// The canaries over all fields and all ways to be wrong, in every format.
fn plant(lake: &TempLake) {
    let fields = [
        "customer_email",
        "phone",
        "notes",
        "country",
        "order_id",
        "status",
        "amount",
        "currency",
        "created_at",
        "updated_at",
        "unknown",
    ];
    let (mut lines, mut rows) =
        (String::new(), String::from("order_id,status,amount,currency,created_at,notes\n"));
    for n in 0..CANARIES {
        let text = canary(n).text;
        match n % 20 {
            // A field's name, broken text of three kinds, a value within a value.
            16 => writeln!(lines, "{{\"order_id\":\"A{n}\",\"{text}\":1}}").unwrap(),
            17 => writeln!(lines, "{{\"order_id\":\"A{n}\",\"customer_email\":\"{text}").unwrap(),
            18 => writeln!(lines, "\"{text}\" no order at all").unwrap(),
            19 => writeln!(lines, "{}", order(n, "notes", &format!("[{{\"deep\":\"{text}\"}}]"))).unwrap(),
            // CSV: in its places, and in rows that are too short or too long.
            8..16 => match n % 4 {
                0 => writeln!(rows, "A{n},paid,5,EUR,2026-01-01T10:00:00Z,\"ring {text}\"").unwrap(),
                1 => writeln!(rows, "A{n},paid,{text},EUR,2026-01-01T10:00:00Z,").unwrap(),
                2 => writeln!(rows, "A{n},paid,\"{text}\"").unwrap(),
                _ => writeln!(rows, "A{n},paid,5,EUR,2026-01-01T10:00:00Z,,{text},more").unwrap(),
            },
            _ => writeln!(lines, "{}", order(n, fields[n % fields.len()], &text)).unwrap(),
        }
    }
    // One way is one object; a packed one holds the same lines under other orders.
    let packed = lines.replace("\"A", "\"P");
    lake.write("bronze/orders/dt=2026-01-01/lines.ndjson", &lines);
    lake.write("bronze/orders/dt=2026-01-01/rows.csv", &rows);
    let day = "bronze/orders/dt=2026-01-01";
    lake.write(&format!("{day}/packed.ndjson.gz"), gz(packed.as_bytes()));
    lake.write(&format!("{day}/cut.ndjson.gz"), &gz(packed.as_bytes())[..2_000]);
    let packed = lines.replace("\"A", "\"Z");
    lake.write(&format!("{day}/packed.ndjson.zst"), zst(packed.as_bytes()));
    lake.write(&format!("{day}/cut.csv.zst"), &zst(rows.as_bytes())[..1_000]);
    // In Parquet what is JSON at all, once with its columns and once as texts of another schema; whole and damaged.
    let sound = packed.replace("\"Z", "\"Q");
    let sound: Vec<&str> = sound
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()))
        .collect();
    let table = parquet(&sound.join("\n"));
    let texts: Vec<String> = lines
        .lines()
        .map(|line| serde_json::json!({"line": line, "deep": {"in": [line]}}).to_string())
        .collect();
    lake.write(&format!("{day}/cut.parquet"), &table[..table.len() / 2]);
    lake.write(&format!("{day}/table.parquet"), table);
    let mut damaged = parquet(&texts.join("\n"));
    lake.write(&format!("{day}/texts.parquet"), &damaged);
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0x55);
    lake.write(&format!("{day}/damaged.parquet"), damaged);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn processor(lake: &TempLake, args: &[&str]) -> Output {
    let mut command = Command::new(binary("ingot-processor"));
    command.args(args).arg("--lake").arg(lake.url()).current_dir(workspace());
    command.env("RUST_LOG", "debug").env("INGOT_PSEUDONYM_KEY", KEY).output().unwrap()
}

fn assert_clean(marks: &HashSet<String>, what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Every mark has these two digits: at most three signs before, at most nine after.
    for (place, _) in text.match_indices("97") {
        let is_mark =
            |from: usize, len: usize| text.get(from..from + len).is_some_and(|part| marks.contains(part));
        let found = is_mark(place, 8) || place >= 3 && (8..=11).any(|len| is_mark(place - 3, len));
        let around =
            text.get(place.saturating_sub(120)..(place + 60).min(text.len())).unwrap_or("binary data");
        assert!(!found, "a canary is in {what}: {around}");
    }
    assert!(!text.contains(KEY), "the key is in {what}");
}

#[test]
fn a_thousand_canaries_stay_in_bronze() {
    let folder = tempfile::tempdir().unwrap();
    let contract = contract(folder.path());
    let lake = TempLake::new();
    plant(&lake);
    let marks: HashSet<String> = (0..CANARIES).map(|n| canary(n).mark).collect();
    let lineage = folder.path().join("lineage.ndjson");
    let lineage_url = format!("file://{}", lineage.display());

    let refused = lake.processor(&["run", "--contract", &contract]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("INGOT_PSEUDONYM_KEY"));

    let with = ["--contract", contract.as_str()];
    let run =
        processor(&lake, &[&["run", "--format", "json", "--lineage", &lineage_url][..], &with].concat());
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(report["datasets"]["orders"]["silver"].as_u64().unwrap() > 300, "{report}");
    assert!(report["datasets"]["orders"]["discarded"].as_u64().unwrap() > 500, "{report}");
    let mut said = vec![("run".to_owned(), run)];
    for command in [
        &["audit"][..],
        &["alerts"],
        &["redrive", "--rule", "bad_status"],
        &["maintain"],
        &["trace", "--gold", "orders_daily"],
        &["run"],
    ] {
        said.push((command.join(" "), processor(&lake, &[command, &with].concat())));
    }
    let mut tables = vec!["discard".to_owned(), "ledger".to_owned()];
    for kind in ["silver", "gold", "versions"] {
        let Ok(found) = std::fs::read_dir(lake.path().join(kind)) else { continue };
        let names = found.map(|table| table.unwrap().file_name().into_string().unwrap());
        tables.extend(names.filter(|_| kind != "versions").map(|name| format!("{kind}.{name}")));
    }
    for table in &tables {
        let sql = format!("SELECT * FROM {table}");
        let rows = processor(&lake, &[&["query", &sql, "--format", "json"][..], &with].concat());
        assert!(!succeeded(rows.clone()).stdout.is_empty(), "{table}");
        said.push((sql, rows));
    }
    for (command, output) in &said {
        assert_clean(&marks, &format!("what `{command}` prints"), &output.stdout);
        assert_clean(&marks, &format!("the log of `{command}`"), &output.stderr);
    }
    assert_clean(&marks, "the lineage", &std::fs::read(&lineage).unwrap());
    // Logs, checkpoints, statistics and, as far as they are not packed, the rows themselves.
    for file in files(lake.path()).iter().filter(|file| !file.starts_with(lake.path().join("bronze"))) {
        assert_clean(&marks, &file.display().to_string(), &std::fs::read(file).unwrap());
    }
    // One address has one name, in silver as in discard.
    let named = "SELECT count(*) AS n FROM silver.orders WHERE customer_email LIKE 'p\\_%'";
    let named = one_json(&processor(&lake, &[&["query", named, "--format", "json"][..], &with].concat()));
    assert!(named["n"].as_u64().unwrap() > 30, "{named}");
}
