//! The running parts of a gateway: started together, told of new settings, ended in order.
//!
//! Each part hears of its own end through a phase of its own, so that one source or the uplink can be
//! ended and started anew, by the very same protocol as at shutdown, while the others go on.

mod spools;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::RunError;
use crate::batcher::undated::Undated;
use crate::batcher::{Batcher, Judging};
use crate::clock::Clock;
use crate::config::{Config, UplinkConfig};
use crate::contract_update::{self, Ranges, Settings, Updates};
use crate::health::{Live, Sealing, Sending};
use crate::phase::Phase;
use crate::source::{CHUNKS_MAX, Input, Sources};
use crate::spool::Classes;
#[cfg(feature = "aws")]
use crate::uplink::bulk::{S3, WithBulk};
use crate::uplink::inbox::Inbox;
use crate::uplink::lake::Lake;
use crate::uplink::mqtt::Mqtt;
use crate::uplink::{self, BackoffConfig};

pub(crate) use spools::Spools;

/// The open batch is built on its thread's stack before it moves to the heap.
const BATCHER_STACK_BYTES: usize = 16 << 20;

/// Pushed contracts that wait; the newest tells all.
const CONTRACTS_WAITING_MAX: usize = 2;

/// Sources, batcher, uplink and the spools' syncer, at work.
pub(crate) struct Parts {
    sources: Sources,
    judging: watch::Sender<Judging>,
    batcher_phase: watch::Sender<Phase>,
    batcher: JoinHandle<Result<Sealing, RunError>>,
    uplink: RunningUplink,
    updates: Arc<Mutex<Updates>>,
    updater: JoinHandle<()>,
    inbox: Inbox,
    syncer: JoinHandle<()>,
    syncing: oneshot::Sender<()>,
    spool: Arc<Classes>,
    live: Arc<Live>,
}

impl Parts {
    /// Starts all of them. `way` is what the certificates were read for.
    pub fn start(
        config: &Config,
        (way, boot): (Way, u64),
        inputs: Vec<Input>,
        (spools, undated): (Spools, Undated),
        live: Arc<Live>,
    ) -> Result<Self, RunError> {
        let (chunks, received) = mpsc::channel(CHUNKS_MAX);
        let sources = Sources::start(&config.sources, inputs, chunks)?;
        let updates = Updates::open(&config.spool.dir, settings(config), std::time::Instant::now());
        let judging = watch::Sender::new(Judging { batch: config.batch.clone(), ranges: updates.ranges() });
        let (batcher_phase, phases) = watch::channel(Phase::Running);
        let batcher = {
            let (judging, live) = (judging.subscribe(), Arc::clone(&live));
            let (name, state_dir) = (config.name.clone(), config.spool.dir.clone());
            let priority_channels = config.priority_channels.clone();
            let (spool, clock) = (Arc::clone(&spools.sent), config.clock.clone());
            batcher_thread(Handle::current(), move || {
                let Judging { batch, ranges: Ranges { range, trial } } = judging.borrow().clone();
                let clock = (Clock::system(&clock, &state_dir), state_dir);
                let batcher = Batcher::new((&name, boot), batch, range, (spool, undated), clock)?;
                let batcher = batcher.with_priority(&priority_channels).with_trial(trial);
                let counts = live.sealing.clone();
                Ok(async move { live.batcher.beside(batcher.run(received, phases, judging, counts)).await })
            })?
        };
        let spool = Arc::clone(&spools.sent);
        let inbox = Inbox::new(CONTRACTS_WAITING_MAX);
        let uplink = RunningUplink::start(way.hearing(config, &inbox), config.backoff, &spool, &live);
        let updates = Arc::new(Mutex::new(updates));
        let updater = tokio::spawn(contract_update::keep(
            Arc::clone(&updates),
            inbox.clone(),
            judging.clone(),
            Arc::clone(&live),
        ));
        let fsync_interval = Duration::from_millis(config.spool.fsync_interval_ms);
        let (syncing, ended) = oneshot::channel();
        let syncer = tokio::spawn(spools.sync_every(fsync_interval, ended));
        Ok(Self {
            sources,
            judging,
            batcher_phase,
            batcher,
            uplink,
            updates,
            updater,
            inbox,
            syncer,
            syncing,
            spool,
            live,
        })
    }

    /// Waits until every source has come to its end by itself. Can be given up and asked again.
    pub async fn sources_end(&mut self) {
        self.sources.end().await;
    }

