//! Samples to sealed frames: the clock's word on each, range check, the open batch, and the hand-over
//! to the spool.
//!
//! One batch is open at a time, and one more for channels with priority (module `batches`). It is sealed at `frame_bytes_max`, when its oldest reading is
//! `age_ms_max` old, when its tables are full, when the clock is set or stepped, and at the end. A sealed
//! frame is never cut again: the spool takes it, or the batcher waits and with it the sources (a full or
//! failing disk is back pressure). What is in the open batch and in the sources' queue is lost by
//! `kill -9`: that is the loss window, about `age_ms_max`.
//!
//! While the clock is not set, batches go to [`undated`] instead of the spool, and come from there when
//! it is. The step check compares with the series' last reading that was in range; it starts anew when
//! the tables are cleared (more than [`SERIES_MAX`] series or [`DEVICES_MAX`] devices since the last
//! time) or the clock is set.

mod batches;
mod counted;
mod open;
mod store;
pub mod undated;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ingot_agent::{DeclareError, Drop, Quality};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use crate::clock::{Clock, News};
use crate::config::BatchConfig;
use crate::contract_update::trial::TrialCount;
use crate::contract_update::{Ranges, Trial};
use crate::health::Sealing;
use crate::phase::Phase;
use crate::range::RangeTable;
use crate::source::{Chunk, Sample};
use crate::spool::{Class, Classes};

use batches::{Batches, run_of_its_own};
use counted::Counted;
use open::Refusal;
use undated::Undated;

pub use counted::COUNTED_DEVICES_MAX;
pub use open::{DEVICES_MAX, SERIES_MAX};
pub use store::DISK_RETRY;

/// The clock is looked at this often, and before each chunk.
pub const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// What a reload may change while the batcher runs.
#[derive(Clone, Debug)]
pub struct Judging {
    /// When a batch is sealed.
    pub batch: BatchConfig,
    /// What is known of the channels.
    pub ranges: Ranges,
}

/// Seals what sources offer; see [`Batcher::run`].
pub struct Batcher {
    gateway: String,
    state_dir: PathBuf,
    config: BatchConfig,
    range: RangeTable,
    trial: Option<Trial>,
    spool: Arc<Classes>,
    clock: Clock,
    batches: Batches,
    undated: Undated,
    counted: Counted,
    done: Sealing,
}

impl Batcher {
    /// A batcher of the gateway's run `boot`. `state_dir` gives new boots.
    ///
    /// A batch is about 1.7 MB and is built on the stack: call this where there is room for it.
    ///
    /// # Errors
    /// The gateway's name cannot stand in a frame.
    pub fn new(
        (gateway, boot): (&str, u64),
        config: BatchConfig,
        range: RangeTable,
        (spool, undated): (Arc<Classes>, Undated),
        (clock, state_dir): (Clock, PathBuf),
    ) -> Result<Self, DeclareError> {
        Ok(Self {
            gateway: gateway.into(),
            config,
            range,
            trial: None,
            spool,
            clock,
            batches: Batches::new(gateway, boot)?,
            undated,
            counted: Counted::new(state_dir.clone(), boot),
            state_dir,
            done: Sealing::default(),
        })
    }

    /// Readings of these channels are sealed apart and go first. Takes room as [`Batcher::new`] does.
    pub fn with_priority(mut self, channels: &[String]) -> Self {
        let run = || run_of_its_own(&self.gateway, &self.state_dir).map(|(open, _)| open);
        self.batches.prefer(channels, run);
        self
    }

    /// The ranges are on trial from the start.
    pub fn with_trial(mut self, trial: Option<Trial>) -> Self {
        self.done.trial.trial = trial.as_ref().map_or(0, |trial| trial.number);
        self.trial = trial;
        self
    }

    fn judge_by(&mut self, Judging { batch, ranges: Ranges { range, trial } }: Judging) {
        let number = trial.as_ref().map_or(0, |trial| trial.number);
        if number != self.done.trial.trial {
            self.done.trial = TrialCount { trial: number, ..TrialCount::default() };
        }
        (self.config, self.range, self.trial) = (batch, range, trial);
    }

    /// Holds a reading against the ranges on trial and against those before them.
    fn count_trial(&mut self, sample: &Sample) {
        let Some(trial) = self.trial.as_ref().filter(|_| !sample.quality.contains(Quality::MISSING)) else {
            return;
        };
        let out = |table: &RangeTable| table.is_out(&sample.channel, sample.value);
        self.done.trial.readings += 1;
        self.done.trial.newly_out += u64::from(out(&self.range) && !out(&trial.former));
    }

