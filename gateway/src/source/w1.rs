//! 1-Wire thermometers (DS18B20 and kin) through the kernel's files, by default `/sys/bus/w1/devices`.
//!
//! Each `28-*` directory is a sensor and a device of its own, named by its id or as configured, with the
//! channel `temperature` in degrees Celsius. What the chip could not measure is a reading flagged
//! `MISSING`: a wrong checksum, a scratchpad of zeros (a short circuit, whose checksum is right), exactly
//! 85 degrees (the value at power-on; a true 85.000 is lost with it), and a sensor that was there and is
//! not. The kernel takes up to 0.75 s a sensor, so the source has a thread of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ingot_agent::Quality;

use super::notice::Link;
use super::{Chunk, Outlet, Sample, Stamp};
use crate::key::is_name;
use crate::phase::Phase;

/// Most sensors of one source; further ones are ignored, and said.
pub const SENSORS_MAX: usize = 256;

/// The channel of every reading.
pub const CHANNEL: &str = "temperature";

/// The family of the DS18B20, as the kernel begins the names of its directories.
const FAMILY: &str = "28-";

/// The DS18B20's value after power-on, in thousandths of a degree (data sheet, table 1).
const POWER_ON_MILLIDEGREES: i64 = 85_000;

/// Longest sleep before the source looks whether to stop.
const STOP_CHECK: Duration = Duration::from_millis(200);

/// A bus directory, how often it is read, and the names of its sensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct W1Config {
    /// The directory of the bus's devices.
    pub dir: PathBuf,
    /// From one reading of all sensors to the next, in milliseconds.
    pub period_ms: u64,
    /// Sensor id to device name; a sensor that is named here is expected, also before it was ever seen.
    pub devices: BTreeMap<String, String>,
}

/// Reads all sensors every period until intake stops. Blocks its thread.
pub(super) fn run(config: W1Config, outlet: &Outlet) {
    let period = Duration::from_millis(config.period_ms);
    let mut bus = W1Bus::new(config);
    let mut due = Instant::now();
    while *outlet.phase.borrow() == Phase::Running {
        let now = Instant::now();
        if now >= due {
            while due <= now {
                due += period;
            }
            for id in bus.sensors() {
                if *outlet.phase.borrow() != Phase::Running {
                    return;
                }
                let sample = bus.read(&id);
                if outlet.chunks.blocking_send(Chunk { samples: vec![sample], ..Chunk::default() }).is_err() {
                    return;
                }
            }
        }
        thread::sleep(due.saturating_duration_since(Instant::now()).min(STOP_CHECK));
    }
}

struct W1Bus {
    config: W1Config,
    sensors: BTreeMap<String, Link>,
    link: Link,
    said_full: bool,
}

impl W1Bus {
    fn new(config: W1Config) -> Self {
        let link = Link::new(config.dir.display().to_string());
        let sensors = config.devices.keys().map(|id| (id.clone(), Link::new(id))).collect();
        Self { config, sensors, link, said_full: false }
    }

    /// Every sensor that is there, was there, or is named in the settings.
    fn sensors(&mut self) -> Vec<String> {
        match found(&self.config.dir) {
            Ok(found) => {
                self.link.up();
                for id in found {
                    if self.sensors.contains_key(&id) {
                        continue;
                    }
                    if self.sensors.len() < SENSORS_MAX {
                        self.sensors.insert(id.clone(), Link::new(id));
                    } else if !std::mem::replace(&mut self.said_full, true) {
                        tracing::warn!(
                            source = self.link.source(),
                            sensors = SENSORS_MAX,
                            "further sensors are ignored"
                        );
                    }
                }
            }
            Err(error) => {
                self.link.down(error);
            }
        }
        self.sensors.keys().cloned().collect()
    }

    fn read(&mut self, id: &str) -> Sample {
        let read = fs::read_to_string(self.config.dir.join(id).join("w1_slave"));
        let degrees =
            read.map_err(|error| error.to_string()).and_then(|text| parse(&text).map_err(str::to_owned));
        if let Some(link) = self.sensors.get_mut(id) {
            match &degrees {
                Ok(_) => link.up(),
                Err(why) => link.down(why),
            };
        }
        let device = self.config.devices.get(id).map_or(id, String::as_str);
        let quality = if degrees.is_ok() { Quality::GOOD } else { Quality::MISSING };
        Sample {
            device: device.into(),
            boot_seq: None,
            channel: CHANNEL.into(),
            at: Stamp::now(),
            value: degrees.unwrap_or(0.0),
            quality,
        }
    }
}

