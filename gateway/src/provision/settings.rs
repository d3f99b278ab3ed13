//! The lines for the gateway's settings file that put an identity to use.

use std::path::Path;

use super::folder::{CERT, CURRENT, KEY};

/// Name, endpoint and PEM files; the paths go through the link, so that a rotation changes no setting.
pub fn lines(name: &str, host: &str, port: u16, folder: &Path, ca: &Path) -> String {
    let current = folder.join(CURRENT);
    format!(
        "name = {name:?}\n\n\
         [uplink.mqtt]\n\
         host = {host:?}\n\
         port = {port}\n\
         client_id = {name:?}\n\
         topic_prefix = \"$aws/rules/ingot_bronze/\"\n\n\
         [uplink.mqtt.tls]\n\
         ca = {ca:?}\n\
         cert = {cert:?}\n\
         key = {key:?}\n",
        cert = current.join(CERT),
        key = current.join(KEY),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::config::{Config, Overrides, UplinkConfig};

    #[test]
    fn the_lines_are_settings_that_the_gateway_takes() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::create_dir(dir.path().join(CURRENT)).unwrap();
        for file in [ca.clone(), dir.path().join("current/cert.pem"), dir.path().join("current/key.pem")] {
            std::fs::write(file, "").unwrap();
        }
        let text = lines("gw-1", "broker.example", 8883, dir.path(), &ca);
        let config = Config::from_toml(&text, Overrides::default()).unwrap();
        let UplinkConfig::Mqtt(mqtt) = config.uplink else { panic!("MQTT was configured") };
        assert_eq!((config.name.as_str(), mqtt.client_id.as_str(), mqtt.port), ("gw-1", "gw-1", 8883));
    }
}
