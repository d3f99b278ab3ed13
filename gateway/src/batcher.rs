//! Samples to sealed frames: range check, the open batch, and the hand-over to the spool.
//!
//! One batch is open at a time. It is sealed at `frame_bytes_max`, when its oldest reading is
//! `age_ms_max` old, when its tables are full, and at the end. A sealed frame is never cut again: the
//! spool takes it, or the batcher waits and with it the sources (a full or failing disk is back
//! pressure). What is in the open batch and in the sources' queue is lost by `kill -9`: that is the
//! loss window, about `age_ms_max`.
//!
//! The step check compares with the series' last reading that was in range; it starts anew when the
//! tables are cleared (more than [`SERIES_MAX`] series or [`DEVICES_MAX`] devices since the last time).

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ingot_agent::{Batch, DeclareError, Drop, PushError, Quality, Reading, SeriesId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::config::BatchConfig;
use crate::health::Sealing;
use crate::phase::{Phase, intake_stops};
use crate::range::{self, RangeTable};
use crate::source::{Chunk, Sample};
use crate::spool::{AppendError, FRAME_BYTES_MAX, Spool};

/// Most series in a frame.
pub const SERIES_MAX: usize = 1_024;
/// Most devices in a frame.
pub const DEVICES_MAX: usize = 1_024;
/// Devices for which the gateway counts, before it starts their counts anew under a new boot.
pub const COUNTED_DEVICES_MAX: usize = 65_536;
/// Wait after the disk refused a frame.
pub const DISK_RETRY: Duration = Duration::from_secs(1);

type OpenBatch = Batch<SERIES_MAX, DEVICES_MAX, FRAME_BYTES_MAX>;

/// Seals what sources offer; see [`Batcher::run`].
pub struct Batcher {
    batch: Box<OpenBatch>,
    config: BatchConfig,
    range: RangeTable,
    spool: Arc<Spool>,
    devices: HashMap<Box<str>, Vec<Series>>,
    counted: Counted,
    /// When the open batch got its first reading or drop.
    open_since: Option<Instant>,
    done: Sealing,
}

/// A series of one device's run, as declared in the open batch.
struct Series {
    boot: u64,
    channel: Box<str>,
    id: SeriesId,
    previous: Option<f64>,
}

/// Counts for devices that do not count themselves.
struct Counted {
    state_dir: PathBuf,
    boot: u64,
    next_seq: HashMap<Box<str>, u64>,
}

/// Why a sample waits for the batch to be sealed first.
enum Wait {
    Full,
    TablesFull,
}

impl Batcher {
    /// A batcher of the gateway's run `boot`. `state_dir` gives new boots for counted devices.
    ///
    /// The batch is about 1.7 MB and is built on the stack: call this where there is room for it.
    ///
    /// # Errors
    /// The gateway's name cannot stand in a frame.
    pub fn new(
        (gateway, boot): (&str, u64),
        config: BatchConfig,
        range: RangeTable,
        spool: Arc<Spool>,
        state_dir: PathBuf,
    ) -> Result<Self, DeclareError> {
        Ok(Self {
            batch: Box::new(OpenBatch::new(gateway, boot)?),
            config,
            range,
            spool,
            devices: HashMap::new(),
            counted: Counted { state_dir, boot, next_seq: HashMap::new() },
            open_since: None,
            done: Sealing::default(),
        })
    }

    /// Takes chunks until all sources are gone, then seals the rest. Blocks its thread on the disk.
    pub async fn run(
        mut self,
        mut chunks: mpsc::Receiver<Chunk>,
        mut phase: watch::Receiver<Phase>,
    ) -> Sealing {
        loop {
            let age_max = Duration::from_millis(self.config.age_ms_max);
            let due = self.open_since.map(|since| since + age_max);
            tokio::select! {
                chunk = chunks.recv() => match chunk {
                    Some(chunk) => self.take(chunk, &mut phase).await,
                    None => break,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.seal(&mut phase).await;
                }
            }
        }
        // Storing the last frame may drop older ones from a full disk: their count needs a frame, too.
        while self.open_since.is_some() {
            self.seal(&mut phase).await;
        }
        self.done
    }

    async fn take(&mut self, chunk: Chunk, phase: &mut watch::Receiver<Phase>) {
        let offered = (chunk.samples.len() as u64).saturating_add(chunk.drops.total());
        self.done.produced = self.done.produced.saturating_add(offered);
        for cause in Drop::ALL {
            self.give_up(cause, chunk.drops.get(cause));
        }
        for sample in &chunk.samples {
            let (boot, seq) = sample.boot_seq.unwrap_or_else(|| self.counted.next(&sample.device));
            while let Err(wait) = self.push(sample, boot, seq) {
                self.seal(phase).await;
                if matches!(wait, Wait::TablesFull) {
                    self.devices.clear();
                    // The batch was just sealed, so it is empty.
                    let _ = self.batch.clear_tables();
                }
            }
            if self.batch.bytes() >= self.config.frame_bytes_max {
                self.seal(phase).await;
            }
        }
        // The age limit holds under a steady stream of chunks, too.
        let age_max = Duration::from_millis(self.config.age_ms_max);
        if self.open_since.is_some_and(|since| since.elapsed() >= age_max) {
            self.seal(phase).await;
        }
    }

    /// Judges one sample and puts it into the batch.
    fn push(&mut self, sample: &Sample, boot: u64, seq: u64) -> Result<(), Wait> {
        let Some(series) = self.series(&sample.device, boot, &sample.channel)? else {
            self.give_up(Drop::BadName, 1);
            return Ok(());
        };
        let (id, previous) = (series.id, series.previous);
        let mut quality = sample.quality;
        let has_value = !quality.contains(Quality::MISSING);
        if has_value {
            match range::judge(self.range.get(&sample.channel), previous, sample.value) {
                Some(flags) => quality = quality.with(flags),
                None => {
                    self.give_up(Drop::Range, 1);
                    return Ok(());
                }
            }
        }
        let reading = Reading { seq, at_ms: sample.at_ms, value: sample.value, quality };
        match self.batch.push(id, &reading) {
            Ok(()) => {}
            Err(PushError::Full) => return Err(Wait::Full),
            Err(PushError::Unknown) => return Err(Wait::TablesFull),
        }
        self.open_since.get_or_insert_with(Instant::now);
        if has_value
            && !quality.contains(Quality::OUT_OF_RANGE)
            && let Ok(Some(series)) = self.series(&sample.device, boot, &sample.channel)
        {
            series.previous = Some(sample.value);
        }
        Ok(())
    }

    /// The series' place, declared if it is new; `None` if the frame cannot carry its names.
    fn series(&mut self, device: &str, boot: u64, channel: &str) -> Result<Option<&mut Series>, Wait> {
        if !self.devices.contains_key(device) {
            self.devices.insert(device.into(), Vec::new());
        }
        let Some(known) = self.devices.get_mut(device) else {
            return Ok(None);
        };
        let place = match known.iter().position(|series| series.boot == boot && *series.channel == *channel) {
            Some(place) => place,
            None => {
                let declared =
                    self.batch.device(device, boot).and_then(|device| self.batch.series(device, channel));
                let id = match declared {
                    Ok(id) => id,
                    Err(DeclareError::Name) => return Ok(None),
                    Err(DeclareError::TableFull { .. } | DeclareError::Unknown) => {
                        return Err(Wait::TablesFull);
                    }
                };
                known.push(Series { boot, channel: channel.into(), id, previous: None });
                known.len() - 1
            }
        };
        Ok(known.get_mut(place))
    }

    fn give_up(&mut self, cause: Drop, readings: u64) {
        if readings > 0 {
            self.batch.count_drop(cause, readings);
            self.done.dropped.add(cause, readings);
            self.open_since.get_or_insert_with(Instant::now);
        }
    }

    /// Seals the batch, with the count of what had to make room for it, and stores the frame.
    async fn seal(&mut self, phase: &mut watch::Receiver<Phase>) {
        let room = self.spool.condemn_oldest(self.batch.bytes() as u64);
        self.give_up(Drop::SpoolFull, room.readings);
        if room.frames > 0 {
            tracing::warn!(
                frames = room.frames,
                readings = room.readings,
                "the spool is at bytes_max: its oldest frames are dropped and counted"
            );
        }
        let mut frame = Vec::with_capacity(self.batch.bytes());
        let sealed = self.batch.seal(clock::now_ms(), |piece| frame.extend_from_slice(piece));
        self.open_since = None;
        if self.store(&frame, sealed.readings, phase).await {
            self.done.frames += 1;
            self.done.readings += u64::from(sealed.readings);
            self.done.bytes += frame.len() as u64;
        } else {
            self.done.not_saved += u64::from(sealed.readings);
        }
    }

    /// Appends until the spool takes the frame; `false` if it did not by the end of the drain.
    async fn store(&mut self, frame: &[u8], readings: u32, phase: &mut watch::Receiver<Phase>) -> bool {
        let mut waiting = false;
        loop {
            let deadline = phase.borrow().deadline();
            let error = match self.spool.append(frame, readings, deadline.is_some()) {
                Ok(()) => {
                    if waiting {
                        tracing::info!("the spool takes frames again");
                    }
                    return true;
                }
                Err(error) => error,
            };
            if !std::mem::replace(&mut waiting, true) {
                tracing::warn!(%error, "sources wait until the spool takes frames again");
            }
            match error {
                AppendError::NotAFrame { .. } => return false,
                AppendError::Write { source } if source.kind() == io::ErrorKind::StorageFull => {
                    if let Some(freed) = self.spool.free_oldest() {
                        tracing::warn!(
                            frames = freed.frames,
                            readings = freed.readings,
                            "the disk is full: the spool's oldest frames are dropped and counted"
                        );
                        self.give_up(Drop::SpoolFull, freed.readings);
                        continue;
                    }
                }
                AppendError::Full { .. } | AppendError::Write { .. } => {}
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                tracing::error!(readings, "the spool took no frame until the end: these readings are lost");
                return false;
            }
            tokio::select! {
                () = self.spool.room_made() => {}
                () = intake_stops(phase), if deadline.is_none() => {}
                () = tokio::time::sleep(DISK_RETRY) => {}
            }
        }
    }
}

impl Counted {
    /// The next place in the count that the gateway keeps for this device.
    fn next(&mut self, device: &str) -> (u64, u64) {
        if let Some(next) = self.next_seq.get_mut(device) {
            *next += 1;
            return (self.boot, *next - 1);
        }
        if self.next_seq.len() >= COUNTED_DEVICES_MAX {
            // Forgetting a count is only safe under a new boot.
            match clock::next_boot(&self.state_dir) {
                Ok(boot) => {
                    self.boot = boot;
                    self.next_seq.clear();
                }
                Err(error) => {
                    tracing::warn!(%error, "no new boot could be noted; the table of counted devices grows")
                }
            }
        }
        self.next_seq.insert(device.into(), 1);
        (self.boot, 0)
    }
}
