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
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn waiting_work_beats_a_stuck_thread_does_not_and_done_work_need_not() {
        let beat = Arc::new(Beat::default());
        let hung = Arc::new(AtomicBool::new(true));
        let worker = thread::spawn({
            let (beat, hung) = (Arc::clone(&beat), Arc::clone(&hung));
            move || {
                let work = async {
                    tokio::time::sleep(3 * BEAT_EVERY / 2).await;
                    while hung.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(5));
                    }
                };
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(beat.beside(work));
            }
        });
        thread::sleep(3 * BEAT_EVERY);
        let last_ms = beat.last_ms.load(Ordering::Relaxed);
        assert!(last_ms >= 900, "it beat while it waited: {last_ms}");
        assert!(beat.age() > BEAT_EVERY, "it does not beat while it hangs: {:?}", beat.age());
        hung.store(false, Ordering::Relaxed);
        worker.join().unwrap();
        assert!(beat.age().is_zero());
    }
}
