//! From the sensors up to bronze: fleet, gateways, broker, landing, all at once.

use std::fs::File;
use std::io::BufWriter;
use std::pin::pin;
use std::time::Duration;

use ingot_gateway::config::{Config, Overrides};
use ingot_gateway::health::Summary as GatewaySummary;
use ingot_processor::lake::Lake;
use ingot_processor::land::{Landed, land};
use ingot_sim_sensors::noise;
use tokio::io::{AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::folder::Folder;
use super::{GATEWAYS, Progress, SPEED, Settings, broker_faults, now_ms, other};
use crate::truth::TruthWriter;
use crate::{Broker, BrokerStats, FaultCounts, FaultProfile, Fleet, FleetConfig, ndjson};

/// What a gateway's pipe holds before the fleet waits.
const PIPE_BYTES: usize = 64 * 1024;
/// How long the last messages may take from the broker to bronze.
const LANDING_MAX: Duration = Duration::from_secs(30);

/// What went up.
pub struct Uphill {
    /// What the sensors were made to do wrong.
    pub faults: FaultCounts,
    /// Each gateway's own summary.
    pub gateways: Vec<GatewaySummary>,
    /// What the broker saw.
    pub broker: BrokerStats,
    /// What was landed.
    pub landed: Landed,
    /// When the last reading was on its way: milliseconds since 1970-01-01 UTC.
    pub ended_ms: i64,
}

/// Produces, and returns when all that was produced is in bronze.
pub async fn climb(
    settings: &Settings,
    folder: &Folder,
    lake: &Lake,
    progress: &impl Fn(Progress),
) -> anyhow::Result<Uphill> {
    let broker = Broker::start(broker_faults(settings)).await?;
    let (stop_landing, stopped) = oneshot::channel::<()>();
    let landing = {
        let (lake, address) = (lake.clone(), broker.addr());
        let until = async move {
            let _ = stopped.await;
        };
        tokio::spawn(async move {
            land(&lake, &address.ip().to_string(), address.port(), "ingot-land", until).await
        })
    };

    let mut pipes = Vec::with_capacity(GATEWAYS);
    let mut gateways = Vec::with_capacity(GATEWAYS);
    for number in 1..=GATEWAYS {
        let (pipe, gateway) = start_gateway(&format!("edge-{number}"), &broker, folder)?;
        pipes.push(pipe);
        gateways.push(gateway);
    }
    let faults = produce(settings, folder, pipes, progress).await?;
    let ended_ms = now_ms();
    progress(Progress::Draining);
    let mut summaries = Vec::with_capacity(GATEWAYS);
    for gateway in gateways {
        summaries.push(gateway.await??);
    }

    // What the broker has acknowledged to a gateway it keeps until landing has acknowledged it.
    let patience = Instant::now() + LANDING_MAX;
    while broker.queued() > 0 && Instant::now() < patience {
        sleep(Duration::from_millis(20)).await;
    }
    let _ = stop_landing.send(());
    let landed = landing.await??;
    let stats = broker.stats();
    broker.stop();
    Ok(Uphill { faults, gateways: summaries, broker: stats, landed, ended_ms })
}

type Gateway = JoinHandle<Result<GatewaySummary, ingot_gateway::RunError>>;

/// A real gateway whose only source is a pipe of NDJSON.
fn start_gateway(name: &str, broker: &Broker, folder: &Folder) -> anyhow::Result<(DuplexStream, Gateway)> {
    let settings = format!(
        "source = []\n\
         [batch]\nage_ms_max = 1000\n\
         [uplink]\nbackoff_base_ms = 50\nbackoff_cap_ms = 500\n\
         [uplink.mqtt]\nhost = \"{}\"\nport = {}\n",
        broker.addr().ip(),
        broker.addr().port()
    );
    let overrides = Overrides { name: Some(name.to_owned()), spool: Some(folder.spool(name)), lake: None };
    let config = Config::from_toml(&settings, overrides)?;
    let (pipe, source) = duplex(PIPE_BYTES);
    let input: ingot_gateway::Input = Box::new(BufReader::new(source));
    let gateway = tokio::spawn(ingot_gateway::run(config, vec![input], std::future::pending()));
    Ok((pipe, gateway))
}

/// Feeds the gateways in the fleet's own time, [`SPEED`] times as fast as the clock. Each reading is in
/// the truth before it is on its way.
async fn produce(
    settings: &Settings,
    folder: &Folder,
    mut pipes: Vec<DuplexStream>,
    progress: &impl Fn(Progress),
) -> anyhow::Result<FaultCounts> {
    let span_ms = settings.seconds as i64 * 1_000 * i64::from(SPEED);
    let start_ms = now_ms() - span_ms;
    let mut fleet = Fleet::new(&FleetConfig {
        devices: settings.devices,
        seed: settings.seed,
        rate: settings.rate / f64::from(SPEED),
        start_ms,
        seconds: settings.seconds * u64::from(SPEED),
        faults: if settings.faults { FaultProfile::TYPICAL } else { FaultProfile::OFF },
    });
    let mut truth = TruthWriter::new(BufWriter::new(File::create(folder.truth_path())?))?;
    let began = Instant::now();
    let mut sent_ms = start_ms;
    for emission in fleet.by_ref() {
        if emission.sent_ms > sent_ms {
            sent_ms = emission.sent_ms;
            let elapsed = (sent_ms - start_ms) as f64 / 1_000.0 / f64::from(SPEED);
            progress(Progress::Producing(elapsed));
            pin!(sleep_until(began + Duration::from_secs_f64(elapsed))).await;
        }
        if !emission.resend {
            truth.write(&emission.sample)?;
        }
        let mut line = Vec::new();
        ndjson::write_line(&mut line, &emission.sample)?;
        let gateway = noise::key(&emission.sample.device) as usize % pipes.len();
        pipes[gateway].write_all(&line).await.map_err(other)?;
    }
    truth.finish()?;
    Ok(fleet.fault_counts())
}
