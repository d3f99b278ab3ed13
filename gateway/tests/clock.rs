//! The real program on a board whose clock is not set at first, and comes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Bronze, objects};

/// Ended with the test.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A simulated sensor chip that the gateway reads and stamps, and a lake.
fn start(dir: &Path) -> Gateway {
    let config = format!(
        "name = \"gw-1\"\n[[source]]\nkind = \"i2c\"\nbus = \"simulated\"\n[[source.sensor]]\nchip = \"bme280\"\n\
         period_ms = 20\n[batch]\nage_ms_max = 50\n[clock]\nset_marker = \"{}\"\n",
        dir.join("clock-is-set").display()
    );
    fs::write(dir.join("gateway.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingot-gateway"));
    command.arg("run").arg("--config").arg(dir.join("gateway.toml"));
    command.arg("--lake").arg(format!("file://{}/lake", dir.display()));
    command.arg("--spool").arg(dir.join("spool")).args(["--format", "json"]);
    Gateway(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

#[test]
fn readings_wait_for_the_clock_over_a_kill_and_leave_with_their_dates() {
    let dir = tempfile::tempdir().unwrap();
    let undated = dir.path().join("spool/undated");
    let waiting_bytes = || {
        let segments =
            objects(&undated).into_iter().filter(|path| path.extension() == Some("ingot".as_ref()));
        segments.map(|path| fs::metadata(path).unwrap().len()).sum::<u64>()
    };
    let from_ms = now_ms();
    let first = start(dir.path());
    wait_until("frames wait for the clock", || waiting_bytes() > 600);
    drop(first); // kill -9
    let bytes = waiting_bytes();
    let mut second = start(dir.path());
    wait_until("the second run's wait, too", || waiting_bytes() > bytes + 600);
    assert!(objects(&dir.path().join("lake")).is_empty(), "nothing leaves without a date");

    fs::write(dir.path().join("clock-is-set"), "").unwrap();
    wait_until("all are passed on", || waiting_bytes() == 0);
    assert!(Command::new("kill").args(["-TERM", &second.0.id().to_string()]).status().unwrap().success());
    assert!(second.0.wait().unwrap().success());
    let to_ms = now_ms();

    let bronze = Bronze::read(&dir.path().join("lake"));
    let times = |flags: u8| {
        let rows = bronze.rows.keys().filter(move |row| row.6 == flags);
        rows.map(|row| (row.1, row.2, row.4)).collect::<Vec<_>>()
    };
    let (restamped, stamped) = (times(16), times(0));
    assert_eq!(restamped.len() + stamped.len(), bronze.rows.len(), "no other flags");
    assert!(bronze.rows.values().all(|count| *count == 1));
    let runs: std::collections::BTreeSet<_> = restamped.iter().map(|(boot, ..)| *boot).collect();
    assert_eq!(runs.len(), 2, "readings of both runs");
    for (_, seq, at_ms) in restamped.iter().chain(&stamped) {
        assert!((from_ms - 50..=to_ms + 50).contains(at_ms), "{seq} at {at_ms}, {from_ms} to {to_ms}");
    }
    // Rows are ordered by run and count: so are their times.
    assert!(restamped.is_sorted_by_key(|(_, _, at_ms)| *at_ms));
}
