//! A dataset that nobody foresaw is added by writing a contract and nothing else.

use ingot_tests::TempLake;
use serde_json::{Value, json};

const CONTRACT: [&str; 2] = ["--contract", "contracts/examples/web_events.yaml"];

const EVENTS: &str = r#"{"event_id":"0000000a","at":"2026-01-09T12:00:00Z","kind":"view","page":"/shoes","visible_ms":1500,"ip":"192.0.2.7","user_agent":"Canary/5.0","email":"ann@example.org"}
{"event_id":"0000000b","at":1767960001000,"kind":"click","page":"/shoes","ip":"192.0.2.7"}
{"event_id":"0000000c","at":"2026-01-09T12:00:02Z","kind":"view","page":"/reset?mail=bob@example.org","visible_ms":10}
{"event_id":"0000000d","at":"2026-01-09T12:00:03Z","kind":"hover","page":"/shoes","ip":"192.0.2.8","user_agent":"Canary/5.0","email":"eve@example.org"}
{"event_id":"0000000e","at":"2026-01-09T12:00:04Z","kind":"view","page":"/shoes","visible_ms":-1}
{"event_id":"0000000a","at":"2026-01-09T12:00:00Z","kind":"view","page":"/shoes","visible_ms":1500}
{"event_id":"0000000f","at":"2026-01-10T00:00:00Z","kind":"view","page":"/hats","visible_ms":7}
"#;

fn filled() -> TempLake {
    let lake = TempLake::new();
    lake.write("bronze/web_events/dt=2026-01-10/first.ndjson", EVENTS);
    lake
}

/// `query` with the contract.
fn query(lake: &TempLake, sql: &str) -> Vec<Value> {
    let output = lake.processor(&[&["query", "--format", "json"], &CONTRACT[..], &[sql]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn events_land_in_silver_discard_and_gold_without_their_visitors() {
    let lake = filled();
    let report = lake.run(&CONTRACT);
    assert_eq!(
        (&report["silver"], &report["discarded"], &report["duplicates"]),
        (&json!(4), &json!(2), &json!(1))
    );
    assert_eq!(report["rules"], json!({"unknown_kind": 1, "visible_range": 1}));
    assert_eq!(
        query(
            &lake,
            "SELECT dt, page, views, clicks, visible_ms FROM gold.web_pages_daily ORDER BY dt, page"
        ),
        [
            json!({"dt": "2026-01-09", "page": "/reset?mail=[EMAIL]", "views": 1, "clicks": 0, "visible_ms": 10}),
            json!({"dt": "2026-01-09", "page": "/shoes", "views": 1, "clicks": 1, "visible_ms": 1500}),
            json!({"dt": "2026-01-10", "page": "/hats", "views": 1, "clicks": 0, "visible_ms": 7}),
        ]
    );
    let kept = format!(
        "{:?}{:?}",
        query(&lake, "SELECT * FROM silver.web_events"),
        query(&lake, "SELECT * FROM discard")
    );
    for secret in ["192.0.2", "Canary", "ann@", "bob@", "eve@"] {
        assert!(!kept.contains(secret), "{secret} is in {kept}");
    }
    assert!(kept.contains("[REDACTED]"));
}