    /// Lets new settings take effect. The uplink connects anew in any case.
    ///
    /// # Errors
    /// The certificates cannot be used: nothing was changed.
    pub async fn apply(&mut self, new: &Config) -> Result<(), RunError> {
        let way = Way::new(new)?;
        {
            let mut updates = self.updates.lock().unwrap_or_else(PoisonError::into_inner);
            updates.reconfigure(settings(new), std::time::Instant::now());
            self.judging.send_replace(Judging { batch: new.batch.clone(), ranges: updates.ranges() });
        }
        self.uplink.end(Instant::now()).await;
        self.uplink =
            RunningUplink::start(way.hearing(new, &self.inbox), new.backoff, &self.spool, &self.live);
        self.sources.change(&new.sources).await;
        Ok(())
    }

    /// Stops intake, seals and stores what is in memory, sends what it can until `deadline`.
    pub async fn end(mut self, deadline: Instant) -> Result<(Sealing, Sending), RunError> {
        self.batcher_phase.send_replace(Phase::Sealing(deadline));
        self.uplink.phase.send_replace(Phase::Sealing(deadline));
        self.sources.stop(deadline).await;
        let sealing = self.batcher.await.map_err(io::Error::other)??;
        self.uplink.end(deadline).await;
        self.updater.abort();
        drop(self.syncing);
        self.syncer.await.map_err(io::Error::other)?;
        let sending = self.live.sending.borrow().clone();
        Ok((sealing, sending))
    }
}

/// A way to bronze that is ready to connect: what can be wrong with certificates was found.
pub(crate) enum Way {
    Lake(Lake),
    Mqtt(Mqtt),
    #[cfg(feature = "aws")]
    MqttAndS3(Mqtt, Box<S3>),
}

impl Way {
    pub fn new(config: &Config) -> Result<Self, RunError> {
        let mqtt = match &config.uplink {
            UplinkConfig::Lake(lake) => return Ok(Self::Lake(Lake::new(lake.clone()))),
            UplinkConfig::Mqtt(mqtt) => Mqtt::new(mqtt.clone())?,
        };
        #[cfg(feature = "aws")]
        if let Some(bulk) = &config.bulk {
            return Ok(Self::MqttAndS3(mqtt, Box::new(S3::new(bulk.clone())?)));
        }
        Ok(Self::Mqtt(mqtt))
    }
}

impl Way {
    /// Pushed contracts go to the inbox. Only a broker has topics.
    fn hearing(mut self, config: &Config, inbox: &Inbox) -> Self {
        if let Some(updates) = &config.contract_updates {
            match &mut self {
                Self::Mqtt(mqtt) => mqtt.subscribe(updates.topic.as_str(), inbox.clone()),
                #[cfg(feature = "aws")]
                Self::MqttAndS3(mqtt, _) => mqtt.subscribe(updates.topic.as_str(), inbox.clone()),
                Self::Lake(_) => {
                    tracing::warn!("range.contract_topic is not heard: the uplink is no broker");
                }
            }
        }
        self
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        updates: config.contract_updates.clone(),
        configured: config.range.clone(),
        policy: config.range_policy.clone(),
    }
}

struct RunningUplink {
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
}

impl RunningUplink {
    fn start(way: Way, backoff: BackoffConfig, spool: &Arc<Classes>, live: &Arc<Live>) -> Self {
        let (phase, phases) = watch::channel(Phase::Running);
        let (spool, live) = (Arc::clone(spool), Arc::clone(live));
        let task = tokio::spawn(async move {
            let counts = live.sending.clone();
            let drain = async {
                match way {
                    Way::Lake(lake) => uplink::drain(lake, spool, backoff, phases, counts).await,
                    Way::Mqtt(mqtt) => uplink::drain(mqtt, spool, backoff, phases, counts).await,
                    #[cfg(feature = "aws")]
                    Way::MqttAndS3(mqtt, s3) => {
                        let both = WithBulk::new(mqtt, *s3, Arc::clone(&spool));
                        uplink::drain(both, spool, backoff, phases, counts).await
                    }
                }
            };
            live.uplink.beside(drain).await;
        });
        Self { phase, task }
    }

    /// What is not confirmed by `deadline` is the spool's again.
    async fn end(&mut self, deadline: Instant) {
        self.phase.send_replace(Phase::Draining(deadline));
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the uplink failed; what was not confirmed stays in the spool");
        }
    }
}

/// The batcher codes and writes to disk, so it has a thread of its own, with room to build the batch.
fn batcher_thread<F>(
    runtime: Handle,
    start: impl FnOnce() -> Result<F, RunError> + Send + 'static,
) -> io::Result<JoinHandle<Result<Sealing, RunError>>>
where
    F: Future<Output = Sealing>,
{
    let waiter = runtime.clone();
    let thread = thread::Builder::new()
        .name("batcher".into())
        .stack_size(BATCHER_STACK_BYTES)
        .spawn(move || start().map(|batcher| runtime.block_on(batcher)))?;
    Ok(waiter.spawn_blocking(move || {
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the batcher panicked").into()))
    }))
}
