//! What the sources read from, a finding each: device files, thermometers, brokers, Modbus devices.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Report, device};
use crate::config::SourceConfig;
use crate::source::i2c::Bus;
use crate::source::modbus::ModbusBus;
use crate::source::mqtt::{self, MqttSourceConfig};
use crate::source::w1::{self, W1Config};

/// Longest wait for a connection to a broker or a Modbus device.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// `running`: a gateway reads from them now.
pub(super) async fn check(report: &mut Report, sources: &[SourceConfig], running: bool) {
    if sources.is_empty() {
        report.warn("source", "there is none", "add a [[source]]");
    }
    for source in sources {
        match source {
            SourceConfig::Ndjson { .. } => report.ok("source", "readings on standard input"),
            SourceConfig::I2c(i2c) => match &i2c.bus {
                Bus::Linux(path) => device::open(report, path),
                Bus::Simulated { .. } => report.ok("source", i2c.bus.to_string()),
            },
            SourceConfig::Serial(serial) => device::serial(report, &serial.path),
            SourceConfig::Mqtt(mqtt) => broker(report, mqtt).await,
            SourceConfig::Modbus(modbus) => match &modbus.bus {
                ModbusBus::Rtu { path, .. } => device::serial(report, path),
                ModbusBus::Tcp { .. } if running => {
                    report.skip(
                        "source",
                        format!("{}: many devices take one connection, the gateway's", modbus.bus),
                    );
                }
                ModbusBus::Tcp { host, port } => reach(report, &modbus.bus.to_string(), host, *port).await,
            },
            SourceConfig::W1(w1) => thermometers(report, w1),
        }
    }
}

/// Its files, and whether it is there. Nobody logs in: the broker would end the gateway's own connection.
async fn broker(report: &mut Report, config: &MqttSourceConfig) {
    match mqtt::open(config.clone()) {
        Ok(_) => reach(report, &config.address(), &config.host, config.port).await,
        Err(error) => report.fail(
            "source",
            format!("{}: {error}", config.address()),
            "mend password_file or ca of this source; the gateway's user must be able to read them",
        ),
    }
}

async fn reach(report: &mut Report, what: &str, host: &str, port: u16) {
    let why = match timeout(CONNECT_MAX, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => return report.ok("source", format!("{what} accepts connections")),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", CONNECT_MAX.as_secs()),
    };
    report.fail(
        "source",
        format!("{what}: {why}"),
        "is it on, and are host and port right? `ip route` and `ping` show the way to it",
    );
}

fn thermometers(report: &mut Report, config: &W1Config) {
    let dir = config.dir.display();
    let found = match w1::found(&config.dir) {
        Ok(found) => found,
        Err(error) => {
            return report.fail(
                "source",
                format!("1-Wire {dir}: {error}"),
                "switch 1-Wire on: `raspi-config`, or `modprobe w1-gpio w1-therm`",
            );
        }
    };
    let missing: Vec<_> =
        config.devices.keys().filter(|id| !found.contains(id)).map(String::as_str).collect();
    if !missing.is_empty() {
        report.fail("source", format!("1-Wire {dir}: {} not there", missing.join(", ")), WIRING);
    } else if found.is_empty() {
        report.warn("source", format!("1-Wire {dir}: no thermometer is there"), WIRING);
    } else {
        report.ok("source", format!("1-Wire {dir}: {} thermometers", found.len()));
    }
}

const WIRING: &str = "look at the wiring and its pull-up of 4.7 kOhm";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::doctor::Verdict;
    use crate::source::modbus::ModbusConfig;

    #[test]
    fn named_thermometers_that_are_missing_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let id = "28-000005e2fdc3";
        let config = |devices: &[&str]| W1Config {
            dir: dir.path().into(),
            period_ms: 1_000,
            devices: devices.iter().map(|id| ((*id).into(), "shed".into())).collect(),
        };
        let mut report = Report::default();
        thermometers(&mut report, &config(&[]));
        thermometers(&mut report, &config(&[id]));
        std::fs::create_dir(dir.path().join(id)).unwrap();
        thermometers(&mut report, &config(&[id]));
        thermometers(&mut report, &W1Config { dir: "/no/such/bus".into(), ..config(&[]) });
        let verdicts: Vec<_> = report.findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::Warn, Verdict::Fail, Verdict::Ok, Verdict::Fail], "{report}");
        assert!(report.findings[1].what.contains(id), "{report}");
    }

    #[tokio::test]
    async fn a_modbus_device_is_reached_unless_the_gateway_has_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let bus = ModbusBus::Tcp { host: "127.0.0.1".into(), port };
        let sources = [SourceConfig::Modbus(ModbusConfig { bus, timeout_ms: 100, registers: Vec::new() })];
        let mut report = Report::default();
        check(&mut report, &sources, false).await;
        check(&mut report, &sources, true).await;
        drop(listener);
        check(&mut report, &sources, false).await;
        let verdicts: Vec<_> = report.findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Skip, Verdict::Fail], "{report}");
    }
}
