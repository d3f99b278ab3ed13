//! The released gateway from its standard input to a real Mosquitto over mutual TLS: readings a second on one
//! core, memory idle, under load and with a backlog, and how long a fresh reading takes while that drains.
//!
//! `cargo bench -p ingot-gateway -- [--readings N] [--gigabytes N] [--seconds N]`; needs `mosquitto` and
//! `taskset`, and disk for the backlog. The gateway has core 0 for itself, everything else the others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod backlog;
mod daemon;
mod idle;
mod load;
#[path = "../../tests/common/mosquitto.rs"]
mod mosquitto;
#[path = "../../tests/common/pki.rs"]
mod pki;
mod subscriber;

use std::path::{Path, PathBuf};

use clap::Parser;
use ingot_gateway::uplink::tls::TlsPaths;

use mosquitto::{ACL, Mosquitto};
use pki::{Ca, Validity};

#[derive(Parser)]
struct Arguments {
    /// Readings of the load
    #[arg(long, default_value_t = 5_000_000)]
    readings: u64,
    /// Size of the backlog
    #[arg(long, default_value_t = 1.0)]
    gigabytes: f64,
    /// How long the drain of the backlog is watched, with AWS's limits and without
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Where the spools are; the disk matters
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// A broker and the credentials of those who use it.
struct Place {
    broker: Mosquitto,
    gateway: TlsPaths,
    witness: TlsPaths,
}

impl Place {
    fn new(dir: &Path) -> Self {
        let ca = Ca::new(dir, "ca");
        let broker = Mosquitto::start(dir, &ca.cert, &ca.server(Validity::NOW), ACL);
        let gateway = ca.tls(&ca.client("gw", Validity::NOW));
        let witness = ca.tls(&ca.client("bridge", Validity::NOW));
        Self { broker, gateway, witness }
    }
}

fn main() {
    let arguments = Arguments::parse();
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let place = Place::new(dir.path());
    idle::measure(&place, &dir.path().join("idle"));
    load::measure(&place, &dir.path().join("load"), arguments.readings);
    backlog::measure(&place, &dir.path().join("backlog"), arguments.gigabytes, arguments.seconds);
}
