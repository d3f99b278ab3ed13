//! One connection's life: a window of frames in flight, filled from the spool at the far end's pace, each
//! frame acknowledged or given back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::limits::{HEADER_BYTES_MAX, Limits};
use super::pace::Pacer;
use super::{BackoffConfig, SendError, Uplink};
use crate::health::Sending;
use crate::phase::Phase;
use crate::spool::{Classes, Place};

/// A frame that is too large is tried, and told of, once in this time: the far end may take more by then.
const TOO_LARGE_WAIT: Duration = Duration::from_secs(3_600);

/// Why a session ended.
pub(super) enum End {
    Drained,
    Failed(String),
}

/// One connection's life.
pub(super) struct Session<'a, U> {
    uplink: &'a U,
    spool: &'a Arc<Classes>,
    backoff: BackoffConfig,
    sending: &'a mut Sending,
    live: &'a watch::Sender<Sending>,
    in_flight: JoinSet<(Sent, Result<(), SendError>)>,
    in_flight_bytes: u64,
    limits: Limits,
    pacer: Pacer,
    /// How often each waiting frame was refused.
    refused: HashMap<Place, u32>,
    last_news: Instant,
    /// The far end has confirmed a frame over this connection.
    pub(super) confirmed: bool,
}

/// A frame in flight.
struct Sent {
    place: Place,
    readings: u32,
    bytes: u64,
}

impl<'a, U: Uplink> Session<'a, U> {
    pub(super) fn new(
        uplink: &'a U,
        spool: &'a Arc<Classes>,
        backoff: BackoffConfig,
        sending: &'a mut Sending,
        live: &'a watch::Sender<Sending>,
    ) -> Self {
        sending.link.connected = true;
        Self {
            uplink,
            spool,
            backoff,
            sending,
            live,
            in_flight: JoinSet::new(),
            in_flight_bytes: 0,
            limits: uplink.limits(),
            pacer: Pacer::new(uplink.limits().pace()),
            refused: HashMap::new(),
            last_news: Instant::now(),
            confirmed: false,
        }
    }

    /// Sends until the run ends or the connection is lost.
    pub(super) async fn run(&mut self, phase: &mut watch::Receiver<Phase>) -> End {
        let end = self.send_all(phase).await;
        // Whatever is still in flight is the spool's again; a late confirmation costs a re-send.
        self.in_flight.shutdown().await;
        self.spool.give_back_all();
        end
    }

    async fn send_all(&mut self, phase: &mut watch::Receiver<Phase>) -> End {
        loop {
            if let Err(error) = self.fill().await {
                return End::Failed(format!("the spool cannot be read: {error}"));
            }
            self.sending.link.in_flight = self.in_flight.len();
            self.live.send_replace(self.sending.clone());
            let now = *phase.borrow_and_update();
            let drained = matches!(now, Phase::Draining(_))
                && self.in_flight.is_empty()
                && self.spool.state().frames == 0;
            if drained || now.deadline().is_some_and(|deadline| Instant::now() >= deadline) {
                return End::Drained;
            }
            let busy = !self.in_flight.is_empty();
            let silent_at = self.last_news + self.uplink.silence_max();
            let far = Instant::now() + Duration::from_secs(86_400);
            let paced_until = self.pacer.wait_until(std::time::Instant::now());
            let next_at = paced_until.or_else(|| self.spool.retry_at()).map_or(far, Instant::from_std);
            tokio::select! {
                Some(sent) = self.in_flight.join_next(), if busy => {
                    if let Some(end) = self.settle(sent) {
                        return end;
                    }
                }
                () = self.spool.frames_changed() => {}
                () = sleep_until(next_at), if self.has_window() => {}
                () = sleep_until(silent_at), if busy => {
                    return End::Failed(format!("nothing was confirmed for {} ms", self.uplink.silence_max().as_millis()));
                }
                () = sleep_until(now.deadline().unwrap_or(far)) => {}
                _ = phase.changed() => {}
            }
        }
    }

    fn has_window(&self) -> bool {
        let frames = self.in_flight.len();
        let bytes = self.in_flight_bytes.saturating_add(self.limits.frame_bytes_max);
        frames == 0 || frames < self.uplink.in_flight_max() && bytes <= self.limits.in_flight_bytes_max
    }

    /// Takes frames from the spool while the window has room and the pace allows.
    async fn fill(&mut self) -> std::io::Result<()> {
        while self.has_window() && self.pacer.wait_until(std::time::Instant::now()).is_none() {
            let (spool, pending_max) = (Arc::clone(self.spool), self.uplink.in_flight_max());
            let taken =
                tokio::task::spawn_blocking(move || spool.take(std::time::Instant::now(), pending_max)).await;
            let Some((place, frame)) = taken.map_err(std::io::Error::other)?? else {
                break;
            };
            if self.in_flight.is_empty() {
                self.last_news = Instant::now();
            }
            let (readings, bytes) = (frame.readings, frame.bytes.len() as u64);
            let sending = self.uplink.send(frame);
            self.pacer.sent(std::time::Instant::now(), bytes + HEADER_BYTES_MAX);
            self.in_flight_bytes += bytes;
            self.in_flight.spawn(async move { (Sent { place, readings, bytes }, sending.await) });
        }
        Ok(())
    }

    /// Acknowledges, or gives back; the session ends if the connection is lost.
    fn settle(&mut self, sent: Result<(Sent, Result<(), SendError>), JoinError>) -> Option<End> {
        let (Sent { place, readings, bytes }, result) = match sent {
            Ok(sent) => sent,
            Err(error) => return Some(End::Failed(format!("sending failed: {error}"))),
        };
        self.in_flight_bytes -= bytes;
        match result {
            Ok(()) => {
                self.spool.ack(place);
                self.refused.remove(&place);
                self.sending.acked_frames += 1;
                self.sending.acked_readings += u64::from(readings);
                self.last_news = Instant::now();
                self.sending.link.last_ack = Some(self.last_news);
                self.confirmed = true;
                None
            }
            Err(SendError::Refused(why)) => {
                let times = self.refused.entry(place).or_default();
                *times += 1;
                self.sending.refusals += 1;
                let wait = self.backoff.wait(*times, fastrand::f64());
                tracing::warn!(
                    why,
                    times = *times,
                    wait_ms = wait.as_millis() as u64,
                    "a frame was refused; it stays in the spool and is tried again"
                );
                self.spool.give_back(place, std::time::Instant::now() + wait);
                self.last_news = Instant::now();
                None
            }
            Err(SendError::TooLarge { bytes, bytes_max }) => {
                self.sending.refusals += 1;
                tracing::error!(
                    bytes,
                    bytes_max,
                    wait_s = TOO_LARGE_WAIT.as_secs(),
                    "a frame is larger than the broker takes; it stays in the spool alone. Raise the broker's \
                     limit, and lower batch.frame_bytes_max for the frames to come"
                );
                self.spool.give_back(place, std::time::Instant::now() + TOO_LARGE_WAIT);
                self.last_news = Instant::now();
                None
            }
            Err(SendError::Lost) => Some(End::Failed(SendError::Lost.to_string())),
        }
    }
}
