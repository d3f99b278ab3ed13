//! `[health]`: where the gateway shows how it is doing.

use std::net::SocketAddr;
use std::path::Path;

use super::super::keys::Keys;
use crate::health::server::Listen;

/// The socket's name below the spool's directory.
const SOCKET: &str = "health.sock";

const WANTS: &str =
    "wants \"off\", \"unix:/absolute/path\", or an address and port such as \"127.0.0.1:9464\"";

/// A unix socket by default: `ingot-gateway status` finds it, two gateways on one machine do not clash,
/// and no port is open that nobody asked for.
pub(super) fn read(mut keys: Keys<'_>, spool_dir: &Path) -> Option<Listen> {
    let listen = keys.text("listen");
    let insecure = keys.flag("insecure", false);
    let parsed = match listen.as_deref() {
        None => Some(Listen::Unix(spool_dir.join(SOCKET))),
        Some("off") => Some(Listen::Off),
        Some(text) => match text.strip_prefix("unix:") {
            Some(path) => path.starts_with('/').then(|| Listen::Unix(path.into())),
            None => text.parse::<SocketAddr>().ok().map(Listen::Tcp),
        },
    };
    match &parsed {
        None => keys.problem("listen", format!("{WANTS} and not {:?}", listen.unwrap_or_default())),
        Some(Listen::Tcp(address)) if !address.ip().is_loopback() && !insecure => keys.problem(
            "listen",
            format!(
                "{address} can be reached by other machines, without a password or encryption; \
                 wants a loopback address, or insecure = true"
            ),
        ),
        Some(_) => {}
    }
    keys.end();
    parsed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::config::{Config, Overrides};
    use crate::health::server::Listen;

    fn listen(text: &str) -> Result<Listen, String> {
        let text =
            format!("[spool]\ndir = \"/spool\"\n[uplink.lake]\nurl = \"file:///lake\"\n[health]\n{text}");
        Config::from_toml(&text, Overrides::default())
            .map(|config| config.health)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn only_this_machine_unless_it_is_asked_for() {
        assert_eq!(listen(""), Ok(Listen::Unix("/spool/health.sock".into())));
        assert_eq!(listen("listen = \"off\""), Ok(Listen::Off));
        assert_eq!(listen("listen = \"unix:/run/ingot.sock\""), Ok(Listen::Unix("/run/ingot.sock".into())));
        for here in ["127.0.0.1:9464", "[::1]:9464"] {
            assert_eq!(listen(&format!("listen = {here:?}")), Ok(Listen::Tcp(here.parse().unwrap())));
        }
        for there in ["0.0.0.0:9464", "[::]:9464", "192.168.1.2:80"] {
            let told = listen(&format!("listen = {there:?}")).unwrap_err();
            assert!(told.contains("health.listen") && told.contains("other machines"), "{told}");
            assert!(listen(&format!("listen = {there:?}\ninsecure = true")).is_ok());
        }
        for wrong in ["localhost:9464", "9464", "unix:relative", ""] {
            assert!(listen(&format!("listen = {wrong:?}")).unwrap_err().contains("wants \"off\""), "{wrong}");
        }
    }
}
