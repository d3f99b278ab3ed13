//! Messages with JSON from a broker on this machine or network: Zigbee2MQTT, Tasmota, own devices.
//!
//! [`pattern`] says which topics are of which device, [`mapping`] which fields are channels. Retained
//! messages are passed over: they repeat an old value, and again at each connection. The session is a
//! clean one, so nothing is delivered twice, and what is published while the gateway or the broker is
//! away is not seen. The gateway counts for the devices. The broker must speak MQTT 5.

pub mod mapping;
pub mod pattern;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, Event, Incoming, MqttOptions, Publish, QoS, RetainForwardRule, SessionMode, SubscribeFilter,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::sleep;

use super::notice::Link;
use super::{Chunk, Outlet, RETRY, Stamp};
use mapping::{Mapper, Mapping, UnknownFields};

/// Largest message, in bytes; the broker is told, and keeps back what is larger.
pub const MESSAGE_BYTES_MAX: u32 = 65_536;

/// Longest time to connect.
pub const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Requests that wait in the client: the subscription.
const REQUESTS_MAX: usize = 4;

/// A broker, and what its messages mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttSourceConfig {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The client's id; a broker ends the older one of two connections with the same id.
    pub client_id: String,
    /// User, and the file whose first line is the password.
    pub login: Option<(String, PathBuf)>,
    /// TLS with this root certificate in PEM; `None` is plain TCP.
    pub ca: Option<PathBuf>,
    /// Longest silence before a ping, in seconds.
    pub keep_alive_s: u16,
    /// Most devices; messages of further ones are counted as dropped.
    pub devices_max: usize,
    /// What happens to fields without a mapping.
    pub unknown_fields: UnknownFields,
    /// At least one; no topic belongs to two of them.
    pub mappings: Vec<Mapping>,
}

impl MqttSourceConfig {
    /// The broker's name in messages.
    pub fn address(&self) -> String {
        format!("mqtt {}:{}", self.host, self.port)
    }
}

/// Why a source cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The password's file cannot be read.
    #[error("{}: {source}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The root certificate cannot be used.
    #[error("{}: {why}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A source that is set up, and not connected yet.
pub struct MqttSource {
    options: MqttOptions,
    filters: Vec<SubscribeFilter>,
    mapper: Mapper,
    link: Link,
}

/// Reads password and certificate; connects later.
///
/// # Errors
/// One of the files cannot be used.
pub fn open(config: MqttSourceConfig) -> Result<MqttSource, OpenError> {
    let link = Link::new(config.address());
    let mut options = MqttOptions::new(config.client_id, (config.host, config.port));
    options
        .set_session_mode(SessionMode::Clean)
        .set_keep_alive(config.keep_alive_s)
        .set_connect_timeout(CONNECT_MAX)
        .set_max_packet_size(Some(MESSAGE_BYTES_MAX));
    if let Some((user, path)) = config.login {
        let text = fs::read_to_string(&path).map_err(|source| OpenError::Password { path, source })?;
        options.set_credentials(user, text.lines().next().unwrap_or_default().to_owned());
    }
    if let Some(path) = config.ca {
        let tls = tls(&path).map_err(|why| OpenError::Ca { path, why })?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))));
    }
    let filter = |mapping: &Mapping| SubscribeFilter {
        path: mapping.topic.filter(),
        qos: QoS::AtLeastOnce,
        retain_forward_rule: RetainForwardRule::Never,
        ..SubscribeFilter::default()
    };
    let filters = config.mappings.iter().map(filter).collect();
    let mapper = Mapper::new(link.source(), config.mappings, config.devices_max, config.unknown_fields);
    Ok(MqttSource { options, filters, mapper, link })
}

/// TLS with the ring provider, named here because the process may hold another one as default.
fn tls(ca: &PathBuf) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("holds no certificate".into());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

enum End {
    Stopped,
    Gone(String),
}

impl MqttSource {
    /// Listens until intake stops; connects and subscribes again when the broker was gone.
    pub(super) async fn run(mut self, mut outlet: Outlet) {
        loop {
            match self.listen(&mut outlet).await {
                End::Stopped => return,
                End::Gone(why) => self.link.down(why),
            };
            tokio::select! {
                () = sleep(RETRY) => {}
                () = outlet.stopped() => return,
            }
        }
    }

    async fn listen(&mut self, outlet: &mut Outlet) -> End {
        let (client, mut event_loop) =
            AsyncClient::builder(self.options.clone()).capacity(REQUESTS_MAX).build();
        loop {
            // The client is given up when its poll is: a cut poll harms nothing.
            let event = tokio::select! {
                event = event_loop.poll() => event,
                () = outlet.stopped() => return End::Stopped,
            };
            match event {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                    if let Err(error) = client.try_subscribe_many(self.filters.clone()) {
                        return End::Gone(error.to_string());
                    }
                }
                Ok(Event::Incoming(Incoming::SubAck(answer))) => {
                    let refused =
                        |code: &&SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
                    if let Some(code) = answer.return_codes.iter().find(refused) {
                        return End::Gone(format!("the broker refuses the subscription: {code:?}"));
                    }
                    self.link.up();
                }
                Ok(Event::Incoming(Incoming::Publish(message))) if !message.retain => {
                    if !outlet.send(&mut self.take(&message)).await {
                        return End::Stopped;
                    }
                }
                Ok(_) => {}
                Err(error) => return End::Gone(error.to_string()),
            }
        }
    }

    fn take(&mut self, message: &Publish) -> Chunk {
        match std::str::from_utf8(&message.topic) {
            Ok(topic) => self.mapper.take(topic, &message.payload, Stamp::now()),
            Err(_) => Chunk::default(), // MQTT allows no such topic
        }
    }
}
