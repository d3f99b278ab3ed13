//! The two spools of a run, opened, synced and closed together: frames to send, and frames that wait for
//! the clock.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::batcher::undated::Undated;
use crate::config::Config;
use crate::spool::{Classes, Recovered, SpoolError, SpoolState};
use crate::{RunError, blocking, clock};

/// Both spools; whoever writes or reads one has a share in it.
#[derive(Clone)]
pub(crate) struct Spools {
    /// What the uplink sends.
    pub sent: Arc<Classes>,
    /// What waits for the clock.
    pub undated: Arc<Classes>,
    /// What former runs left in `sent`.
    pub recovered: Recovered,
}

impl Spools {
    /// Takes the locks and recovers what former runs left, also for the batcher: its side of the second one.
    pub async fn open(config: &Config) -> Result<(Self, Undated), RunError> {
        let (spool, clock) = (config.spool.clone(), config.clock.clone());
        let has_priority = !config.priority_channels.is_empty();
        let ((sent, recovered), (undated, waiting)) = blocking(move || {
            let opened = Classes::open(spool.clone(), has_priority)?;
            Ok::<_, SpoolError>((opened, Undated::open(&spool, &clock, clock::machine_boot())?))
        })
        .await??;
        if recovered.frames > 0 || recovered.damaged_frames > 0 || recovered.torn_bytes > 0 {
            tracing::info!(?recovered, "the spool holds what a former run left");
        }
        if waiting.frames > 0 {
            tracing::info!(?waiting, "frames of a former run wait for the clock");
        }
        Ok((Self { sent: Arc::new(sent), undated: Arc::clone(undated.spool()), recovered }, undated))
    }

    /// Group fsync; with an interval of 0 each append syncs, and only the cursor is left to write.
    /// Done when the other end of `ended` is dropped, and not in the middle of an fsync.
    pub async fn sync_every(self, interval: Duration, mut ended: oneshot::Receiver<()>) {
        let interval = if interval.is_zero() { Duration::from_secs(1) } else { interval };
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                _ = &mut ended => return,
            }
            for spool in [&self.sent, &self.undated] {
                let syncing = Arc::clone(spool);
                if let Ok(Err(error)) = blocking(move || syncing.sync()).await {
                    tracing::error!(%error, "fsync of the spool failed; what was appended since the last one is in doubt");
                }
            }
        }
    }

    /// Syncs both, and leaves them for the next run.
    pub async fn close(&self) -> io::Result<()> {
        for spool in [&self.sent, &self.undated] {
            let closing = Arc::clone(spool);
            if let Err(error) = blocking(move || closing.close()).await? {
                tracing::error!(%error, "the spool's last fsync failed; a power cut now may lose its newest frames");
            }
        }
        Ok(())
    }

    /// What is in them now: to send, and waiting for the clock.
    pub fn states(&self) -> (SpoolState, SpoolState) {
        (self.sent.state(), self.undated.state())
    }
}
