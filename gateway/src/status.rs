//! `ingot-gateway status`: asks a running gateway's health server and says the answer in a terminal.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::health::Snapshot;
use crate::health::page::{bytes, span};
use crate::health::server::Listen;

/// Longest wait for the gateway's answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Cells of the spool's bar.
const BAR: u64 = 30;

/// Why there is no status, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The settings say so.
    #[error("the health server is off in these settings; set [health] listen and restart the gateway")]
    Off,
    /// Nobody there.
    #[error(
        "no gateway listens at {at}: it does not run, or runs with other settings; \
         look with `systemctl status ingot-gateway`, and give --config FILE or --spool DIR as it has them"
    )]
    Nobody {
        /// Where was asked.
        at: String,
    },
    /// A user without the right.
    #[error("this user may not ask the gateway at {at}; run it as the gateway's user, e.g. with sudo")]
    Forbidden {
        /// Where was asked.
        at: String,
    },
    /// The connection broke or took too long.
    #[error("the gateway at {at} gives no answer: {source}; its log may say why")]
    Io {
        /// Where was asked.
        at: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something else listens there.
    #[error("what listens at {at} is not an ingot-gateway of this version: {why}")]
    Stranger {
        /// Where was asked.
        at: String,
        /// What is odd about its answer.
        why: String,
    },
}

/// Asks the gateway that listens there. Blocks, at most some seconds.
///
/// # Errors
/// It cannot be reached, or its answer makes no sense.
pub fn fetch(listen: &Listen) -> Result<Snapshot, StatusError> {
    let at = match listen {
        Listen::Off => return Err(StatusError::Off),
        Listen::Unix(path) => path.display().to_string(),
        Listen::Tcp(address) => address.to_string(),
    };
    let answer = match listen {
        Listen::Unix(path) => UnixStream::connect(path).and_then(|socket| {
            socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
            ask(socket)
        }),
        Listen::Tcp(address) => TcpStream::connect_timeout(address, ANSWER_TIME_MAX).and_then(|socket| {
            socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
            ask(socket)
        }),
        Listen::Off => return Err(StatusError::Off),
    };
    let answer = answer.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => StatusError::Nobody { at: at.clone() },
        io::ErrorKind::PermissionDenied => StatusError::Forbidden { at: at.clone() },
        _ => StatusError::Io { at: at.clone(), source },
    })?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(StatusError::Stranger { at, why: "its answer is no HTTP".into() });
    };
    // 503 has the same body: it says what the problems are.
    if !(head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 503 ")) {
        let first = head.lines().next().unwrap_or_default().to_owned();
        return Err(StatusError::Stranger { at, why: first });
    }
    serde_json::from_str(body).map_err(|error| StatusError::Stranger { at, why: error.to_string() })
}

