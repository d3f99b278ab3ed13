//! Where readings come from. A source hands [`Chunk`]s to the batcher over one bounded channel; when
//! the batcher is slow, sources wait. Nothing is dropped here without being counted in a chunk.

pub mod i2c;
pub mod ndjson;

use ingot_agent::{Drop, Quality};
use tokio::sync::{mpsc, watch};

use crate::health::Drops;
use crate::phase::{Phase, intake_stops};

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
    /// By this gateway: [`crate::clock::uptime_ms`] when it was measured or came in. The batcher makes
    /// a date of it once the clock is set.
    Uptime(u64),
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
