use super::*;

/// An object with one batch of the gateway's first run.
fn entry(gateway: &str, seq: u64, processed_ms: i64, dropped: &[(&str, u64)]) -> Entry {
    let batch = Batch {
        gateway: gateway.to_owned(),
        boot: 1,
        seq,
        sealed_ms: processed_ms,
        uptime_ms: 0,
        readings: 10,
        dropped: dropped.iter().map(|(cause, readings)| ((*cause).to_owned(), *readings)).collect(),
    };
    Entry {
        dataset: "sensor_readings".to_owned(),
        bronze_key: format!("{gateway}-{seq}"),
        bronze_etag: String::new(),
        bytes: 0,
        rows_in: 10,
        silver: 10,
        discarded: 0,
        duplicates: 0,
        rules: BTreeMap::new(),
        warnings: BTreeMap::new(),
        batches: vec![batch],
        contract_version: "1".to_owned(),
        processed_ms,
    }
}

fn signal(entries: &[Entry], window_start_ms: i64) -> Signal {
    let recent: Vec<&Entry> = entries.iter().filter(|entry| entry.processed_ms > window_start_ms).collect();
    lost(&recent, entries, window_start_ms)
}

#[test]
fn lost_are_readings_given_up_in_the_window_and_batches_that_something_later_overtook() {
    let entries = [
        entry("gw-1", 0, 100, &[("queue_full", 90)]),
        // Out of order, and twice: neither is a hole.
        entry("gw-1", 2, 200, &[]),
        entry("gw-1", 1, 300, &[]),
        entry("gw-1", 1, 310, &[]),
        entry("gw-1", 5, 400, &[]),
        entry("gw-1", 6, 1_100, &[("queue_full", 4), ("bad_name", 1)]),
    ];
    let found = signal(&entries, 1_000);
    assert_eq!(found.value, 7.0);
    assert_eq!(found.summary, "5 readings given up at the edge: 1 bad_name, 4 queue_full, 2 batches missing");
    assert_eq!(found.common, BTreeMap::from([("gateway".to_owned(), "gw-1".to_owned())]));
    // While what overtook them is young they may still be on their way.
    assert_eq!(signal(&entries[..5], 350).value, 0.0);
}

#[test]
fn batches_that_a_full_spool_gave_up_are_counted_as_its_readings_alone() {
    let entries = [
        entry("gw-1", 0, 100, &[]),
        entry("gw-1", 9, 1_100, &[("spool_full", 80)]),
        entry("gw-2", 0, 100, &[]),
        entry("gw-2", 2, 200, &[]),
        entry("gw-3", 0, 1_100, &[]),
    ];
    let found = signal(&entries, 1_000);
    assert_eq!(found.value, 81.0);
    assert!(found.common.is_empty(), "two gateways have lost something");
    assert_eq!(signal(&entries[4..], 1_000).value, 0.0);
}
