//! The sources at work: each a task that can be ended alone, so that a change of one leaves the others.

use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinHandle};
use tokio::time::Instant;

use super::{Chunk, Input, Outlet, StartError, ndjson};
use crate::config::{LINE_BYTES_MAX, SourceConfig};
use crate::phase::Phase;

/// All sources of a run.
pub struct Sources {
    running: Vec<Source>,
    /// For those that start later. While it is held, the batcher waits for more.
    chunks: mpsc::Sender<Chunk>,
}

struct Source {
    /// `None`: an input that the caller gave.
    config: Option<SourceConfig>,
    phase: watch::Sender<Phase>,
    /// `None` once it has come to its end; a source is not started twice for the same settings.
    task: Option<JoinHandle<()>>,
}

impl Sources {
    /// Starts the configured sources, and reads `inputs` as NDJSON beside them.
    ///
    /// # Errors
    /// A source cannot be opened.
    pub fn start(
        configs: &[SourceConfig],
        inputs: Vec<Input>,
        chunks: mpsc::Sender<Chunk>,
    ) -> Result<Self, StartError> {
        let mut sources = Self { running: Vec::new(), chunks };
        for config in configs {
            let started = sources.open(config)?;
            sources.running.push(started);
        }
        for input in inputs {
            let (phase, outlet) = sources.outlet();
            let task = task::spawn(ndjson::run(input, LINE_BYTES_MAX, outlet));
            sources.running.push(Source { config: None, phase, task: Some(task) });
        }
        Ok(sources)
    }

    /// Waits until all have come to their end. Can be given up and asked again.
    pub async fn end(&mut self) {
        for source in &mut self.running {
            source.end().await;
        }
    }

    /// Ends the sources that `configs` does not have any more, starts its new ones, leaves the others.
    /// One that cannot be opened is left out, with an error in the log.
    pub async fn change(&mut self, configs: &[SourceConfig]) {
        let mut left = configs.to_vec();
        let (kept, mut gone): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|source| match &source.config {
                None => true,
                Some(config) => match left.iter().position(|new| new == config) {
                    Some(place) => {
                        left.remove(place);
                        true
                    }
                    None => false,
                },
            });
        self.running = kept;
        for source in &mut gone {
            source.phase.send_replace(Phase::Sealing(Instant::now()));
            source.end().await;
        }
        tracing::info!(left_alone = self.running.len(), ended = gone.len(), started = left.len(), "sources");
        for config in &left {
            match self.open(config) {
                Ok(source) => self.running.push(source),
                Err(error) => {
                    tracing::error!(%error, "this source is left out until the next reload or start")
                }
            }
        }
    }

    /// Ends all of them; each hands over what it has.
    pub async fn stop(mut self, deadline: Instant) {
        for source in &self.running {
            source.phase.send_replace(Phase::Sealing(deadline));
        }
        self.end().await;
    }

    fn open(&self, config: &SourceConfig) -> Result<Source, StartError> {
        let (phase, outlet) = self.outlet();
        let task = super::open(config, outlet)?;
        Ok(Source { config: Some(config.clone()), phase, task: Some(task) })
    }

    fn outlet(&self) -> (watch::Sender<Phase>, Outlet) {
        let (sender, phase) = watch::channel(Phase::Running);
        (sender, Outlet { chunks: self.chunks.clone(), phase })
    }
}

impl Source {
    async fn end(&mut self) {
        if let Some(task) = &mut self.task {
            if let Err(error) = task.await {
                tracing::error!(%error, "a source failed");
            }
            self.task = None;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::source::i2c::{Bus, Chip, I2cConfig, SensorConfig};
    use std::time::Duration;
    use tokio::io::BufReader;
    use tokio::time::timeout;

    fn bus(device: &str) -> SourceConfig {
        let sensors = vec![SensorConfig { chip: Chip::Sht4x, address: 0x44, period_ms: 20 }];
        SourceConfig::I2c(I2cConfig { bus: Bus::Simulated { seed: 1 }, device: device.into(), sensors })
    }

    async fn next_devices(chunks: &mut mpsc::Receiver<Chunk>, count: usize) -> Vec<String> {
        let mut devices = Vec::new();
        for _ in 0..count {
            let chunk = timeout(Duration::from_secs(10), chunks.recv()).await.unwrap().unwrap();
            devices.extend(chunk.samples.iter().map(|sample| sample.device.to_string()));
        }
        devices
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_changed_source_is_replaced_and_an_unchanged_one_is_left_alone() {
        let (sender, mut chunks) = mpsc::channel(4);
        let (mut end_of_input, input) = tokio::io::duplex(64);
        let input: Input = Box::new(BufReader::new(input));
        let mut sources = Sources::start(&[bus("a"), bus("b")], vec![input], sender).unwrap();
        let stay = sources.running[0].task.as_ref().unwrap().id();
        let reading = tokio::spawn(async move {
            let devices = next_devices(&mut chunks, 10).await;
            (devices, chunks)
        });
        sources.change(&[bus("c"), bus("a")]).await;
        assert_eq!(sources.running[0].task.as_ref().unwrap().id(), stay);
        assert_eq!(sources.running.len(), 3, "two sources and the caller's input");
        let (_, mut chunks) = reading.await.unwrap();
        let later = next_devices(&mut chunks, 20).await;
        assert!(later.iter().any(|device| device == "a") && later.iter().any(|device| device == "c"));
        assert!(later[10..].iter().all(|device| device != "b"), "{later:?}");

        let draining = tokio::spawn(async move { while chunks.recv().await.is_some() {} });
        tokio::io::AsyncWriteExt::shutdown(&mut end_of_input).await.unwrap();
        timeout(Duration::from_secs(10), sources.stop(Instant::now())).await.unwrap();
        timeout(Duration::from_secs(10), draining).await.unwrap().unwrap();
    }
}