/// Ids of the thermometers that the bus has.
pub(crate) fn found(dir: &Path) -> io::Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        ids.extend(name.to_str().filter(|name| name.starts_with(FAMILY) && is_name(name)).map(str::to_owned));
    }
    Ok(ids)
}

/// Degrees Celsius out of a `w1_slave` file: the scratchpad with the verdict on its checksum, and again
/// with `t=` thousandths of a degree.
fn parse(text: &str) -> Result<f64, &'static str> {
    let mut lines = text.lines();
    let (Some(checked), Some(value)) = (lines.next(), lines.next()) else {
        return Err("the kernel gave no value");
    };
    if !checked.trim_end().ends_with(" YES") {
        return Err("the checksum is wrong: look at wiring and pull-up");
    }
    let scratchpad = checked.split(" :").next().unwrap_or_default();
    if scratchpad.split_whitespace().all(|byte| byte == "00") {
        return Err("the scratchpad is all zeros: a short circuit");
    }
    let millidegrees = value.rsplit_once("t=").and_then(|(_, number)| number.trim_end().parse::<i64>().ok());
    match millidegrees {
        None => Err("the kernel gave no value"),
        Some(POWER_ON_MILLIDEGREES) => Err("85 degrees is the value at power-on: the chip lost its supply"),
        Some(millidegrees @ -1_000_000..=1_000_000) => Ok(millidegrees as f64 / 1_000.0),
        Some(_) => Err("the value is no temperature"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n";

    #[test]
    fn a_value_is_a_value_and_everything_else_is_a_gap() {
        assert_eq!(parse(GOOD), Ok(23.125));
        assert_eq!(parse(&GOOD.replace("t=23125", "t=-62")), Ok(-0.062));
        for (bad, why) in [
            (GOOD.replace("YES", "NO"), "checksum"),
            (GOOD.replace("t=23125", "t=85000"), "power-on"),
            ("00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0\n".into(), "short"),
            (GOOD.replace("t=23125", "t=99999999999999999999"), "no value"),
            (GOOD.replace("t=23125", "t=9999999"), "no temperature"),
            (GOOD[..50].into(), "no value"),
            (String::new(), "no value"),
        ] {
            assert!(parse(&bad).unwrap_err().contains(why), "{bad}");
        }
    }

    #[test]
    fn sensors_come_go_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let devices = BTreeMap::from([("28-00000a".to_owned(), "boiler".to_owned())]);
        let mut bus = W1Bus::new(W1Config { dir: dir.path().join("devices"), period_ms: 1_000, devices });
        let put = |id: &str| {
            let sensor = dir.path().join("devices").join(id);
            fs::create_dir_all(&sensor).unwrap();
            fs::write(sensor.join("w1_slave"), GOOD).unwrap();
        };
        let read = |bus: &mut W1Bus| -> Vec<(String, bool)> {
            let samples: Vec<_> = bus.sensors().iter().map(|id| bus.read(id)).collect();
            samples
                .into_iter()
                .map(|sample| (sample.device.into(), sample.quality == Quality::GOOD))
                .collect()
        };
        assert_eq!(read(&mut bus), [("boiler".into(), false)], "no bus yet: the named one is missing");
        put("28-00000a");
        put("28-00000b");
        put("w1_bus_master1");
        let both = [("boiler".into(), true), ("28-00000b".into(), true)];
        assert_eq!(read(&mut bus), both);
        fs::remove_dir_all(dir.path().join("devices/28-00000b")).unwrap();
        assert_eq!(read(&mut bus), [("boiler".into(), true), ("28-00000b".into(), false)]);
        put("28-00000b");
        assert_eq!(read(&mut bus), both);
    }

    #[test]
    fn the_table_of_sensors_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        for id in 0..SENSORS_MAX + 50 {
            fs::create_dir(dir.path().join(format!("28-{id:06x}"))).unwrap();
        }
        let mut bus =
            W1Bus::new(W1Config { dir: dir.path().into(), period_ms: 1_000, devices: BTreeMap::new() });
        assert_eq!(bus.sensors().len(), SENSORS_MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_a_gap(text in ".{0,80}(\n.{0,80})?") {
            let _ = parse(&text);
        }
    }
}
