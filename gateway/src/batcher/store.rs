//! From a sealed frame to the disk, however full or broken that is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ingot_agent::Drop;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Batcher;
use crate::phase::{Phase, intake_stops};
use crate::spool::{AppendError, Class, Classes, Condemned};

/// Wait after the disk refused a frame.
pub const DISK_RETRY: Duration = Duration::from_secs(1);

impl Batcher {
    /// Seals every batch that holds something.
    pub(super) async fn seal_all(&mut self, phase: &mut watch::Receiver<Phase>) {
        for class in Class::BOTH {
            if self.batches.open(class).since.is_some() {
                self.seal(class, phase).await;
            }
        }
    }

    /// Seals a batch, with the count of what had to make room for it, and stores the frame.
    pub(super) async fn seal(&mut self, class: Class, phase: &mut watch::Receiver<Phase>) {
        let is_unset = self.batches.unset.is_some();
        let spool = Arc::clone(if is_unset { self.undated.spool() } else { &self.spool });
        let bytes = self.batches.open(class).bytes() as u64;
        self.condemn(&spool, class, bytes);
        let uptime_ms = self.clock.last().uptime_ms;
        let (frame, sealed) = self.batches.open(class).seal(uptime_ms);
        if is_unset {
            self.undated.note_runs();
        }
        let readings = u64::from(sealed.readings);
        if self.store((&spool, class), &frame, sealed.readings, phase).await {
            self.done.frames += 1;
            self.done.readings += readings;
            self.done.bytes += frame.len() as u64;
            self.done.held_readings += if is_unset { readings } else { 0 };
        } else {
            tracing::error!(readings, "these readings are lost: the disk did not take them");
            self.done.not_saved += readings;
        }
    }

    /// Passes some of the frames that waited for the clock on to the spool, under their own identities. They
    /// hold readings of all channels and are ordinary ones.
    pub(super) async fn pass_on_dated(&mut self, phase: &mut watch::Receiver<Phase>) {
        let frames = match self.undated.take_dated() {
            Ok(frames) => frames,
            Err(error) => {
                tracing::warn!(%error, "frames that wait for the clock cannot be read; they are tried again");
                sleep(DISK_RETRY).await;
                return;
            }
        };
        let spool = Arc::clone(&self.spool);
        let (class, mut stored) = (Class::Ordinary, true);
        for frame in &frames {
            let bytes = frame.bytes.len() + self.batches.open(class).bytes();
            if self.condemn(&spool, class, bytes as u64) {
                // What is given up is reported by a frame that is on disk before it goes.
                self.seal(class, phase).await;
            }
            stored = stored && self.store((&spool, class), &frame.bytes, frame.readings, phase).await;
        }
        if stored && let Err(error) = spool.sync() {
            tracing::warn!(%error, "frames that waited for the clock are passed on again after a failed fsync");
            stored = false;
        }
        self.undated.settle(&frames, stored);
        if !stored {
            return;
        }
        for frame in frames {
            let readings = u64::from(frame.readings);
            if frame.has_date {
                self.done.dated_readings += readings;
            } else {
                self.done.undated_readings += readings;
            }
        }
    }

    /// Chooses what has to go for `bytes` more, to be reported by the class's batch; `true`: there is a count.
    fn condemn(&mut self, spool: &Classes, class: Class, bytes: u64) -> bool {
        let room = spool.condemn_oldest(bytes);
        self.report_condemned(class, &room);
        if room.frames > 0 {
            tracing::warn!(
                frames = room.frames,
                readings = room.readings,
                priority_readings = room.priority_readings,
                "the spool is at bytes_max: its oldest frames are dropped and counted"
            );
        }
        room.frames > 0
    }

    /// Into the next header: the readings that go, and what their own headers would have reported.
    fn report_condemned(&mut self, class: Class, condemned: &Condemned) {
        self.give_up(class, Drop::SpoolFull, condemned.readings);
        self.done.priority_dropped += condemned.priority_readings;
        for cause in Drop::ALL {
            let readings = condemned.reported.get(cause);
            if readings > 0 {
                self.batches.open(class).count_drop(cause, readings);
            }
        }
    }

    /// Appends until the spool takes the frame; `false` if it did not by the end of the drain.
    async fn store(
        &mut self,
        (spool, class): (&Classes, Class),
        frame: &[u8],
        readings: u32,
        phase: &mut watch::Receiver<Phase>,
    ) -> bool {
        let mut waiting = false;
        loop {
            let deadline = phase.borrow().deadline();
            // Nothing leaves the frames that wait for the clock before this one is there.
            let clock_came = waiting && self.batches.unset.is_some() && self.clock.is_set_now();
            let error = match spool.append(class, frame, readings, deadline.is_some() || clock_came) {
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
                    if let Some(freed) = spool.free_oldest() {
                        tracing::warn!(
                            frames = freed.frames,
                            readings = freed.readings,
                            priority_readings = freed.priority_readings,
                            "the disk is full: the spool's oldest frames are dropped and counted"
                        );
                        self.report_condemned(class, &freed);
                        continue;
                    }
                }
                AppendError::Full { .. } | AppendError::Write { .. } => {}
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                tracing::error!(readings, "the spool took no frame until the end");
                return false;
            }
            tokio::select! {
                () = spool.room_made() => {}
                () = intake_stops(phase), if deadline.is_none() => {}
                () = sleep(DISK_RETRY) => {}
            }
        }
    }
}
