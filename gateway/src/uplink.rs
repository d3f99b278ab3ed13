//! From the spool to the cloud: a window of frames in flight, each acknowledged or given back.
//!
//! The spool alone decides what is sent again. When a connection is lost, everything that it had not
//! confirmed goes back and is sent again over the next one, under the same identity; duplicates are the
//! cloud's to recognise. Waits grow exponentially with full jitter, so that a fleet does not return in
//! step. A refused frame waits alone; the others pass it. Frames leave the spool only at the pace and up to
//! the bytes in flight that the far end takes, so that what is chosen to be next is chosen late.

pub mod inbox;
pub mod lake;
pub mod limits;
pub mod mqtt;
pub mod pace;
mod reasons;
pub mod tls;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::health::{Link, Sending};
use crate::phase::Phase;
use crate::spool::{Classes, Place, Spooled};
use limits::{HEADER_BYTES_MAX, Limits};
use pace::Pacer;

/// A way to bronze. Two exist: [`lake::Lake`] and [`mqtt::Mqtt`].
pub trait Uplink: Send {
    /// Frames that may be sent and not confirmed.
    fn in_flight_max(&self) -> usize;

    /// How fast, and how many bytes in flight.
    fn limits(&self) -> Limits;

    /// Frames in flight and none confirmed for this long: the connection is dead, whatever it says.
    fn silence_max(&self) -> Duration;

    /// Makes a new connection, and forgets the former one.
    fn connect(&mut self) -> impl Future<Output = Result<(), ConnectError>> + Send;

    /// Sends one frame over the current connection; done when the far end has it for good.
    fn send(&self, frame: Spooled) -> impl Future<Output = Result<(), SendError>> + Send + 'static;
}

/// No connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(pub String);

/// A frame was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection is gone; what happened to the frame is not known.
    #[error("the connection was lost")]
    Lost,
    /// The far end does not want this frame, now or ever; it stays in the spool and is tried again.
    #[error("refused: {0}")]
    Refused(String),
    /// It is larger than the far end takes; it stays in the spool, and the others pass it.
    #[error("a packet of {bytes} bytes, and the far end takes {bytes_max}")]
    TooLarge {
        /// Of the frame with topic and header.
        bytes: u64,
        /// What the far end takes.
        bytes_max: u64,
    },
}

/// A frame that is too large is tried, and told of, once in this time: the far end may take more by then.
const TOO_LARGE_WAIT: Duration = Duration::from_secs(3_600);

/// How long to wait after a failure: full jitter between 0 and the base doubled each time, up to a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// Upper end of the first wait, in milliseconds.
    pub base_ms: u64,
    /// Upper end of any wait, in milliseconds.
    pub cap_ms: u64,
}

impl BackoffConfig {
    /// The wait before try `failures + 1`; `random` is from 0 (inclusive) to 1.
    ///
    /// "Full jitter" after M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    pub fn wait(self, failures: u32, random: f64) -> Duration {
        let upper = self.base_ms.saturating_mul(1 << failures.saturating_sub(1).min(32)).min(self.cap_ms);
        Duration::from_millis((upper as f64 * random) as u64)
    }
}

/// Sends what is in the spool until the run's end; returns when the spool is drained or time is up.
/// Counts on from what `live` holds, and publishes there.
pub async fn drain(
    mut uplink: impl Uplink,
    spool: Arc<Classes>,
    backoff: BackoffConfig,
    mut phase: watch::Receiver<Phase>,
    live: watch::Sender<Sending>,
) -> Sending {
    let mut sending = live.borrow().clone();
    let mut failures = 0;
    loop {
        let failed = match until_deadline(&mut phase, uplink.connect()).await {
            None => return sending,
            Some(Err(error)) => error.to_string(),
            Some(Ok(())) => {
                if failures > 0 {
                    tracing::info!("connected again");
                }
                let mut session = Session::new(&uplink, &spool, backoff, &mut sending, &live);
                match session.run(&mut phase).await {
                    End::Drained => return sending,
                    End::Failed(why) => {
                        if session.confirmed {
                            failures = 0;
                        }
                        why
                    }
                }
            }
        };
        failures += 1;
        sending.outages += 1;
        sending.link = Link {
            failure: Some(failed.as_str().into()),
            last_ack: sending.link.last_ack,
            ..Link::default()
        };
        live.send_replace(sending.clone());
        let wait = backoff.wait(failures, fastrand::f64());
        tracing::warn!(
            why = failed,
            failures,
            wait_ms = wait.as_millis() as u64,
            "the uplink failed; frames wait in the spool"
        );
        if until_deadline(&mut phase, sleep(wait)).await.is_none() {
            return sending;
        }
    }
}

/// `work`'s output, or `None` when the run's deadline comes first.
async fn until_deadline<T>(phase: &mut watch::Receiver<Phase>, work: impl Future<Output = T>) -> Option<T> {
    let over = async {
        loop {
            let deadline = phase.borrow_and_update().deadline();
            let far = Instant::now() + Duration::from_secs(86_400);
            tokio::select! {
                () = sleep_until(deadline.unwrap_or(far)) => if deadline.is_some() { return },
                changed = phase.changed() => if changed.is_err() { return },
            }
        }
    };
    tokio::select! {
        biased;
        output = work => Some(output),
        () = over => None,
    }
}

/// Why a session ended.
enum End {
    Drained,
    Failed(String),
}

/// One connection's life.
struct Session<'a, U> {
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
    confirmed: bool,
}

/// A frame in flight.
struct Sent {
    place: Place,
    readings: u32,
    bytes: u64,
}

impl<'a, U: Uplink> Session<'a, U> {
    fn new(
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

    async fn run(&mut self, phase: &mut watch::Receiver<Phase>) -> End {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_are_jittered_from_zero() {
        let backoff = BackoffConfig { base_ms: 100, cap_ms: 1_000 };
        let upper: Vec<_> =
            [1, 2, 3, 4, 5, 99].map(|failures| backoff.wait(failures, 1.0).as_millis()).into();
        assert_eq!(upper, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.wait(5, 0.0), Duration::ZERO);
    }
}
