//! Memory does not grow with an object, or with a lake: neither where it is promoted nor where it is audited. docs/benchmarks.md
//! has the figures of an object of 2 GB; this one is larger than what the processor may take, which the system tells while it
//! runs.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ingot_tests::{TempLake, binary, one_json, succeeded, workspace};

const OBJECT_BYTES: &str = "600000000";
/// Of each order.
const NOTE_BYTES: &str = "2000";
const RSS_KB_MAX: u64 = 512 * 1024;

#[test]
fn an_object_larger_than_the_memory_that_it_may_take_lands_whole() {
    let lake = TempLake::new();
    lake.write("bronze/orders/large.ndjson", "");
    let made = Command::new("python3")
        .args(["tests/large.py", OBJECT_BYTES])
        .arg(lake.path().join("bronze/orders/large.ndjson"))
        .arg(NOTE_BYTES)
        .current_dir(workspace())
        .output()
        .unwrap();
    let made = String::from_utf8(succeeded(made).stdout).unwrap();
    let orders: u64 = made.split(' ').next().unwrap().parse().unwrap();
    assert!(orders > 200_000, "{made}");

    for command in ["run", "audit"] {
        let (output, rss_kb_max) = watched(&lake, command);
        let report = one_json(&succeeded(output));
        assert_eq!(report["rows_in"], orders, "{report}");
        assert!((50_000..RSS_KB_MAX).contains(&rss_kb_max), "{command}: {rss_kb_max} kB of {RSS_KB_MAX}");
    }
}

/// What the processor said, and the most memory that it had.
fn watched(lake: &TempLake, command: &str) -> (Output, u64) {
    let mut running = Command::new(binary("ingot-processor"))
        .args([command, "--lake", &lake.url(), "--format", "json"])
        .current_dir(workspace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut kb_max = 0;
    while running.try_wait().unwrap().is_none() {
        kb_max = kb_max.max(peak_kb(running.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(50));
    }
    (running.wait_with_output().unwrap(), kb_max)
}

/// The most memory that a process has had so far, while it is there.
fn peak_kb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}
