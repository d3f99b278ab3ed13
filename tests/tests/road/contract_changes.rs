//! A contract changes while its lake stays: another query, another column, a rule that cannot be computed for a row; and
//! what two contracts must not have in common.

use ingot_tests::TempLake;
use serde_json::{Value, json};

const CONTRACT: &str = include_str!("../../../contracts/examples/web_events.yaml");

/// A lake with this contract in it.
struct Changing(TempLake);

impl Changing {
    fn new() -> Self {
        let lake = Self(TempLake::new());
        lake.says(CONTRACT);
        lake
    }

    fn says(&self, contract: &str) {
        self.0.write("web_events.yaml", contract);
    }

    fn file(&self) -> String {
        self.0.path().join("web_events.yaml").display().to_string()
    }

    fn view(&self, object: &str, lines: &[Value]) {
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.0.write(&format!("bronze/web_events/{object}"), lines);
    }

    /// Runs a command; its report and what it said, with the exit code that is expected.
    fn ask(&self, command: &str, more: &[&str], exit: i32) -> (Value, String) {
        let file = self.file();
        let output = self.0.processor(&[&[command, "--format", "json", "--contract", &file], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{said}");
        (serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
    }

    fn rows(&self, sql: &str) -> Vec<Value> {
        let output = self.0.processor(&["query", "--format", "json", "--contract", &self.file(), sql]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn event(id: &str, day: u32, visible_ms: i64) -> Value {
    json!({"event_id": id, "at": format!("2026-01-{day:02}T12:00:00Z"), "kind": "view", "page": "/shoes", "visible_ms": visible_ms})
}

#[test]
fn another_gold_query_is_computed_for_all_days_and_other_columns_are_told() {
    let lake = Changing::new();
    lake.view("a.ndjson", &[event("0000000a", 8, 10), event("0000000b", 8, 30), event("0000000c", 9, 7)]);
    lake.ask("run", &[], 0);
    let gold = "SELECT dt, visible_ms FROM gold.web_pages_daily ORDER BY dt";
    let of = |first: i64, second: i64| {
        [json!({"dt": "2026-01-08", "visible_ms": first}), json!({"dt": "2026-01-09", "visible_ms": second})]
    };
    assert_eq!(lake.rows(gold), of(40, 7));

    let most = CONTRACT.replace("sum(visible_ms) AS", "max(visible_ms) AS");
    lake.says(&most);
    let (audited, _) = lake.ask("audit", &["--unprocessed-after-s", "0"], 1);
    assert_eq!(audited["gold_behind"], json!(["web_pages_daily"]), "{audited}");
    lake.ask("run", &[], 0);
    assert_eq!(lake.rows(gold), of(30, 7));
    // Back again: what the first query once showed is not taken for what is there.
    lake.view("b.ndjson", &[event("0000000d", 9, 1)]);
    lake.says(CONTRACT);
    lake.ask("run", &[], 0);
    assert_eq!(lake.rows(gold), of(40, 8));

    lake.says(&CONTRACT.replace("AS visible_ms", "AS seen_ms"));
    let (ran, _) = lake.ask("run", &[], 1);
    let failed = ran["failed"].to_string();
    assert!(failed.contains("column seen_ms") && failed.contains("Remove gold/web_pages_daily"), "{failed}");
    assert_eq!(lake.rows(gold), of(40, 8), "it shows what it showed");
    std::fs::remove_dir_all(lake.0.path().join("gold/web_pages_daily")).unwrap();
    lake.ask("run", &[], 0);
    assert_eq!(lake.rows("SELECT sum(seen_ms) AS ms FROM gold.web_pages_daily"), [json!({"ms": 48})]);
}

#[test]
fn a_column_more_is_empty_in_the_rows_before_it() {
    let lake = Changing::new();
    lake.view("a.ndjson", &[event("0000000a", 8, 10)]);
    lake.ask("run", &[], 0);
    let page = "      - { name: kind, logicalType: string";
    lake.says(&CONTRACT.replace(
        page,
        &format!("      - {{ name: referrer, logicalType: string, required: false }}\n{page}"),
    ));
    let mut with = event("0000000b", 9, 20);
    with["referrer"] = json!("/home");
    lake.view("b.ndjson", &[with, event("0000000a", 8, 10)]);
    let (ran, _) = lake.ask("run", &[], 0);
    assert_eq!((&ran["silver"], &ran["duplicates"]), (&json!(1), &json!(1)), "{ran}");
    assert_eq!(
        lake.rows("SELECT event_id, referrer FROM silver.web_events ORDER BY event_id"),
        [json!({"event_id": "0000000a"}), json!({"event_id": "0000000b", "referrer": "/home"})]
    );
    lake.ask("audit", &[], 0);
}

#[test]
fn a_row_that_a_check_cannot_compute_is_discarded_alone_and_nothing_says_what_it_held() {
    let lake = Changing::new();
    let checked = "visible_ms < 0 OR visible_ms > 86400000";
    lake.says(&CONTRACT.replace(checked, "CAST(email AS BIGINT) > 5 OR 100 / visible_ms > 100"));
    let mut personal = event("0000000b", 8, 10);
    personal["email"] = json!("ann@example.org");
    lake.view(
        "a.ndjson",
        &[event("0000000a", 8, 10), personal, event("0000000c", 8, 0), event("0000000d", 8, 1)],
    );
    let (ran, said) = lake.ask("run", &[], 0);
    assert_eq!((&ran["silver"], &ran["rules"]), (&json!(2), &json!({"visible_range": 2})), "{ran}");
    assert!(!format!("{ran}{said}").contains("ann@"), "{ran} {said}");
    lake.ask("audit", &[], 0);
}

#[test]
fn two_contracts_of_one_dataset_or_one_gold_table_are_refused() {
    let lake = Changing::new();
    let file = lake.0.path().join("other.yaml").display().to_string();
    lake.0.write("other.yaml", CONTRACT);
    let (_, said) = lake.ask("run", &["--contract", &file], 2);
    assert!(said.contains("two contracts are of the dataset web_events"), "{said}");
    lake.0.write(
        "other.yaml",
        CONTRACT.replace("id: web_events\n", "id: visits\n").replace("name: web_events\n", "name: visits\n"),
    );
    let (_, said) = lake.ask("run", &["--contract", &file], 2);
    assert!(
        said.contains("the contracts of web_events and visits have both a gold table web_pages_daily"),
        "{said}"
    );
}

#[test]
fn an_object_with_the_ending_of_no_format_is_told_by_run_and_audit() {
    let lake = Changing::new();
    lake.view("a.ndjson", &[event("0000000a", 8, 10)]);
    lake.view("b.NDJSON", &[event("0000000b", 8, 10)]);
    let (ran, _) = lake.ask("run", &[], 0);
    let skipped = ran["skipped_keys"].to_string();
    assert!(ran["skipped"] == 1 && skipped.contains("b.NDJSON: the name does not end in"), "{ran}");
    let (young, _) = lake.ask("audit", &[], 0);
    assert_eq!(young["misnamed_objects"], 1);
    let (audited, _) = lake.ask("audit", &["--unprocessed-after-s", "0"], 1);
    assert!(audited["findings"].to_string().contains("b.NDJSON"), "{audited}");
}
