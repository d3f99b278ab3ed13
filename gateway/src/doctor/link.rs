//! The way to the broker, layer by layer: name, TCP, TLS, MQTT, and on demand a publish.
//!
//! Each layer is tried only when the one below it stands, so the first failure is the cause.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use ingot_agent::Batch;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::{Report, tls};
use crate::clock;
use crate::key::Identity;
use crate::spool::{Position, Spooled};
use crate::uplink::inbox::Inbox;
use crate::uplink::mqtt::{Mqtt, MqttConfig};
use crate::uplink::{SendError, Uplink};

/// Longest wait for the confirmation of the probe.
const PUBACK_WAIT: Duration = Duration::from_secs(10);

pub(super) async fn check(
    report: &mut Report,
    mqtt: &MqttConfig,
    (gateway, contract_topic): (&str, Option<&str>),
    running: bool,
    publish: bool,
) {
    let stands = layers(report, mqtt, (gateway, contract_topic), running, publish).await;
    for check in ["dns", "tcp", "tls", "mqtt", "subscribe", "publish"] {
        let looked = report.findings.iter().any(|finding| finding.check == check);
        let wanted = (check != "tls" || mqtt.tls.is_some())
            && (check != "subscribe" || contract_topic.is_some())
            && (check != "publish" || publish);
        if !looked && wanted && stands.is_none() {
            report.skip(check, "not tried, because of the failure before");
        }
    }
}

/// `None` at the first layer that fails.
async fn layers(
    report: &mut Report,
    mqtt: &MqttConfig,
    (gateway, contract_topic): (&str, Option<&str>),
    running: bool,
    publish: bool,
) -> Option<()> {
    let limit = Duration::from_millis(mqtt.connect_ms_max);
    let addresses = dns(report, mqtt, limit).await?;
    let socket = tcp(report, &addresses, limit).await?;
    if mqtt.tls.is_some() {
        tls::check(report, mqtt, socket, limit).await?;
    }
    if running {
        report.skip(
            "mqtt",
            "a gateway runs on this spool: a second connection would end its own; see `ingot-gateway status`",
        );
        for (check, wanted) in [("subscribe", contract_topic.is_some()), ("publish", publish)] {
            if wanted {
                report.skip(check, "see mqtt");
            }
        }
        return Some(());
    }
    let inbox = Inbox::new(1);
    let client = connect(report, mqtt, contract_topic.map(|topic| (topic, &inbox))).await?;
    if let Some(topic) = contract_topic {
        subscribed(report, topic, &inbox).await;
    }
    if publish {
        probe(report, &client, mqtt, gateway).await?;
    }
    Some(())
}

async fn dns(report: &mut Report, mqtt: &MqttConfig, limit: Duration) -> Option<Vec<SocketAddr>> {
    let host = &mqtt.host;
    let todo = "check the host in uplink.mqtt.host and the name server in /etc/resolv.conf";
    match timeout(limit, lookup_host((host.as_str(), mqtt.port))).await {
        Ok(Ok(found)) => {
            let addresses: Vec<_> = found.collect();
            let said: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            report.ok(
                "dns",
                if host.parse::<IpAddr>().is_ok() {
                    format!("{host} is an address")
                } else {
                    format!("{host} is {}", said.join(", "))
                },
            );
            Some(addresses)
        }
        Ok(Err(error)) => {
            report.fail("dns", format!("{host} has no address: {error}"), todo);
            None
        }
        Err(_) => {
            report.fail(
                "dns",
                format!("no name server answered for {host} within {} ms", limit.as_millis()),
                todo,
            );
            None
        }
    }
}

async fn tcp(report: &mut Report, addresses: &[SocketAddr], limit: Duration) -> Option<TcpStream> {
    let mut last = (String::from("the name has no address"), "");
    for address in addresses {
        let why = match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                report.ok("tcp", format!("{address} accepts connections"));
                return Some(socket);
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        last = match why.as_ref().map(io::Error::kind) {
            None => (
                format!("{address} does not answer within {} ms", limit.as_millis()),
                "a firewall drops it, or the machine is off; AWS IoT takes 8883, and 443 where that is closed",
            ),
            Some(io::ErrorKind::ConnectionRefused) => {
                (format!("{address}: nothing listens there"), "start the broker, or mend uplink.mqtt.port")
            }
            Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => {
                (format!("{address}: there is no way to it"), "look at the network: `ip addr`, `ip route`")
            }
            Some(_) => (
                format!("{address}: {}", why.map(|error| error.to_string()).unwrap_or_default()),
                "look at the network: `ip addr`, `ip route`",
            ),
        };
    }
    report.fail("tcp", last.0, last.1);
    None
}

