//! AWS IoT's fleet provisioning, played on a real Mosquitto: certificates out of requests, ownership tokens
//! that are good once, registration. A certificate is taken by the broker only once it is registered: each
//! is signed by an authority of its own, which the broker trusts from then on.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use ingot_gateway::uplink::tls::{TlsPaths, client_config};
use rumqttc::{
    AsyncClient, Event, Incoming, MqttOptions, PublishOptions, QoS, SessionMode, TlsConfiguration, Transport,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::mosquitto::Mosquitto;
use super::pki::{Ca, PemFiles, Validity};

const CREATE: &str = "$aws/certificates/create-from-csr/json";
const PROVISION: &str = "$aws/provisioning-templates/ingot-fleet/provision/json";

/// The claim may ask; each thing works under its own name.
const ACL: &str = "\
user aws
topic readwrite $aws/#
user claim
topic write $aws/certificates/create-from-csr/json
topic read $aws/certificates/create-from-csr/json/+
topic write $aws/provisioning-templates/ingot-fleet/provision/json
topic read $aws/provisioning-templates/ingot-fleet/provision/json/+
user bridge
topic read ingot/#
pattern write ingot/bronze/%u/#
";

/// What goes wrong with one question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It is not seen.
    Lost,
    /// What it asks for is done, and the answer is lost.
    AnswerLost,
    /// No ownership token is good any more.
    TokenExpired,
    /// It is refused with this error code.
    Refused(&'static str),
}

/// The registry.
#[derive(Default)]
pub struct Registry {
    /// Each thing with the ids of its certificates, all of them active.
    pub things: BTreeMap<String, BTreeSet<String>>,
    /// Certificates that are not registered, by token; AWS deletes them after an hour.
    pub pending: BTreeMap<String, String>,
    /// Faults to come: for a question's topic, in order.
    pub faults: Vec<(&'static str, Fault)>,
    /// Keys and values of the last registration.
    pub parameters: Value,
    made: u32,
}

/// The broker, and who answers on it.
pub struct Fleet {
    pub broker: Mosquitto,
    pub ca: Ca,
    pub server: PemFiles,
    pub claim: PemFiles,
    /// Authorities that the broker trusts.
    pub trusted: PathBuf,
    pub registry: Arc<Mutex<Registry>>,
    task: JoinHandle<()>,
}

impl Fleet {
    pub const CREATE: &'static str = CREATE;
    pub const PROVISION: &'static str = PROVISION;

    pub async fn start(dir: &Path) -> Self {
        let ca = Ca::new(dir, "ca");
        let (server, aws) = (ca.server(Validity::NOW), ca.client("aws", Validity::NOW));
        let claim = ca.client("claim", Validity::NOW);
        let trusted = dir.join("trusted");
        fs::create_dir(&trusted).unwrap();
        trust(&trusted, &ca.cert);
        let broker = Mosquitto::start(dir, &trusted, &server, ACL);
        let registry = Arc::new(Mutex::new(Registry::default()));
        let (ready, mut subscribed) = watch::channel(0);
        let authorities = dir.join("authorities");
        fs::create_dir(&authorities).unwrap();
        let answering = Answering { registry: Arc::clone(&registry), authorities, trusted: trusted.clone() };
        let task = tokio::spawn(answering.run(broker.port, ca.tls(&aws), ready));
        subscribed.wait_for(|subacks| *subacks == 2).await.unwrap();
        Self { broker, ca, server, claim, trusted, registry, task }
    }

    pub fn fault(&self, topic: &'static str, fault: Fault) {
        self.registry.lock().unwrap().faults.push((topic, fault));
    }

    /// Certificates of the thing.
    pub fn certificates(&self, thing: &str) -> BTreeSet<String> {
        self.registry.lock().unwrap().things.get(thing).cloned().unwrap_or_default()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Answering {
    registry: Arc<Mutex<Registry>>,
    authorities: PathBuf,
    trusted: PathBuf,
}

impl Answering {
    async fn run(self, port: u16, tls: TlsPaths, ready: watch::Sender<u32>) {
        let mut options = MqttOptions::new("aws", ("127.0.0.1", port));
        options.set_session_mode(SessionMode::Clean).set_transport(Transport::tls_with_config(
            TlsConfiguration::Rustls(Arc::new(client_config(&tls).unwrap())),
        ));
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                    for topic in [CREATE, PROVISION] {
                        client.try_subscribe(topic, QoS::AtLeastOnce).unwrap();
                    }
                }
                Ok(Event::Incoming(Incoming::SubAck(_))) => ready.send_modify(|subacks| *subacks += 1),
                Ok(Event::Incoming(Incoming::Publish(question))) => {
                    let topic = std::str::from_utf8(&question.topic).unwrap().to_owned();
                    let asked: Value = serde_json::from_slice(&question.payload).unwrap();
                    if let Some((how, answer)) = self.answer(&topic, &asked) {
                        let options = PublishOptions::new(QoS::AtLeastOnce);
                        client.try_publish(format!("{topic}/{how}"), answer.to_string(), options).unwrap();
                    }
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    }

    fn answer(&self, topic: &str, asked: &Value) -> Option<(&'static str, Value)> {
        let mut registry = self.registry.lock().unwrap();
        let at = registry.faults.iter().position(|(of, _)| *of == topic);
        let fault = at.map(|at| registry.faults.remove(at).1);
        let refused = |status: u16, code: &str| {
            let words =
                json!({ "statusCode": status, "errorCode": code, "errorMessage": "as the test wants" });
            Some(("rejected", words))
        };
        match fault {
            Some(Fault::Lost) => return None,
            Some(Fault::TokenExpired) => registry.pending.clear(),
            Some(Fault::Refused(code)) => return refused(403, code),
            Some(Fault::AnswerLost) | None => {}
        }
        let answer = if topic == CREATE {
            Some(("accepted", self.create(&mut registry, asked)))
        } else {
            let token = asked["certificateOwnershipToken"].as_str().unwrap_or_default();
            match registry.pending.remove(token) {
                None => refused(400, "InvalidCertificateOwnershipToken"),
                Some(id) => {
                    registry.parameters = asked["parameters"].clone();
                    let thing = asked["parameters"]["ThingName"].as_str().unwrap().to_owned();
                    trust(&self.trusted, &self.authorities.join(format!("{id}.pem")));
                    registry.things.entry(thing.clone()).or_default().insert(id);
                    Some(("accepted", json!({ "thingName": thing, "deviceConfiguration": {} })))
                }
            }
        };
        if fault == Some(Fault::AnswerLost) { None } else { answer }
    }

    fn create(&self, registry: &mut Registry, asked: &Value) -> Value {
        registry.made += 1;
        let id = format!("{:064x}", registry.made);
        let authority = Ca::new(&self.authorities, &id);
        let pem = authority.sign(asked["certificateSigningRequest"].as_str().unwrap());
        let token = format!("canary-token-{}", registry.made);
        registry.pending.insert(token.clone(), id.clone());
        json!({ "certificateId": id, "certificatePem": pem, "certificateOwnershipToken": token })
    }
}

fn trust(trusted: &Path, authority: &Path) {
    fs::copy(authority, trusted.join(authority.file_name().unwrap())).unwrap();
    let rehashed = Command::new("openssl").arg("rehash").arg(trusted).output().unwrap();
    assert!(rehashed.status.success(), "{}", String::from_utf8_lossy(&rehashed.stderr));
}
