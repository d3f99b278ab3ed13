//! What an MQTT back end has to keep, over TLS against a real Mosquitto, with faults between the two.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/pki.rs"]
mod pki;
#[path = "common/witness.rs"]
mod witness;

use mosquitto::{ACL, Mosquitto};
use pki::{Ca, Validity};
use witness::Witness;

#[tokio::test(flavor = "multi_thread")]
async fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new(dir.path(), "ca");
    let mut broker = Mosquitto::start(dir.path(), &ca.cert, &ca.server(Validity::NOW), ACL);
    let tls = ca.tls(&ca.client("bridge", Validity::NOW));
    let witness = Witness::start(broker.port, &tls, &["ingot/#"]).await;
    broker.stop();
    broker.start_again();
    witness.subscribed().await;
}
