//! What brokers and TLS say, in words that tell what to do.

use rumqttc::mqttbytes::v5::PubAckReason;
use rumqttc::{ConnectReturnCode, ConnectionError, DisconnectReasonCode, StateError};
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use super::mqtt::MqttConfig;
use crate::clock;

/// Why a publish was refused.
pub(super) fn puback(reason: PubAckReason, topic: &str) -> String {
    match reason {
        PubAckReason::NoMatchingSubscribers => "nobody subscribes to the topic at the broker".into(),
        PubAckReason::NotAuthorized => {
            format!("not authorised: the broker's policy must allow this gateway to publish to {topic}")
        }
        PubAckReason::QuotaExceeded => "the broker's quota is exceeded: send less, or raise it there".into(),
        PubAckReason::TopicNameInvalid => format!("the broker does not take the topic {topic}"),
        PubAckReason::PayloadFormatInvalid => "the broker does not take the payload's format".into(),
        other => format!("the broker says {other:?} (0x{:02x})", other as u8),
    }
}

/// Why a connection could not be made, or ended.
pub(super) fn connection(error: &ConnectionError, config: &MqttConfig) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => refused(*code, config),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            let said = reason_string.as_ref().map_or(String::new(), |text| format!(" ({text})"));
            format!("{}{said}", disconnect(*reason_code, config))
        }
        error => match tls_error(error) {
            Some(error) => tls(error),
            None => unspecific(&error.to_string(), config),
        },
    }
}

/// A CONNACK that is not a success.
fn refused(code: ConnectReturnCode, config: &MqttConfig) -> String {
    let id = &config.client_id;
    match code {
        ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadUserNamePassword => format!(
            "not authorised: the policy of this gateway's certificate must allow it to connect as {id:?}, \
             and the certificate must be active"
        ),
        ConnectReturnCode::Banned => format!("the broker has banned the client {id:?}"),
        ConnectReturnCode::ClientIdentifierNotValid | ConnectReturnCode::BadClientId => {
            format!("the broker does not take the client id {id:?}")
        }
        ConnectReturnCode::ServerBusy
        | ConnectReturnCode::ServerUnavailable
        | ConnectReturnCode::ServiceUnavailable => "the broker is busy or not available now".into(),
        ConnectReturnCode::ConnectionRateExceeded | ConnectReturnCode::QuotaExceeded => {
            "too many connections to the broker at once, or its quota is exceeded".into()
        }
        ConnectReturnCode::RetainNotSupported => {
            "the broker takes no retained messages: leave status_topic out".into()
        }
        ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion => {
            "the broker does not speak MQTT 5".into()
        }
        ConnectReturnCode::UseAnotherServer | ConnectReturnCode::ServerMoved => {
            format!("the broker {} says that another one is to be used", config.host)
        }
        other => format!("the broker refuses the connection: {other:?}"),
    }
}

/// The broker's farewell.
fn disconnect(code: DisconnectReasonCode, config: &MqttConfig) -> String {
    let id = &config.client_id;
    match code {
        DisconnectReasonCode::SessionTakenOver => {
            format!("another connection uses the client id {id:?}: each gateway needs its own")
        }
        DisconnectReasonCode::PacketTooLarge => {
            "a packet was too large for the broker: lower batch.frame_bytes_max".into()
        }
        DisconnectReasonCode::ReceiveMaximumExceeded => {
            "more frames were in flight than the broker takes: lower in_flight_max".into()
        }
        DisconnectReasonCode::MessageRateTooHigh => {
            "publishes came too fast for the broker: lower publishes_per_s_max".into()
        }
        DisconnectReasonCode::QuotaExceeded => {
            "the broker's quota is exceeded: send less, or raise it there".into()
        }
        DisconnectReasonCode::NotAuthorized => format!(
            "not authorised: the broker's policy does not allow what the client {id:?} did; with AWS IoT Core \
             that is the policy of its certificate and the topics in it"
        ),
        DisconnectReasonCode::ServerBusy => "the broker is busy".into(),
        DisconnectReasonCode::ServerShuttingDown => "the broker shuts down".into(),
        DisconnectReasonCode::AdministrativeAction => "the broker's operator ended the connection".into(),
        DisconnectReasonCode::KeepAliveTimeout => "the broker heard nothing for too long".into(),
        other => format!("the broker ended the connection: {other:?} (0x{:02x})", other as u8),
    }
}

