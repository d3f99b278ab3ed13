//! # ingot-gateway: from sources to bronze, with a disk in between
//!
//! The path of a reading, a file each: a source (one of those in [`source`]) offers it, the [`batcher`]
//! judges it ([`range`]) and seals it into a frame, the [`spool`] keeps the frame on disk,
//! the [`uplink`] ([`uplink::mqtt`], [`uplink::lake`]) sends it until the far end confirms it. Beside
//! the path: [`config`], [`clock`], [`key`] (topic and object key), [`phase`] (shutdown),
//! [`provision`] (the certificate). For those who look after it: [`health`], [`status`], [`doctor`], [`reload`], [`notify`], [`certificate`].
//!
//! Invariants: every frame goes through the spool, there is no live path beside it; a frame's identity
//! is fixed when it is sealed; a frame leaves the spool by a confirmation or by a counted drop; a slow
//! or full stage makes the one before it wait. Absent on purpose: any look inside a sealed frame beyond
//! its header, and any second way to count.

pub mod batcher;
pub mod certificate;
pub mod clock;
pub mod config;
pub mod contract_update;
pub mod doctor;
pub mod drops;
pub mod health;
pub mod key;
pub mod notify;
mod parts;
pub mod phase;
pub mod provision;
pub mod range;
pub mod reload;
#[cfg(feature = "aws")]
mod signed;
pub mod source;
pub mod spool;
pub mod status;
pub mod uplink;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use config::Config;
use health::server::Server;
use health::{Live, Summary};
use notify::Notifier;
use parts::{Parts, Spools, Way};
use reload::Reloads;
pub use source::Input;
use source::StartError;
use spool::SpoolError;
use uplink::tls::TlsError;

/// What the program around a run gives it: new settings, and an ear for how it goes.
#[derive(Debug)]
pub struct Host {
    /// Where new settings come from.
    pub reloads: Reloads,
    /// Who is told how the run goes.
    pub notifier: Notifier,
}

/// Why a run could not start or went wrong.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The certificates cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] TlsError),
    /// The roots for the direct path cannot be used.
    #[cfg(feature = "aws")]
    #[error("the direct path to S3 cannot be set up: {0}")]
    Bulk(#[from] uplink::bulk::PutError),
    /// No new boot could be noted.
    #[error("the run cannot be numbered in the spool's directory: {0}")]
    Boot(io::Error),
    /// The name cannot stand in a frame.
    #[error("the gateway's name: {0}")]
    Name(#[from] ingot_agent::DeclareError),
    /// A source cannot be opened.
    #[error(transparent)]
    Source(#[from] StartError),
    /// The system gave no thread, or a part of the gateway failed.
    #[error("the gateway failed: {0}")]
    Failed(#[from] io::Error),
}

/// Runs until all sources end or `shutdown` does, drains, and says what was done.
///
/// `inputs` are read as NDJSON beside the configured sources. Needs a tokio runtime of more than one
/// thread if sources or disk are to keep up while the other one works.
///
/// # Errors
/// It could not start; or a part of it failed, and what was stored by then is in the spool.
pub async fn run(
    config: Config,
    inputs: Vec<Input>,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, RunError> {
    let host = Host { reloads: Reloads::never(), notifier: Notifier::default() };
    run_hosted(config, inputs, host, shutdown).await
}

/// The same for a daemon, which is reloaded and watched.
///
/// # Errors
/// As [`run`].
pub async fn run_hosted(
    mut config: Config,
    inputs: Vec<Input>,
    Host { mut reloads, notifier }: Host,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, RunError> {
    let way = Way::new(&config)?;
    let opening = Spools::open(&config);
    let (spools, undated) = notifier.starting("reading what the spool holds", opening).await?;
    let boot = clock::next_boot(&config.spool.dir).map_err(RunError::Boot)?;
    tracing::info!(gateway = config.name, boot = format!("{boot:016x}"), "running");

    let both = (Arc::clone(&spools.sent), Arc::clone(&spools.undated));
    let live = Arc::new(Live::new((&config.name, boot), both, spools.recovered));
    let mut parts = Parts::start(&config, (way, boot), inputs, (spools.clone(), undated), Arc::clone(&live))?;
    let server = serve_health(&config, &live);
    let notifier = Arc::new(notifier);
    let watching = {
        let (notifier, live) = (Arc::clone(&notifier), Arc::clone(&live));
        tokio::spawn(async move { notifier.watch(live).await })
    };
    notifier.ready();

    let mut shutdown = pin!(shutdown);
    let sources_ended = loop {
        tokio::select! {
            () = parts.sources_end() => break true,
            () = &mut shutdown => break false,
            () = reloads.asked() => {
                notifier.reloading();
                if let Some(new) = reloads.load(&config) {
                    match parts.apply(&new).await {
                        Ok(()) => {
                            tracing::info!("the new settings are in effect");
                            config = new;
                        }
                        Err(error) => tracing::error!(%error, "the old settings stay in effect"),
                    }
                }
                notifier.ready();
            }
        }
    };
    notifier.stopping();
    tracing::info!(sources_ended, "intake has stopped; what is left is stored and sent");
    let (sealing, sending) = parts.end(Instant::now() + Duration::from_millis(config.drain_ms_max)).await?;
    watching.abort();
    let _ = watching.await;
    if let Some(server) = server {
        server.end().await;
    }

    spools.close().await?;
    let (spool, undated) = spools.states();
    let spools = (spools.recovered, spool, undated);
    Ok(Summary::new((config.name, boot), (sealing, sending), spools, sources_ended))
}

/// A gateway that cannot show how it is doing still does its work.
fn serve_health(config: &Config, live: &Arc<Live>) -> Option<Server> {
    Server::start(&config.health, Arc::clone(live)).unwrap_or_else(|error| {
        tracing::error!(listen = ?config.health, %error, "health and metrics cannot be served; the gateway goes on without");
        None
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}