    /// Takes chunks until all sources are gone, then seals the rest. Blocks its thread on the disk.
    ///
    /// New `judging` takes effect with the next chunk; the open batch goes on. Publishes its counts in `live`.
    pub async fn run(
        mut self,
        mut chunks: mpsc::Receiver<Chunk>,
        mut phase: watch::Receiver<Phase>,
        mut judging: watch::Receiver<Judging>,
        live: watch::Sender<Sealing>,
    ) -> Sealing {
        let mut clock_look = tokio::time::interval(CLOCK_LOOK);
        clock_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.look(&mut phase).await;
        loop {
            live.send_replace(self.done);
            let due = self.batches.oldest().map(|(since, _)| since + self.age_max());
            let dates = self.undated.has_dates();
            tokio::select! {
                chunk = chunks.recv() => match chunk {
                    Some(chunk) => {
                        // What came after new judging was given is judged by it.
                        if judging.has_changed().unwrap_or(false) {
                            self.judge_by(judging.borrow_and_update().clone());
                        }
                        self.take(chunk, &mut phase).await;
                    }
                    None => break,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.look(&mut phase).await;
                    self.seal_aged(&mut phase).await;
                }
                Ok(()) = judging.changed() => {
                    self.judge_by(judging.borrow_and_update().clone());
                }
                _ = clock_look.tick() => self.look(&mut phase).await,
                () = std::future::ready(()), if dates => self.pass_on_dated(&mut phase).await,
            }
        }
        self.end(&mut phase).await;
        live.send_replace(self.done);
        self.done
    }

    /// Puts everything on disk, and into the spool what can be dated.
    async fn end(&mut self, phase: &mut watch::Receiver<Phase>) {
        self.look(phase).await;
        // Storing the last frame may drop older ones from a full disk: their count needs a frame, too.
        while self.batches.oldest().is_some() {
            self.seal_all(phase).await;
        }
        while self.undated.has_dates()
            && phase.borrow().deadline().is_none_or(|deadline| Instant::now() < deadline)
        {
            self.pass_on_dated(phase).await;
        }
        self.clock.close();
    }

    async fn take(&mut self, chunk: Chunk, phase: &mut watch::Receiver<Phase>) {
        self.look(phase).await;
        let offered = (chunk.samples.len() as u64).saturating_add(chunk.drops.total());
        self.done.produced = self.done.produced.saturating_add(offered);
        for cause in Drop::ALL {
            self.give_up(Class::Ordinary, cause, chunk.drops.get(cause));
        }
        for sample in &chunk.samples {
            let (boot, seq) = sample.boot_seq.unwrap_or_else(|| self.counted.next(&sample.device));
            let class = self.batches.class_of(&sample.channel);
            let refused = loop {
                let refused = match self.batches.open(class).push(sample, (boot, seq), &self.range) {
                    Ok(()) => break None,
                    Err(Refusal::Drop(cause)) => break Some(cause),
                    Err(refused) => refused,
                };
                self.seal(class, phase).await;
                if matches!(refused, Refusal::TablesFull) {
                    self.batches.open(class).clear_tables();
                }
            };
            match refused {
                Some(cause) => self.give_up(class, cause, 1),
                None => self.count_trial(sample),
            }
            if self.batches.open(class).bytes() >= self.config.frame_bytes_max {
                self.seal(class, phase).await;
            }
        }
        // The age limit holds under a steady stream of chunks, too.
        self.seal_aged(phase).await;
    }

    async fn seal_aged(&mut self, phase: &mut watch::Receiver<Phase>) {
        let age_max = self.age_max();
        while let Some((since, class)) = self.batches.oldest()
            && since.elapsed() >= age_max
        {
            self.seal(class, phase).await;
        }
    }

    /// Looks at the clock. A frame never holds readings from before and after it was set or stepped:
    /// all that the gateway stamped in a frame is off by the same amount as the frame's own time.
    async fn look(&mut self, phase: &mut watch::Receiver<Phase>) {
        let news = self.clock.look();
        if news != News::Same {
            self.seal_all(phase).await;
        }
        self.done.clock_set = self.clock.judge().booted_ms().is_some();
        self.done.clock_steps = self.clock.judge().steps();
        self.done.clock_step_ms = self.clock.judge().step_ms();
        let Some(booted_ms) = self.clock.judge().booted_ms() else {
            if self.batches.unset.is_none() {
                self.batches.unset = self.undated.start_run(&self.gateway, &self.state_dir);
            }
            return;
        };
        self.batches.clock_is_set(booted_ms);
        self.undated.clock_is_set(booted_ms, self.clock.last().wall_ms);
    }

    fn age_max(&self) -> Duration {
        Duration::from_millis(self.config.age_ms_max)
    }

    /// Counts readings given up, in the header of the class's next frame.
    fn give_up(&mut self, class: Class, cause: Drop, readings: u64) {
        if readings > 0 {
            self.batches.open(class).count_drop(cause, readings);
            self.done.dropped.add(cause, readings);
        }
    }
}

#[cfg(test)]
mod tests;
