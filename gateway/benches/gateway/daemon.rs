//! The gateway as a process on core 0, and what the kernel says of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::Place;

/// A running gateway; it is killed when it is dropped.
pub struct Daemon {
    child: Child,
    started: Instant,
    last: Usage,
}

/// What `/proc` says.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub rss_kb: u64,
    pub rss_peak_kb: u64,
    pub cpu_s: f64,
}

impl Daemon {
    /// Starts it in `dir` with further settings; `stdin` is what it reads.
    pub fn start(place: &Place, dir: &Path, settings: &str, stdin: Stdio) -> Self {
        fs::create_dir_all(dir).unwrap();
        let (port, tls) = (place.broker.port, &place.gateway);
        let config = format!(
            "name = \"gw\"\n{settings}\n[uplink.mqtt.tls]\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
            tls.ca, tls.cert, tls.key
        );
        let config = config
            .replace("[uplink.mqtt]", &format!("[uplink.mqtt]\nhost = \"localhost\"\nport = {port}"))
            .replace("[spool]", &format!("[spool]\ndir = {:?}", dir.join("spool")));
        fs::write(dir.join("gateway.toml"), config).unwrap();
        let child = Command::new("taskset")
            .args(["-c", "0", env!("CARGO_BIN_EXE_ingot-gateway"), "run", "--format", "json", "--config"])
            .arg(dir.join("gateway.toml"))
            .env("RUST_LOG", "warn")
            .stdin(stdin)
            .stdout(File::create(dir.join("summary.json")).unwrap())
            .stderr(File::create(dir.join("log")).unwrap())
            .spawn()
            .expect("taskset is installed (util-linux)");
        Self { child, started: Instant::now(), last: Usage::default() }
    }

    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// What it uses now; after its end what it used when it was last asked.
    pub fn usage(&mut self) -> Usage {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
        let kb = |key: &str| -> Option<u64> {
            status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
        };
        if let (Some(rss_kb), Some(rss_peak_kb)) = (kb("VmRSS:"), kb("VmHWM:")) {
            self.last = Usage { rss_kb, rss_peak_kb, cpu_s: cpu_s(&proc).unwrap_or(self.last.cpu_s) };
        }
        self.last
    }

    /// Waits for its end; how it ended, after how long, and what it used.
    pub fn end(mut self) -> (ExitStatus, Duration, Usage) {
        loop {
            let usage = self.usage();
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.started.elapsed(), usage);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time; fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms.
fn cpu_s(proc: &Path) -> Option<f64> {
    let stat = fs::read_to_string(proc.join("stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / 100.0)
}
