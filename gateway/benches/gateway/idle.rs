//! A gateway that has next to nothing to do: one sensor a second, connected.

use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::Place;
use crate::daemon::Daemon;
use crate::subscriber::Subscriber;

const SECONDS: u64 = 20;

pub fn measure(place: &Place, dir: &Path) {
    let subscriber = Subscriber::start(place);
    let settings = "[[source]]\nkind = \"i2c\"\nbus = \"simulated\"\n[[source.sensor]]\nchip = \"bme280\"\n\
                    address = 0x76\nperiod_ms = 1000\n[batch]\nage_ms_max = 1000\n[spool]\n[uplink.mqtt]";
    let mut daemon = Daemon::start(place, dir, settings, Stdio::null());
    subscriber.until(|counts| counts.frames >= 2);
    let before = daemon.usage();
    sleep(Duration::from_secs(SECONDS));
    let after = daemon.usage();
    println!(
        "idle      RSS {} kB, CPU {:.2} % of a core (one BME280 a second, a frame a second)",
        after.rss_kb,
        (after.cpu_s - before.cpu_s) / SECONDS as f64 * 100.0
    );
}
