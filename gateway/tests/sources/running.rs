//! A gateway that runs inside a test, with its lake in a temporary directory.

use std::time::Duration;

use ingot_gateway::config::{Config, Overrides};
use ingot_gateway::health::Summary;
use ingot_gateway::{Input, RunError};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::common::{Bronze, Row, objects};

/// Longest time for anything here.
pub const PATIENCE: Duration = Duration::from_secs(40);

pub struct Gateway {
    dir: TempDir,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<Summary, RunError>>,
}

impl Gateway {
    /// Starts one with these sources.
    pub fn start(sources: &str, inputs: Vec<Input>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("{sources}\n[batch]\nage_ms_max = 20\n[spool]\nfsync_interval_ms = 1000\n");
        let overrides = Overrides {
            name: Some("gw".into()),
            spool: Some(dir.path().join("spool")),
            lake: Some(format!("file://{}/lake", dir.path().display())),
        };
        let config = Config::from_toml(&text, overrides).unwrap();
        let (stop, stopped) = oneshot::channel();
        let run = tokio::spawn(ingot_gateway::run(config, inputs, async {
            let _ = stopped.await;
        }));
        Self { dir, stop, run }
    }

    /// Waits until bronze holds what `enough` wants to see.
    pub async fn until(&self, what: &str, enough: impl Fn(&Bronze) -> bool) -> Bronze {
        let started = Instant::now();
        loop {
            let bronze = self.bronze();
            if enough(&bronze) {
                return bronze;
            }
            assert!(!self.run.is_finished(), "the gateway ended while waiting until {what}");
            assert!(
                started.elapsed() < PATIENCE,
                "not reached: {what}; {} rows, {:?}",
                bronze.rows.len(),
                bronze.dropped
            );
            sleep(Duration::from_millis(30)).await;
        }
    }

    /// What bronze holds while the gateway writes: objects that are whole have their last name.
    fn bronze(&self) -> Bronze {
        let mut bronze = Bronze::default();
        for path in objects(&self.dir.path().join("lake/bronze")) {
            if path.extension().is_some_and(|end| end == "ingot") {
                bronze.add(&mut std::fs::read(path).unwrap());
            }
        }
        bronze
    }

    /// Waits for the end of its sources.
    pub async fn ended(self) -> (Summary, Bronze) {
        let summary = timeout(PATIENCE, self.run).await.expect("it ends").unwrap().unwrap();
        (summary, Bronze::read(&self.dir.path().join("lake")))
    }

    /// The same without a look into bronze.
    pub async fn summary(self) -> Summary {
        timeout(PATIENCE, self.run).await.expect("it ends").unwrap().unwrap()
    }

    /// Stops it; every reading must be in bronze, once.
    pub async fn stop(self) -> (Summary, Bronze) {
        self.stop.send(()).unwrap();
        let summary = timeout(PATIENCE, self.run).await.expect("it ends").unwrap().unwrap();
        let bronze = Bronze::read(&self.dir.path().join("lake"));
        assert_eq!(summary.sealed_readings, bronze.rows.len() as u64, "{summary}");
        assert!(bronze.rows.values().all(|times| *times == 1));
        (summary, bronze)
    }
}

/// The readings of a channel: device, value (`None` for a gap).
pub fn values(bronze: &Bronze, channel: &str) -> Vec<(String, Option<f64>)> {
    let rows = bronze.rows.keys().filter(|row| row.3 == channel);
    rows.map(|row| (row.0.clone(), value(row))).collect()
}

/// A row's value, `None` for a gap.
pub fn value(row: &Row) -> Option<f64> {
    let missing = row.6 & ingot_agent::Quality::MISSING.0 != 0;
    (!missing).then(|| f64::from_bits(row.5))
}