/// With TLS 1.3 the broker looks at the client's certificate after the handshake, and then the client's
/// library keeps only the text of its answer.
fn unspecific(said: &str, config: &MqttConfig) -> String {
    if config.tls.is_some() && said.contains("received fatal alert") {
        let alert = said.rsplit(": ").next().unwrap_or(said);
        return format!(
            "the broker refuses this gateway's certificate ({alert}): it has expired, is not known or not \
             active there, or is of another CA"
        );
    }
    if said.contains("closed the connection") || said.contains("closed connection") {
        return format!(
            "the broker closed the connection without a word; AWS IoT Core does so when the certificate is not \
             active or its policy does not allow it to connect as {:?} ({said})",
            config.client_id
        );
    }
    said.into()
}

/// The cause in rustls, which may come wrapped into an I/O error.
fn tls_error(error: &ConnectionError) -> Option<&rustls::Error> {
    let io = match error {
        ConnectionError::Tls(rumqttc::TlsError::TLS(error)) => return Some(error),
        ConnectionError::Tls(rumqttc::TlsError::Io(io))
        | ConnectionError::Io(io)
        | ConnectionError::MqttState(StateError::Io(io)) => io,
        _ => return None,
    };
    io.get_ref()?.downcast_ref()
}

fn tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(certificate) => broker_certificate(certificate),
        rustls::Error::AlertReceived(alert) => own_certificate(*alert),
        other => format!("TLS: {other}"),
    }
}

fn broker_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the broker's certificate is valid from {} on, and the clock here says {}: the clock may be wrong",
            utc(*not_before),
            utc(*time)
        ),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the broker's certificate was valid until {}, and the clock here says {}: it has expired, or the \
             clock may be wrong",
            utc(*not_after),
            utc(*time)
        ),
        CertificateError::UnknownIssuer => {
            "the broker's certificate does not lead to a root in tls.ca: another broker, or another root"
                .into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the broker's certificate is for another name than host: {error}")
        }
        other => format!("the broker's certificate cannot be trusted: {other}"),
    }
}

fn own_certificate(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::CertificateExpired => "it has expired, or is not valid yet",
        AlertDescription::UnknownCA => "the broker does not know who signed it",
        AlertDescription::CertificateRevoked => "it was revoked",
        AlertDescription::AccessDenied => "it is not active there",
        AlertDescription::NoApplicationProtocol => {
            return "the broker does not take this ALPN protocol: see alpn and port".into();
        }
        _ => "see the broker's log, and whether the certificate is known and active there",
    };
    format!("the broker refuses this gateway's certificate (alert {alert:?}): {why}")
}

/// To the second, as RFC 3339.
fn utc(time: UnixTime) -> String {
    let second = time.as_secs();
    let date = clock::date_utc(i64::try_from(second).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000));
    let of_day = second % 86_400;
    format!("{date}T{:02}:{:02}:{:02}Z", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_certificate_that_is_not_valid_yet_points_at_the_clock() {
        let at = |s| UnixTime::since_unix_epoch(Duration::from_secs(s));
        let said = broker_certificate(&CertificateError::NotValidYetContext {
            time: at(86_399),
            not_before: at(1_767_225_600),
        });
        for part in ["2026-01-01T00:00:00Z", "1970-01-01T23:59:59Z", "clock may be wrong"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_refused_publish_names_the_topic() {
        assert!(puback(PubAckReason::NotAuthorized, "a/b").contains("policy must allow"));
        assert!(puback(PubAckReason::NotAuthorized, "a/b").ends_with("a/b"));
    }
}
