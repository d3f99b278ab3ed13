//! NDJSON at its worst: absurd times, no numbers, a million channels, a line without an end.

use std::io::Cursor;

use ingot_agent::Drop;
use ingot_gateway::Input;

use super::running::Gateway;

fn input(text: String) -> Vec<Input> {
    vec![Box::new(Cursor::new(text.into_bytes()))]
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_times_arrive_as_they_are_and_no_numbers_are_counted() {
    let times =
        [i64::MIN, i64::MIN + 1, -62_135_596_800_000, -1, 0, 253_402_300_799_999, i64::MAX - 1, i64::MAX];
    let mut text = String::new();
    for (seq, at) in times.iter().enumerate() {
        text += &format!(
            "{{\"device\":\"d\",\"channel\":\"temperature\",\"value\":20,\"at\":{at},\"seq\":{seq},\"boot\":1}}\n"
        );
    }
    let bad = [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "\"NaN\"",
        "[1]",
        "{}",
        "true",
        "9".repeat(400).as_str(),
    ]
    .map(|value| format!("{{\"device\":\"d\",\"channel\":\"temperature\",\"value\":{value},\"at\":1}}\n"));
    text += &bad.concat();
    for at in
        ["9223372036854775808", "1e18", "\"+292278994-08-17T07:12:55Z\"", "\"0000-00-00T00:00:00Z\"", "null"]
    {
        text += &format!("{{\"device\":\"d\",\"channel\":\"temperature\",\"value\":20,\"at\":{at}}}\n");
    }
    let (summary, bronze) = Gateway::start("source = []", input(text)).ended().await;
    assert_eq!(summary.dropped.get(Drop::Malformed), bad.len() as u64 + 5);
    let found: Vec<_> = bronze.rows.keys().map(|row| (row.2 as usize, row.4)).collect();
    assert_eq!(found, times.iter().copied().enumerate().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_unknown_channels_need_no_more_memory_than_a_thousand() {
    const CHANNELS: u64 = 1_000_000;
    let (reader, mut writer) = tokio::io::duplex(1 << 16);
    let feed = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for from in (0..CHANNELS).step_by(1_000) {
            let line = |c| {
                format!(
                    "{{\"device\":\"d\",\"channel\":\"c{c}\",\"value\":1,\"at\":{c},\"seq\":{c},\"boot\":1}}\n"
                )
            };
            let lines: String = (from..from + 1_000).map(line).collect();
            writer.write_all(lines.as_bytes()).await.unwrap();
        }
    });
    let before = resident_bytes();
    let gateway = Gateway::start("source = []", vec![Box::new(tokio::io::BufReader::new(reader))]);
    feed.await.unwrap();
    let grown = resident_bytes().saturating_sub(before);
    let summary = gateway.summary().await;
    assert_eq!((summary.produced, summary.sealed_readings, summary.dropped.total()), (CHANNELS, CHANNELS, 0));
    assert!(summary.sealed_frames >= CHANNELS / 1_024, "a frame is sealed when its table is full");
    // Other tests run beside this one; a table of all channels would be above 100 MB.
    assert!(grown < 64 << 20, "{grown} bytes more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_an_end_is_one_malformed_input() {
    let (reader, mut writer) = tokio::io::duplex(1 << 16);
    let feed = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for _ in 0..2_000 {
            writer.write_all(&[b'x'; 1 << 15]).await.unwrap(); // 64 MB in all
        }
    });
    let before = resident_bytes();
    let gateway = Gateway::start("source = []", vec![Box::new(tokio::io::BufReader::new(reader))]);
    feed.await.unwrap();
    let grown = resident_bytes().saturating_sub(before);
    assert_eq!(gateway.summary().await.dropped.get(Drop::Malformed), 1);
    assert!(grown < 48 << 20, "{grown} bytes more");
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}
