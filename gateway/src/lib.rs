//! # ingot-gateway: from sources to bronze, with a disk in between
//!
//! The path of a reading, a file each: a source ([`source::ndjson`], [`source::i2c`]) offers it, the
//! [`batcher`] judges it ([`range`]) and seals it into a frame, the [`spool`] keeps the frame on disk,
//! the [`uplink`] ([`uplink::mqtt`], [`uplink::lake`]) sends it until the far end confirms it. Beside
//! the path: [`config`], [`clock`], [`key`] (topic and object key), [`phase`] (shutdown), [`health`].
//!
//! Invariants: every frame goes through the spool, there is no live path beside it; a frame's identity
//! is fixed when it is sealed; a frame leaves the spool by a confirmation or by a counted drop; a slow
//! or full stage makes the one before it wait. Absent on purpose: any look inside a sealed frame beyond
//! its header, and any second way to count.

pub mod batcher;
pub mod clock;
pub mod config;
pub mod health;
pub mod key;
pub mod phase;
pub mod provision;
pub mod range;
pub mod source;
pub mod spool;
pub mod uplink;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncBufRead, BufReader};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use batcher::Batcher;
use config::{Config, LINE_BYTES_MAX, SourceConfig, UplinkConfig};
use health::{Sealing, Sending, Summary};
use phase::Phase;
use source::{CHUNKS_MAX, Outlet};
use spool::{Spool, SpoolError};
#[cfg(feature = "aws")]
use uplink::bulk::{S3, WithBulk};
use uplink::lake::Lake;
use uplink::mqtt::{Mqtt, TlsError};

/// A further reader of NDJSON readings, beside the configured sources.
pub type Input = Box<dyn AsyncBufRead + Send + Unpin>;

/// The open batch is built on its thread's stack before it moves to the heap.
const BATCHER_STACK_BYTES: usize = 16 << 20;

