//! `[uplink.bulk]`: the direct path of a large backlog.

use super::Keys;
use crate::uplink::bulk::BulkConfig;
use crate::uplink::mqtt::MqttConfig;

/// Reads it; the certificate and its thing are those of `[uplink.mqtt]`.
pub(super) fn read(mut keys: Keys<'_>, mqtt: Option<&MqttConfig>) -> Option<BulkConfig> {
    let above_bytes = keys.number("above_bytes", 64 << 20, 0..=1 << 44);
    let bucket = keys.text_needed("bucket", "wants the name of bronze's bucket");
    let prefix = keys.text("prefix").unwrap_or_default();
    let region = keys.text_needed("region", "wants the bucket's region, e.g. \"eu-west-1\"");
    let role_alias =
        keys.text_needed("role_alias", "wants the IoT role alias of the role that may put objects");
    let endpoint = keys.text("endpoint");
    let credentials_endpoint = keys.text_needed(
        "credentials_endpoint",
        "wants the host of `aws iot describe-endpoint --endpoint-type iot:CredentialProvider`",
    );
    let plain = |text: &str, more: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte))
    };
    if !plain(&bucket, ".-") {
        keys.problem("bucket", "wants letters, digits, . and -");
    }
    if !plain(&prefix, "._-/") || !(prefix.is_empty() || prefix.ends_with('/')) || prefix.starts_with('/') {
        keys.problem(
            "prefix",
            "wants \"\" or letters, digits, . _ - / with / at its end and not at its start",
        );
    }
    if !plain(&region, "-") {
        keys.problem("region", "wants letters, digits and -");
    }
    if !plain(&role_alias, "=,@-_") {
        keys.problem("role_alias", "wants letters, digits and = , @ - _");
    }
    if !plain(&credentials_endpoint, ".-:") {
        keys.problem("credentials_endpoint", "wants a host, or host:port, without https://");
    }
    let loopback = |url: &str| url.starts_with("http://127.0.0.1:") || url.starts_with("http://localhost:");
    let usable = |url: &String| (url.starts_with("https://") || loopback(url)) && plain(url, ":/._-");
    if endpoint.as_ref().is_some_and(|url| !usable(url) || url.ends_with('/')) {
        keys.problem(
            "endpoint",
            "wants https://host without / at its end; plain HTTP goes to this machine only",
        );
    }
    let tls = mqtt.and_then(|mqtt| mqtt.tls.clone());
    if mqtt.is_some() && tls.is_none() {
        keys.problem(
            "role_alias",
            "needs [uplink.mqtt.tls]: credentials are given for the gateway's certificate",
        );
    }
    keys.end();
    let thing = mqtt?.client_id.clone();
    Some(BulkConfig {
        above_bytes,
        bucket,
        prefix,
        region,
        endpoint,
        credentials_endpoint,
        role_alias,
        thing,
        tls: tls?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::config::{Config, ConfigError, Overrides};

    #[test]
    fn every_problem_is_told() {
        let text = "[uplink.mqtt]\nhost = \"127.0.0.1\"\n[uplink.bulk]\nbucket = \"a/b\"\nprefix = \"/x\"\n\
                    endpoint = \"http://s3.example\"\ncolour = 1\ncredentials_endpoint = \"https://x\"\n";
        let ConfigError::Problems(told) = Config::from_toml(text, Overrides::default()).unwrap_err() else {
            panic!("problems were expected")
        };
        for key in ["bucket: wants", "prefix: wants", "region: is missing", "role_alias: is missing"] {
            assert!(
                told.iter().any(|problem| problem.starts_with(&format!("uplink.bulk.{key}"))),
                "{told:#?}"
            );
        }
        for key in
            ["endpoint: wants https", "credentials_endpoint: wants a host", "role_alias: needs", "colour: is"]
        {
            assert!(
                told.iter().any(|problem| problem.starts_with(&format!("uplink.bulk.{key}"))),
                "{told:#?}"
            );
        }
    }
}
