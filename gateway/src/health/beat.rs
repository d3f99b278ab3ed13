//! A sign of life: a task beats each second as long as its thread gets round to it.
//!
//! A task that waits (for room, for a connection) beats; one whose thread hangs in the disk does not.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

/// From one beat to the next.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);

/// The work is done; nobody waits for a beat any more.
const DONE: u64 = u64::MAX;

/// When a task last beat.
#[derive(Debug)]
pub struct Beat {
    since: Instant,
    last_ms: AtomicU64,
}

impl Default for Beat {
    fn default() -> Self {
        Self { since: Instant::now(), last_ms: AtomicU64::new(0) }
    }
}

impl Beat {
    /// Does `work` and beats beside it, in the same task.
    pub async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut ticks = interval(BEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                output = &mut work => {
                    self.last_ms.store(DONE, Ordering::Relaxed);
                    return output;
                }
                _ = ticks.tick() => self.last_ms.store(self.now_ms(), Ordering::Relaxed),
            }
        }
    }

    /// Time since the last beat; zero when the work is done.
    pub fn age(&self) -> Duration {
        match self.last_ms.load(Ordering::Relaxed) {
            DONE => Duration::ZERO,
            last_ms => Duration::from_millis(self.now_ms().saturating_sub(last_ms)),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(DONE - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[tokio::test(flavor = "multi_thread")]
    async fn waiting_work_beats_and_a_stuck_thread_does_not() {
        let beat = Arc::new(Beat::default());
        let working = Arc::clone(&beat);
        let task = tokio::spawn(async move {
            working
                .beside(async {
                    tokio::time::sleep(Duration::from_millis(1_500)).await;
                    thread::sleep(Duration::from_millis(2_500));
                })
                .await;
        });
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        assert!(beat.age() < Duration::from_millis(1_250), "{:?}", beat.age());
        tokio::time::sleep(Duration::from_millis(2_400)).await;
        assert!(beat.age() > Duration::from_millis(1_500), "{:?}", beat.age());
        assert!(task.await.is_ok() && beat.age().is_zero());
    }
}
