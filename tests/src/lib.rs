//! What the end-to-end tests share: Ingot's own binaries, run as a user runs them, on a lake in a
//! temporary directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod pack;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;

use serde_json::Value;
use tempfile::TempDir;

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A binary of this workspace, built if it is not yet.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        // What cargo tells a test of itself would make build scripts run again, and half the tree with them.
        std::env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| name.to_string_lossy().starts_with("CARGO_"))
            .filter(|name| name != "CARGO_HOME" && name != "CARGO_INCREMENTAL" && name != "CARGO_TARGET_DIR")
            .for_each(|name| {
                cargo.env_remove(name);
            });
        let built = cargo
            .args(["build", "--locked", "--quiet", "--workspace", "--all-features", "--bins"])
            .current_dir(workspace())
            .status()
            .unwrap();
        assert!(built.success());
    });
    // target/debug/deps/<this test> lies two below the binaries.
    let debug = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    debug.join(name)
}

/// A lake in a directory that goes when it does.
pub struct TempLake {
    dir: TempDir,
}

impl TempLake {
    /// An empty lake.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    /// Writes a file below it.
    pub fn write(&self, key: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path().join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Runs `ingot-processor` on it.
    pub fn processor(&self, args: &[&str]) -> Output {
        let (command, rest) = args.split_first().unwrap();
        Command::new(binary("ingot-processor"))
            .args([command, "--lake", &self.url()])
            .args(rest)
            .current_dir(workspace())
            .output()
            .unwrap()
    }

    /// Runs `ingot-processor run` on it, which must succeed; its report.
    pub fn run(&self, args: &[&str]) -> Value {
        one_json(&succeeded(self.processor(&[&["run", "--format", "json"], args].concat())))
    }

    /// Runs `ingot-processor audit` on it, which must find it balanced; its report.
    pub fn audit(&self) -> Value {
        one_json(&succeeded(self.processor(&["audit", "--format", "json"])))
    }

    /// The rows that `ingot-processor query` gives.
    pub fn query(&self, sql: &str) -> Vec<Value> {
        let output = succeeded(self.processor(&["query", "--format", "json", sql]));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Default for TempLake {
    fn default() -> Self {
        Self::new()
    }
}

/// Pipes `input` into `ingot-gateway run` with the lake as its uplink.
pub fn gateway(lake: &TempLake, spool: &Path, input: &str) -> Output {
    let mut child = Command::new(binary("ingot-gateway"))
        .args(["run", "--name", "edge-1", "--format", "json", "--lake", &lake.url(), "--spool"])
        .arg(spool)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The output of a command that exited with 0.
pub fn succeeded(output: Output) -> Output {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

/// The one JSON object that a command printed.
pub fn one_json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}
