//! From the spool to the cloud: a window of frames in flight, each acknowledged or given back.
//!
//! The spool alone decides what is sent again. When a connection is lost, everything that it had not
//! confirmed goes back and is sent again over the next one, under the same identity; duplicates are the
//! cloud's to recognise. Waits grow exponentially with full jitter, so that a fleet does not return in
//! step. A refused frame waits alone; the others pass it. Frames leave the spool only at the pace and up to
//! the bytes in flight that the far end takes, so that what is chosen to be next is chosen late.

#[cfg(feature = "aws")]
pub mod bulk;
pub mod inbox;
pub mod lake;
pub mod limits;
pub mod mqtt;
pub mod pace;
mod reasons;
mod session;
pub mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::health::{Link, Sending};
use crate::phase::Phase;
use crate::spool::{Classes, Spooled};
use limits::Limits;
use session::{End, Session};

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
    sending.link = Link { connected: false, in_flight: 0, ..sending.link };
    live.send_replace(sending.clone());
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