/// Why a run could not start or went wrong.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The certificates cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] TlsError),
    /// The roots for the direct path cannot be used.
    #[cfg(feature = "aws")]
    #[error("the direct path to S3 cannot be set up: {0}")]
    Bulk(#[from] uplink::bulk::PutError),
    /// No new boot could be noted.
    #[error("the run cannot be numbered in the spool's directory: {0}")]
    Boot(io::Error),
    /// The name cannot stand in a frame.
    #[error("the gateway's name: {0}")]
    Name(#[from] ingot_agent::DeclareError),
    /// A source cannot be opened.
    #[error("the source {what} cannot be used: {why}")]
    Source {
        /// Which one.
        what: String,
        /// Why not.
        why: String,
    },
    /// The system gave no thread, or a part of the gateway failed.
    #[error("the gateway failed: {0}")]
    Failed(#[from] io::Error),
}

/// Runs until all sources end or `shutdown` does, drains, and says what was done.
///
/// `inputs` are read as NDJSON beside the configured sources. Needs a tokio runtime of more than one
/// thread if sources or disk are to keep up while the other one works.
///
/// # Errors
/// It could not start; or a part of it failed, and what was stored by then is in the spool.
pub async fn run(
    config: Config,
    inputs: Vec<Input>,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, RunError> {
    let mqtt = match &config.uplink {
        UplinkConfig::Mqtt(mqtt) => Some(Mqtt::new(mqtt.clone())?),
        UplinkConfig::Lake(_) => None,
    };
    #[cfg(feature = "aws")]
    let s3 = config.bulk.clone().map(S3::new).transpose()?;
    let state_dir = config.spool.dir.clone();
    let fsync_interval = Duration::from_millis(config.spool.fsync_interval_ms);
    let spool_config = config.spool.clone();
    let (spool, recovered) = blocking(move || Spool::open(spool_config)).await??;
    if recovered.frames > 0 || recovered.damaged_frames > 0 || recovered.torn_bytes > 0 {
        tracing::info!(?recovered, "the spool holds what a former run left");
    }
    let spool = Arc::new(spool);
    let boot = clock::next_boot(&state_dir).map_err(RunError::Boot)?;
    tracing::info!(gateway = config.name, boot = format!("{boot:016x}"), "running");

    let (phase, phases) = watch::channel(Phase::Running);
    let (chunks, received) = mpsc::channel(CHUNKS_MAX);
    let mut sources = start_sources(&config, inputs, Outlet { chunks, phase: phases.clone() })?;
    let batcher = {
        let (spool, phases, config) = (Arc::clone(&spool), phases.clone(), config.clone());
        batcher_thread(Handle::current(), move || {
            let batcher = Batcher::new((&config.name, boot), config.batch, config.range, spool, state_dir)?;
            Ok(batcher.run(received, phases))
        })?
    };
    let uplink = {
        let (spool, backoff) = (Arc::clone(&spool), config.backoff);
        match (config.uplink.clone(), mqtt) {
            (UplinkConfig::Lake(lake), _) => {
                tokio::spawn(uplink::drain(Lake::new(lake), spool, backoff, phases))
            }
            #[cfg(feature = "aws")]
            (UplinkConfig::Mqtt(_), Some(mqtt)) if let Some(s3) = s3 => {
                let both = WithBulk::new(mqtt, s3, Arc::clone(&spool));
                tokio::spawn(uplink::drain(both, spool, backoff, phases))
            }
            (UplinkConfig::Mqtt(_), Some(mqtt)) => tokio::spawn(uplink::drain(mqtt, spool, backoff, phases)),
            (UplinkConfig::Mqtt(_), None) => return Err(io::Error::other("no MQTT client").into()),
        }
    };
    let syncer = tokio::spawn(sync_every(fsync_interval, Arc::clone(&spool)));

    let sources_ended = tokio::select! {
        () = all_end(&mut sources) => true,
        () = shutdown => false,
    };
    let deadline = Instant::now() + Duration::from_millis(config.drain_ms_max);
    phase.send_replace(Phase::Sealing(deadline));
    tracing::info!(sources_ended, "intake has stopped; what is left is stored and sent");
    all_end(&mut sources).await;
    let sealing = batcher.await.map_err(io::Error::other)??;
    phase.send_replace(Phase::Draining(deadline));
    let sending: Sending = uplink.await.map_err(io::Error::other)?;
    syncer.abort();

    let closing = Arc::clone(&spool);
    if let Err(error) = blocking(move || closing.close()).await? {
        tracing::error!(%error, "the spool's last fsync failed; a power cut now may lose its newest frames");
    }
    Ok(Summary::new((config.name, boot), sealing, sending, (recovered, spool.state()), sources_ended))
}

fn start_sources(config: &Config, inputs: Vec<Input>, outlet: Outlet) -> Result<JoinSet<()>, RunError> {
    let mut sources = JoinSet::new();
    for source in &config.sources {
        match source {
            SourceConfig::Ndjson { line_bytes_max } => {
                let stdin = BufReader::with_capacity(1 << 16, tokio::io::stdin());
                sources.spawn(read_ndjson(stdin, *line_bytes_max, outlet.clone()));
            }
            SourceConfig::I2c(i2c) => {
                let opened = source::i2c::open(i2c.clone()).map_err(|error| RunError::Source {
                    what: i2c.bus.to_string(),
                    why: error.to_string(),
                })?;
                let outlet = outlet.clone();
                sources.spawn_blocking(move || opened.run(&outlet));
            }
        }
    }
    for input in inputs {
        sources.spawn(read_ndjson(input, LINE_BYTES_MAX, outlet.clone()));
    }
    Ok(sources)
}

async fn read_ndjson(reader: impl AsyncBufRead + Unpin, line_bytes_max: usize, outlet: Outlet) {
    if let Err(error) = source::ndjson::read(reader, line_bytes_max, outlet).await {
        tracing::error!(%error, "a source of NDJSON broke off");
    }
}

async fn all_end(sources: &mut JoinSet<()>) {
    while let Some(ended) = sources.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a source failed");
        }
    }
}

/// The batcher codes and writes to disk, so it has a thread of its own, with room to build the batch.
fn batcher_thread<F>(
    runtime: Handle,
    start: impl FnOnce() -> Result<F, RunError> + Send + 'static,
) -> io::Result<tokio::task::JoinHandle<Result<Sealing, RunError>>>
where
    F: Future<Output = Sealing>,
{
    let waiter = runtime.clone();
    let thread = thread::Builder::new()
        .name("batcher".into())
        .stack_size(BATCHER_STACK_BYTES)
        .spawn(move || start().map(|batcher| runtime.block_on(batcher)))?;
    Ok(waiter.spawn_blocking(move || {
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the batcher panicked").into()))
    }))
}

/// Group fsync; with an interval of 0 each append syncs, and only the cursor is left to write.
async fn sync_every(interval: Duration, spool: Arc<Spool>) {
    let interval = if interval.is_zero() { Duration::from_secs(1) } else { interval };
    loop {
        tokio::time::sleep(interval).await;
        let syncing = Arc::clone(&spool);
        if let Ok(Err(error)) = blocking(move || syncing.sync()).await {
            tracing::error!(%error, "fsync of the spool failed; what was appended since the last one is in doubt");
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}