/// Whether the broker lets the gateway hear of pushed contracts.
async fn subscribed(report: &mut Report, topic: &str, inbox: &Inbox) {
    let todo =
        "let this client subscribe there (AWS: iot:Subscribe on the topicfilter, iot:Receive on the topic)";
    match timeout(PUBACK_WAIT, inbox.granted()).await {
        Ok(true) => report.ok("subscribe", format!("pushed contracts are heard under {topic}")),
        Ok(false) => report.fail("subscribe", format!("{topic}: the broker refuses the subscription"), todo),
        Err(_) => report.fail(
            "subscribe",
            format!("{topic}: no answer to the subscription within {} ms", PUBACK_WAIT.as_millis()),
            todo,
        ),
    }
}

async fn connect(
    report: &mut Report,
    mqtt: &MqttConfig,
    subscription: Option<(&str, &Inbox)>,
) -> Option<Mqtt> {
    let mut client = match Mqtt::new(mqtt.clone()) {
        Ok(client) => client,
        Err(error) => {
            report.fail("mqtt", error.to_string(), "see the findings on certificate and key");
            return None;
        }
    };
    if let Some((topic, inbox)) = subscription {
        client.subscribe(topic, inbox.clone());
    }
    match client.connect().await {
        Ok(()) => {
            report.ok("mqtt", format!("the broker takes client {:?}", mqtt.client_id));
            Some(client)
        }
        Err(error) => {
            // The uplink says the reason in words already.
            let why = error.to_string();
            let todo = if why.contains("not authorised") {
                "with AWS IoT: allow iot:Connect on client/<client_id>, and activate the certificate"
            } else {
                "the broker's log may say more"
            };
            report.fail("mqtt", why, todo);
            None
        }
    }
}

/// Sends a frame without readings under the identity boot 0, seq 0 of today: the same bytes each time, so
/// that trying again changes nothing in bronze.
async fn probe(report: &mut Report, client: &Mqtt, mqtt: &MqttConfig, gateway: &str) -> Option<()> {
    let today_ms = clock::now_ms().div_euclid(86_400_000) * 86_400_000;
    let mut bytes = Vec::new();
    match Batch::<1, 1, 4_096>::new(gateway, 0) {
        Ok(mut batch) => batch.seal(today_ms, 0, |piece| bytes.extend_from_slice(piece)),
        Err(error) => {
            report.fail("publish", format!("the gateway's name: {error}"), "mend name");
            return None;
        }
    };
    let identity = Identity { gateway: gateway.into(), boot: 0, seq: 0, sealed_ms: today_ms };
    let topic = identity.topic(&mqtt.topic_prefix);
    let frame = Spooled { position: Position::default(), bytes: Bytes::from(bytes), identity, readings: 0 };
    let (what, todo) = match timeout(PUBACK_WAIT, client.send(frame)).await {
        Ok(Ok(())) => {
            report.ok("publish", format!("an empty frame was confirmed under {topic}"));
            return Some(());
        }
        Ok(Err(SendError::Refused(why))) => (
            format!("{topic}: {why}"),
            "let this client publish below ingot/bronze/<gateway>/ (AWS: iot:Publish), and see that a rule or subscriber takes it",
        ),
        Ok(Err(error)) => (
            format!("{topic}: {error}"),
            "AWS IoT ends the connection when the policy lacks iot:Publish for this topic",
        ),
        Err(_) => (
            format!("{topic}: no PUBACK within {} ms", PUBACK_WAIT.as_millis()),
            "the broker drops it silently: look at its policy and its log",
        ),
    };
    report.fail("publish", what, todo);
    None
}
