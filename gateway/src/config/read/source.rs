//! The tables `[[source]]`: what each kind of source can be told.

mod modbus;
mod mqtt;

use std::path::PathBuf;

use super::is_loopback;
use crate::config::keys::Keys;
use crate::config::{LINE_BYTES_MAX, SourceConfig};
use crate::key::is_name;
use crate::source::i2c::{Bus, Chip, I2cConfig, SensorConfig};
use crate::source::serial::SerialConfig;
use crate::source::w1::W1Config;

const KINDS: &str = "\"ndjson\", \"i2c\", \"serial\", \"mqtt\", \"modbus\" or \"w1\"";
const NAME: &str = "wants 1 to 64 characters of A-Z a-z 0-9 . _ -";
const BAUD_MAX: u64 = 4_000_000;

/// Every source; without any, NDJSON on standard input. `name` is the gateway's.
pub(super) fn all(keys: &mut Keys<'_>, name: &str) -> Vec<SourceConfig> {
    let sources: Vec<_> = match keys.list("source") {
        Some(list) => list.into_iter().filter_map(|source| read(source, name)).collect(),
        None => vec![SourceConfig::Ndjson { line_bytes_max: LINE_BYTES_MAX }],
    };
    if sources.iter().filter(|source| matches!(source, SourceConfig::Ndjson { .. })).count() > 1 {
        keys.problem("source", "wants at most one of kind \"ndjson\": there is one standard input");
    }
    let mut paths: Vec<_> = sources.iter().filter_map(serial_port).collect();
    paths.sort_unstable();
    if let Some(twice) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
        keys.problem("source", format!("wants each serial port once: {} is there twice", twice[0].display()));
    }
    sources
}

fn read(mut keys: Keys<'_>, name: &str) -> Option<SourceConfig> {
    let kind = keys.text_needed("kind", &format!("wants {KINDS}"));
    let source = match kind.as_str() {
        "ndjson" => SourceConfig::Ndjson {
            line_bytes_max: keys.number("line_bytes_max", LINE_BYTES_MAX as u64, 64..=1_048_576) as usize,
        },
        "i2c" => SourceConfig::I2c(read_i2c(&mut keys, name)),
        "serial" => SourceConfig::Serial(read_serial(&mut keys)),
        "mqtt" => SourceConfig::Mqtt(mqtt::read(&mut keys, name)),
        "modbus" => SourceConfig::Modbus(modbus::read(&mut keys, name)),
        "w1" => SourceConfig::W1(read_w1(&mut keys)),
        other => {
            if !other.is_empty() {
                keys.problem("kind", format!("wants {KINDS} and not {other:?}"));
            }
            return None;
        }
    };
    keys.end();
    Some(source)
}

fn serial_port(source: &SourceConfig) -> Option<&PathBuf> {
    match source {
        SourceConfig::Serial(serial) => Some(&serial.path),
        SourceConfig::Modbus(modbus) => modbus.bus.serial_port(),
        _ => None,
    }
}

/// A name, or `default`.
fn read_name(keys: &mut Keys<'_>, key: &'static str, default: &str) -> String {
    let name = keys.text(key);
    if name.as_ref().is_some_and(|name| !is_name(name)) {
        keys.problem(key, NAME);
    }
    name.unwrap_or_else(|| default.into())
}

fn read_baud(keys: &mut Keys<'_>, default: u64) -> u32 {
    keys.number("baud", default, 300..=BAUD_MAX) as u32
}

fn read_i2c(keys: &mut Keys<'_>, name: &str) -> I2cConfig {
    let bus = keys.text_needed("bus", "wants a device such as \"/dev/i2c-1\", or \"simulated\"");
    let device = read_name(keys, "device", name);
    let sensors = keys.list("sensor").unwrap_or_default();
    if sensors.is_empty() {
        keys.problem("sensor", "wants at least one [[source.sensor]]");
    }
    let sensors = sensors
        .into_iter()
        .map(|mut sensor| {
            let chip =
                sensor.choice("chip", Chip::Bme280, &[("bme280", Chip::Bme280), ("sht4x", Chip::Sht4x)]);
            let period_ms = sensor.number("period_ms", 1_000, 20..=86_400_000) as u32;
            let addresses = chip.addresses();
            let allowed = u64::from(*addresses.start())..=u64::from(*addresses.end());
            let address = sensor.number("address", *allowed.start(), allowed) as u8;
            sensor.end();
            SensorConfig { chip, address, period_ms }
        })
        .collect();
    let bus = if bus == "simulated" {
        Bus::Simulated { seed: keys.number("seed", 1, 0..=u64::from(u32::MAX)) }
    } else {
        Bus::Linux(bus.into())
    };
    I2cConfig { bus, device, sensors }
}

fn read_serial(keys: &mut Keys<'_>) -> SerialConfig {
    let path = keys.text_needed("path", "wants a port such as \"/dev/serial/by-id/usb-...\"");
    SerialConfig { path: path.into(), baud: read_baud(keys, 115_200) }
}

fn read_w1(keys: &mut Keys<'_>) -> W1Config {
    let dir = keys.text("dir").unwrap_or_else(|| "/sys/bus/w1/devices".into());
    let devices = keys.pairs("devices");
    for (id, device) in &devices {
        if !id.starts_with("28-") || !is_name(id) || !is_name(device) {
            keys.problem("devices", format!("wants \"28-<id>\" = \"name\" and not {id:?} = {device:?}"));
        }
    }
    W1Config {
        dir: dir.into(),
        period_ms: keys.number("period_ms", 10_000, 100..=86_400_000),
        devices: devices.into_iter().collect(),
    }
}