fn ask(mut socket: impl Read + Write) -> io::Result<String> {
    socket.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    socket.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// The status as a few lines; `before` is an earlier one of the same run, for the rates.
pub fn text(now: &Snapshot, before: Option<&Snapshot>) -> String {
    let Snapshot { readings, clock, spool, flash, uplink, .. } = now;
    let mut text = format!("gateway {}  boot {}  up {}\n\n", now.gateway, now.boot, span(now.uptime_ms));
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<10}{value}");
    };
    let before = before.filter(|before| before.boot == now.boot && before.uptime_ms < now.uptime_ms);
    let rate = |pick: fn(&Snapshot) -> u64| {
        before.map_or(String::new(), |before| {
            let seconds = (now.uptime_ms - before.uptime_ms) as f64 / 1_000.0;
            format!("  {:.1}/s", pick(now).saturating_sub(pick(before)) as f64 / seconds)
        })
    };
    let since = |age: Option<u64>| age.map_or("none yet".into(), |age| format!("{} ago", span(age)));
    line(
        "link",
        format!(
            "{}, {} frames in flight, last confirmation {}, {} outages",
            if uplink.connected { "connected" } else { "NOT CONNECTED" },
            uplink.in_flight,
            since(uplink.last_ack_age_ms),
            uplink.outages
        ),
    );
    let filled =
        if spool.bytes_max == 0 { 0 } else { (spool.bytes * BAR).div_ceil(spool.bytes_max).min(BAR) };
    let bar: String = (0..BAR).map(|cell| if cell < filled { '#' } else { '.' }).collect();
    line("spool", format!("[{bar}] {} of {}", bytes(spool.bytes), bytes(spool.bytes_max)));
    let oldest = spool.oldest_age_ms.map_or(String::new(), |age| format!(", the oldest {} old", span(age)));
    line("waiting", format!("{} readings in {} frames{oldest}", spool.readings, spool.frames));
    if let Some(priority) = &spool.priority {
        let (readings, frames, dropped) = (priority.readings, priority.frames, priority.dropped_readings);
        line("priority", format!("{readings} of these readings in {frames} frames, {dropped} dropped"));
    }
    line("produced", format!("{} readings{}", readings.produced, rate(|of| of.readings.produced)));
    line("confirmed", format!("{} readings{}", readings.acked, rate(|of| of.readings.acked)));
    let drops: Vec<_> = readings.dropped.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
    line("dropped", format!("{} readings ({})", readings.dropped.values().sum::<u64>(), drops.join(", ")));
    let held = match clock.held_readings {
        0 => String::new(),
        held => format!(", {held} readings wait for it"),
    };
    line("clock", format!("{}, {} steps{held}", if clock.set { "set" } else { "NOT SET" }, clock.steps));
    let each = flash.bytes_per_reading().map_or(String::new(), |each| format!(", {each:.1} bytes a reading"));
    line("flash", format!("{} written{each}, {} fsyncs", bytes(flash.bytes_written), flash.fsyncs));
    line("memory", bytes(now.resident_bytes));
    for problem in &now.problems {
        let _ = write!(text, "\nPROBLEM: {problem}");
    }
    for note in &now.notes {
        let _ = write!(text, "\nnote: {note}");
    }
    if now.problems.is_empty() && now.notes.is_empty() {
        text.push_str("\nall is well");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn rates_come_from_two_looks_at_the_same_run() {
        let mut before = Snapshot { boot: "1".into(), uptime_ms: 1_000, ..Snapshot::default() };
        before.readings.produced = 100;
        let mut now = before.clone();
        now.uptime_ms = 3_000;
        now.readings.produced = 350;
        now.spool.bytes_max = 3_000;
        now.clock.held_readings = 12;
        now.flash.bytes_written = 4_096;
        now.flash.readings_appended = 2_048;
        now.flash.fsyncs = 3;
        now.spool.bytes = 1_000;
        let said = text(&now, Some(&before));
        assert!(said.contains("350 readings  125.0/s") && said.contains("NOT CONNECTED"), "{said}");
        assert!(said.contains("clock     NOT SET, 0 steps, 12 readings wait for it\n"), "{said}");
        assert!(said.contains("flash     4.0 KiB written, 2.0 bytes a reading, 3 fsyncs\n"), "{said}");
        assert!(said.contains("[##########....................]"), "{said}");
        before.boot = "2".into();
        assert!(!text(&now, Some(&before)).contains("/s"), "another run gives no rate");
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("health.sock");
        let told = |listen: &Listen| fetch(listen).unwrap_err().to_string();
        assert!(told(&Listen::Unix(path.clone())).contains("does not run"));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(told(&Listen::Unix(path)).contains("does not run"), "a dead run's socket");
        assert!(told(&Listen::Off).contains("is off"));

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stranger = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 100];
            let _ = socket.read(&mut request).unwrap();
            socket.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
        });
        assert!(told(&Listen::Tcp(address)).contains("404 Not Found"));
        stranger.join().unwrap();
    }
}
