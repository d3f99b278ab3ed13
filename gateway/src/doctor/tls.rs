//! The TLS handshake with the broker, and what its failures mean in words.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Report;
use crate::uplink::mqtt::MqttConfig;
use crate::uplink::tls::client_config;

/// With TLS 1.3 the broker judges our certificate after the handshake; this long an objection may take.
const OBJECTION_WAIT: Duration = Duration::from_millis(500);

/// `None`: it failed.
pub(super) async fn check(
    report: &mut Report,
    mqtt: &MqttConfig,
    socket: TcpStream,
    limit: Duration,
) -> Option<()> {
    let mut config = match client_config(mqtt.tls.as_ref()?) {
        Ok(config) => config,
        Err(error) => {
            report.fail("tls", error.to_string(), "see the findings on certificate and key");
            return None;
        }
    };
    config.alpn_protocols = mqtt.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let host = &mqtt.host;
    let Ok(name) = ServerName::try_from(host.clone()) else {
        report.fail("tls", format!("{host:?} cannot stand in a certificate"), "mend uplink.mqtt.host");
        return None;
    };
    let done = timeout(limit, async {
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        let version = stream.get_ref().1.protocol_version();
        match timeout(OBJECTION_WAIT, stream.read_u8()).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Ok(version),
        }
    });
    let error = match done.await {
        Ok(Ok(version)) => {
            report.ok(
                "tls",
                format!(
                    "{:?} with {host}, both certificates accepted",
                    version.map_or("TLS".into(), |version| format!("{version:?}"))
                ),
            );
            return Some(());
        }
        Ok(Err(error)) => error,
        Err(_) => io::Error::from(io::ErrorKind::TimedOut),
    };
    let (what, todo) = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => in_words(error, host),
        None if error.kind() == io::ErrorKind::UnexpectedEof => (
            "the broker ended the connection without a reason".into(),
            "with AWS IoT: the certificate is not active or not registered; else look at the broker's log"
                .into(),
        ),
        None => (
            error.to_string(),
            "is this port one for TLS? look at uplink.mqtt.port and the broker's log".into(),
        ),
    };
    report.fail("tls", what, todo);
    None
}

fn in_words(error: &Error, host: &str) -> (String, String) {
    let (what, todo) = match error {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (
            format!("the broker's certificate is not for {host}"),
            "set uplink.mqtt.host to a name in the broker's certificate",
        ),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => (
            "the broker's certificate does not lead to the roots in tls.ca".into(),
            "take the root that signs the broker; for AWS IoT AmazonRootCA1.pem",
        ),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => (
            "the broker's certificate is expired by this clock".into(),
            "set the clock if it is ahead; else renew the broker's certificate",
        ),
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => {
            ("the broker's certificate is not valid yet by this clock".into(), "set the clock: it is behind")
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::DecryptError | AlertDescription::BadCertificate,
        ) => (
            "the broker does not know who signed this gateway's certificate".into(),
            "register the certificate or its authority at the broker",
        ),
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            ("the broker says that this gateway's certificate is expired".into(), "renew it")
        }
        Error::AlertReceived(AlertDescription::CertificateRevoked) => {
            ("the broker says that this gateway's certificate is revoked".into(), "get another one")
        }
        Error::AlertReceived(AlertDescription::CertificateUnknown) => (
            "the broker does not take this gateway's certificate".into(),
            "with AWS IoT: activate it; else look at the broker's log",
        ),
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => (
            "the broker wants another protocol on this port (ALPN)".into(),
            "set uplink.mqtt.alpn: AWS IoT's port 443 wants one for MQTT, 8883 does not",
        ),
        Error::InvalidMessage(_) => {
            ("what answers there is not TLS".into(), "mend uplink.mqtt.port: 8883 is usual")
        }
        other => (other.to_string(), "look at the broker's log"),
    };
    (what, todo.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_of_tls_have_words_of_their_own() {
        let mut said: Vec<_> = [
            Error::InvalidCertificate(CertificateError::NotValidForName),
            Error::InvalidCertificate(CertificateError::UnknownIssuer),
            Error::InvalidCertificate(CertificateError::Expired),
            Error::InvalidCertificate(CertificateError::NotValidYet),
            Error::AlertReceived(AlertDescription::UnknownCA),
            Error::AlertReceived(AlertDescription::CertificateExpired),
            Error::AlertReceived(AlertDescription::CertificateRevoked),
            Error::AlertReceived(AlertDescription::NoApplicationProtocol),
        ]
        .iter()
        .map(|error| in_words(error, "broker.example").0)
        .collect();
        let all = said.len();
        said.sort();
        said.dedup();
        assert_eq!(said.len(), all);
    }
}
