//! An MQTT 5 broker inside the process, for the demo and for tests, with failures on demand.
//!
//! It keeps the promise that a spool relies on: a PUBACK is sent only when the message is in the queue
//! of every session that subscribed to it, and a session outlives its connections while the broker
//! lives (unless its client asked for no expiry). At a full queue the PUBACK waits: back pressure.
//! Everything is in memory. There are no QoS 2, retained messages, wills, shared subscriptions, topic
//! aliases, TLS or authentication; it listens on loopback only. On demand it keeps AWS IoT Core's limits
//! ([`Limits`]).

mod connection;
mod limits;
mod packets;
mod session;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use limits::Limits;
use session::Sessions;

/// Largest payload of a message: AWS IoT Core's limit. A publisher of more is disconnected.
pub const PAYLOAD_BYTES_MAX: usize = 128 * 1024;
/// Largest packet: a payload with the header room that AWS IoT Core gives (its CONNACK says 149,504).
pub const PACKET_BYTES_MAX: u32 = 149_504;
/// Unacknowledged QoS 1 messages in each direction of a connection; at the limit, more wait.
pub const IN_FLIGHT_MAX: u16 = 100;
/// Messages that a session holds, in flight ones included; at the limit, publishers wait.
pub const QUEUE_MESSAGES_MAX: usize = 1000;
/// How long a new connection may take to say CONNECT.
pub const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// What the broker does wrong, on demand. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct BrokerFaults {
    /// Times without service.
    pub outages: Vec<Outage>,
    /// Every n-th published message is queued twice.
    pub duplicate_every: Option<NonZeroU64>,
    /// At every n-th QoS 1 message the connection breaks before its PUBACK; the message is kept.
    /// A client whose window is resent whole makes progress from 2 on.
    pub lost_puback_every: Option<NonZeroU64>,
}

/// A time without service: connections are dropped, new ones closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// From the broker's start.
    pub after: Duration,
    /// How long.
    pub lasts: Duration,
}

/// What the broker has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerStats {
    /// CONNECTs accepted.
    pub connects: u64,
    /// Connections closed at once because of an outage.
    pub refused: u64,
    /// PUBLISH packets received, repeated ones included.
    pub published: u64,
    /// PUBACKs given to publishers.
    pub pubacks: u64,
    /// PUBACKs swallowed, with their connection, by [`BrokerFaults::lost_puback_every`].
    pub pubacks_lost: u64,
    /// Messages queued a second time by [`BrokerFaults::duplicate_every`].
    pub duplicated: u64,
    /// PUBLISH packets sent to subscribers, repeated ones included.
    pub delivered: u64,
    /// PUBACKs received from subscribers.
    pub delivered_pubacks: u64,
    /// PUBLISH packets above [`Limits::publishes_per_s`], discarded without a PUBACK.
    pub throttled: u64,
    /// PUBLISH packets above [`Limits::bytes_per_s`], delayed.
    pub delayed: u64,
    /// Connections that had more in flight than [`Limits::in_flight_max`].
    pub overrun: u64,
    /// Messages larger than their subscriber said it takes; MQTT has the server discard these.
    pub too_large: u64,
}

#[derive(Default)]
struct Counters {
    connects: AtomicU64,
    refused: AtomicU64,
    published: AtomicU64,
    /// The QoS 1 part of `published`, which [`BrokerFaults::lost_puback_every`] counts by.
    published_qos1: AtomicU64,
    pubacks: AtomicU64,
    pubacks_lost: AtomicU64,
    duplicated: AtomicU64,
    delivered: AtomicU64,
    delivered_pubacks: AtomicU64,
    throttled: AtomicU64,
    delayed: AtomicU64,
    overrun: AtomicU64,
    too_large: AtomicU64,
}

/// Adds one, and gives the new count.
fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed) + 1
}

/// Whether the broker serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Service {
    /// Outages going on now; they may overlap.
    outages: u32,
    stopped: bool,
}

impl Service {
    fn is_up(&self) -> bool {
        self.outages == 0 && !self.stopped
    }
}

/// What all connections share.
struct Shared {
    sessions: Sessions,
    counters: Counters,
    faults: BrokerFaults,
    limits: Option<Limits>,
    service: watch::Sender<Service>,
}

/// A running broker; dropping it stops it.
pub struct Broker {
    addr: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Broker {
    /// Listens on a free loopback port. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system gives no port.
    pub async fn start(faults: BrokerFaults) -> io::Result<Self> {
        Self::start_with(faults, None).await
    }

    /// The same with limits on each connection.
    ///
    /// # Errors
    /// The system gives no port.
    pub async fn start_limited(faults: BrokerFaults, limits: Limits) -> io::Result<Self> {
        Self::start_with(faults, Some(limits)).await
    }

    async fn start_with(faults: BrokerFaults, limits: Option<Limits>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            sessions: Sessions::default(),
            counters: Counters::default(),
            faults,
            limits,
            service: watch::Sender::default(),
        });
        let mut tasks = vec![tokio::spawn(accept(listener, shared.clone()))];
        for Outage { after, lasts } in shared.faults.outages.clone() {
            let shared = shared.clone();
            tasks.push(tokio::spawn(async move {
                tokio::time::sleep(after).await;
                shared.outage(lasts).await;
            }));
        }
        Ok(Self { addr, shared, tasks })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has done so far.
    pub fn stats(&self) -> BrokerStats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BrokerStats {
            connects: read(&counters.connects),
            refused: read(&counters.refused),
            published: read(&counters.published),
            pubacks: read(&counters.pubacks),
            pubacks_lost: read(&counters.pubacks_lost),
            duplicated: read(&counters.duplicated),
            delivered: read(&counters.delivered),
            delivered_pubacks: read(&counters.delivered_pubacks),
            throttled: read(&counters.throttled),
            delayed: read(&counters.delayed),
            overrun: read(&counters.overrun),
            too_large: read(&counters.too_large),
        }
    }

    /// Messages that wait in sessions for delivery or for their subscriber's PUBACK.
    pub fn queued(&self) -> usize {
        self.shared.sessions.queued()
    }

    /// Begins an outage now, which ends by itself. Sessions and their queues survive it.
    pub fn outage(&self, lasts: Duration) {
        // Begun here, not in the task, so that it has begun when this returns.
        self.shared.begin_outage();
        let shared = self.shared.clone();
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            shared.end_outage();
        });
    }

    /// Drops all connections and stops listening.
    pub fn stop(&self) {
        self.shared.service.send_modify(|service| service.stopped = true);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn begin_outage(&self) {
        self.service.send_modify(|service| service.outages += 1);
    }

    fn end_outage(&self) {
        self.service.send_modify(|service| service.outages -= 1);
    }

    async fn outage(&self, lasts: Duration) {
        self.begin_outage();
        tokio::time::sleep(lasts).await;
        self.end_outage();
    }
}

/// Accepts connections until the task is aborted.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    for connection in 1_u64.. {
        match listener.accept().await {
            Ok((socket, _)) if shared.service.borrow().is_up() => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    let mut service = shared.service.subscribe();
                    tokio::select! {
                        ended = connection::serve(&shared, socket, connection) => {
                            if let Err(reason) = ended {
                                tracing::debug!(connection, %reason, "MQTT connection ended");
                            }
                        }
                        _ = service.wait_for(|service| !service.is_up()) => {}
                    }
                    shared.sessions.disconnected(connection);
                });
            }
            Ok(_) => {
                count(&shared.counters.refused);
            }
            // Out of file descriptors, most likely: connections that end free some.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
