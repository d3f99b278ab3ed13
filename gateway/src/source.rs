//! Where readings come from. A source hands [`Chunk`]s to the batcher over one bounded channel; when
//! the batcher is slow, sources wait. Nothing is dropped here without being counted in a chunk.
//!
//! Each source runs in a task or thread of its own: one that hangs, fails or drowns in bad input holds
//! up no other. A device, bus or broker that is gone is tried again every [`RETRY`], and said in the log
//! when it goes and when it comes back, not at each try.

pub mod i2c;
pub mod modbus;
pub mod mqtt;
pub mod ndjson;
mod notice;
pub mod port;
mod running;
pub mod serial;
pub mod w1;

use std::time::Duration;

use ingot_agent::{Drop, Quality};
use tokio::io::{AsyncBufRead, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn, spawn_blocking};

use crate::clock;
use crate::config::SourceConfig;
use crate::drops::Drops;
use crate::phase::{Phase, intake_stops};

pub use running::Sources;

/// A further reader of NDJSON readings, beside the configured sources.
pub type Input = Box<dyn AsyncBufRead + Send + Unpin>;

/// Wait before a device, bus or broker that is gone is tried again.
pub const RETRY: Duration = Duration::from_secs(1);

/// Most samples in a chunk.
pub const CHUNK_SAMPLES_MAX: usize = 512;

/// Chunks that wait for the batcher before sources wait.
pub const CHUNKS_MAX: usize = 16;

/// A reading as its source gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The device that measured; a valid name.
    pub device: Box<str>,
    /// The device's run and its own count, if it counts; else the gateway counts for it.
    pub boot_seq: Option<(u64, u64)>,
    /// What was measured; a valid name.
    pub channel: Box<str>,
    /// When.
    pub at: Stamp,
    /// The value in the channel's unit; without meaning where `quality` says missing.
    pub value: f64,
    /// What the source knows against it.
    pub quality: Quality,
}

/// When a sample was measured, and by whose clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// By a clock of the source's own: milliseconds since 1970-01-01 UTC. Never altered.
    Wall(i64),
    /// By this gateway: [`crate::clock::uptime_ms`] when it was measured or came in; negative for what a
    /// node measured before this machine booted. The batcher makes a date of it once the clock is set.
    Uptime(i64),
}

impl Stamp {
    /// Now, by this gateway.
    pub fn now() -> Self {
        Self::Uptime(clock::uptime_ms() as i64)
    }
}

/// Some samples, and what the source had to give up since its last chunk.
#[derive(Debug, Default)]
pub struct Chunk {
    /// In the order in which they came.
    pub samples: Vec<Sample>,
    /// Readings given up, by cause.
    pub drops: Drops,
}

impl Chunk {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.drops.total() == 0
    }

    /// Counts a reading that was given up.
    pub fn drop_one(&mut self, cause: Drop) {
        self.drops.add(cause, 1);
    }
}

/// A source's way to the batcher, and its order to stop.
#[derive(Clone)]
pub struct Outlet {
    /// Where chunks go.
    pub chunks: mpsc::Sender<Chunk>,
    /// Tells when intake stops.
    pub phase: watch::Receiver<Phase>,
}

impl Outlet {
    /// Hands over what `chunk` holds and empties it; waits while the batcher is slow. `false`: the
    /// batcher is gone, so reading on is pointless.
    pub async fn send(&self, chunk: &mut Chunk) -> bool {
        chunk.is_empty() || self.chunks.send(std::mem::take(chunk)).await.is_ok()
    }

    /// Waits until intake stops.
    pub async fn stopped(&mut self) {
        intake_stops(&mut self.phase).await;
    }
}

/// A source that cannot be opened, where trying again would not help.
#[derive(Debug, thiserror::Error)]
#[error("the source {what} cannot be used: {why}")]
pub struct StartError {
    /// Which one.
    what: String,
    /// Why not.
    why: String,
}

impl StartError {
    fn new(what: impl ToString, why: impl ToString) -> Self {
        Self { what: what.to_string(), why: why.to_string() }
    }
}

/// Starts one source, in a task or thread of its own.
///
/// # Errors
/// It cannot be opened for good.
fn open(config: &SourceConfig, outlet: Outlet) -> Result<JoinHandle<()>, StartError> {
    Ok(match config.clone() {
        SourceConfig::Ndjson { line_bytes_max } => {
            let stdin = BufReader::with_capacity(1 << 16, tokio::io::stdin());
            spawn(ndjson::run(stdin, line_bytes_max, outlet))
        }
        SourceConfig::I2c(i2c) => {
            let bus = i2c.bus.to_string();
            let opened = i2c::open(i2c).map_err(|error| StartError::new(bus, error))?;
            spawn_blocking(move || opened.run(&outlet))
        }
        SourceConfig::Serial(serial) => spawn(serial::run(serial, outlet)),
        SourceConfig::Mqtt(mqtt) => {
            let broker = mqtt.address();
            let opened = mqtt::open(mqtt).map_err(|error| StartError::new(broker, error))?;
            spawn(opened.run(outlet))
        }
        SourceConfig::Modbus(modbus) => spawn(modbus::run(modbus, outlet)),
        SourceConfig::W1(w1) => spawn_blocking(move || w1::run(w1, &outlet)),
    })
}
