//! The real program with settings of a test: started, fed, signalled, and ended with the test.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ingot_gateway::health::Snapshot;
use ingot_gateway::health::server::Listen;
use ingot_gateway::status;

/// Longest wait for anything that a test expects.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running gateway; it is killed when it is dropped.
pub struct Daemon {
    dir: PathBuf,
    child: Option<Child>,
    stdin: Option<ChildStdin>,
}

impl Daemon {
    /// Starts one with `<dir>/gateway.toml` and a spool in `<dir>/spool`; its log is `<dir>/log`.
    pub fn start(dir: &Path, config: &str, environment: &[(&str, &str)]) -> Self {
        write_config(dir, config);
        let log = fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let mut child = program()
            .arg("run")
            .args(["--format", "json", "--config"])
            .arg(dir.join("gateway.toml"))
            .arg("--spool")
            .arg(dir.join("spool"))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        Self { dir: dir.into(), child: Some(child), stdin }
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn feed(&mut self, lines: &str) {
        self.stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// What it says of itself over its socket.
    pub fn status(&self) -> Option<Snapshot> {
        status::fetch(&Listen::Unix(self.dir.join("spool/health.sock"))).ok()
    }

    /// Waits until the status is as wanted.
    pub fn until(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        wait(what, || self.status().filter(&wanted)).unwrap_or_else(|| {
            panic!("{what} did not come: {:?}\n{}", self.status(), self.log());
        })
    }

    /// Waits until the log has `part` this many times.
    pub fn until_logged(&self, part: &str, times: usize) {
        let found = wait(part, || (self.log().matches(part).count() >= times).then_some(()));
        assert!(found.is_some(), "{part:?} was not logged {times} times:\n{}", self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Ends its input and waits for its own end.
    pub fn finish(mut self) -> (Output, serde_json::Value) {
        drop(self.stdin.take());
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        let summary = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output, summary)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ingot-gateway"))
}

pub fn write_config(dir: &Path, config: &str) {
    fs::write(dir.join("gateway.toml"), config).unwrap();
}

/// What `look` finds, asked again and again until the patience is over.
pub fn wait<T>(_what: &str, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        let found = look();
        if found.is_some() || started.elapsed() > PATIENCE {
            return found;
        }
        sleep(Duration::from_millis(20));
    }
}
