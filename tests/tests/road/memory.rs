//! Memory does not grow with an object. docs/benchmarks.md has the figures of one of 2 GB; this one is larger than what the
//! processor may take in memory, which is told by the system while it runs.

use std::process::{Command, Stdio};
use std::time::Duration;

use ingot_tests::{TempLake, binary, one_json, succeeded, workspace};

const OBJECT_BYTES: u64 = 600_000_000;
const RSS_KB_MAX: u64 = 512 * 1024;

#[test]
fn an_object_larger_than_the_memory_that_it_may_take_lands_whole() {
    let lake = TempLake::new();
    lake.write("bronze/orders/large.ndjson", "");
    let (bytes, note_bytes) = (OBJECT_BYTES.to_string(), "8000");
    let made = Command::new("python3")
        .args(["tests/large.py", &bytes])
        .arg(lake.path().join("bronze/orders/large.ndjson"))
        .arg(note_bytes)
        .current_dir(workspace())
        .output()
        .unwrap();
    let orders: u64 =
        String::from_utf8(succeeded(made).stdout).unwrap().split(' ').next().unwrap().parse().unwrap();

    let mut running = Command::new(binary("ingot-processor"))
        .args(["run", "--lake", &lake.url(), "--format", "json"])
        .current_dir(workspace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut rss_kb_max = 0;
    while running.try_wait().unwrap().is_none() {
        rss_kb_max = rss_kb_max.max(peak_kb(running.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(50));
    }
    let report = one_json(&succeeded(running.wait_with_output().unwrap()));
    assert_eq!(report["total"]["rows_in"], orders, "{report}");
    assert!(orders > 60_000 && rss_kb_max > 50_000, "{orders} orders, {rss_kb_max} kB");
    assert!(rss_kb_max < RSS_KB_MAX, "{rss_kb_max} kB of {RSS_KB_MAX}");
    lake.audit();
}

/// The most memory that a process has had so far, while it is there.
fn peak_kb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}
