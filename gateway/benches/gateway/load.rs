//! As many readings as one core takes from lines of JSON to the broker's PUBACK.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::Place;
use crate::daemon::Daemon;
use crate::subscriber::Subscriber;

const DEVICES: u64 = 50;

pub fn measure(place: &Place, dir: &Path, readings: u64) {
    fs::create_dir_all(dir).unwrap();
    let lines = dir.join("readings.ndjson");
    write_readings(&lines, readings);
    let subscriber = Subscriber::start(place);
    let settings = "[batch]\n[spool]\n[uplink.mqtt]\npublishes_per_s_max = 0\nbytes_per_s_max = 0\n\
                    in_flight_bytes_max = 1048576";
    let daemon = Daemon::start(place, dir, settings, File::open(&lines).unwrap().into());
    let (status, wall, usage) = daemon.end();
    let summary = fs::read_to_string(dir.join("summary.json")).unwrap();
    assert!(status.success(), "{summary}\n{}", fs::read_to_string(dir.join("log")).unwrap());
    subscriber.until(|counts| counts.readings >= readings);
    let counts = subscriber.counts();
    assert_eq!(counts.readings, readings, "{summary}");

    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    println!(
        "load      {:.0} readings/s ({readings} in {:.2} s, CPU {:.2} s), RSS at most {} kB, {} frames, \
         {:.3} bytes a reading; 0 lost",
        readings as f64 / wall.as_secs_f64(),
        wall.as_secs_f64(),
        usage.cpu_s,
        usage.rss_peak_kb,
        summary["sealed_frames"],
        counts.bytes as f64 / readings as f64,
    );
}

/// Random walks of two decimals, one reading of each device a second.
fn write_readings(path: &Path, readings: u64) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut random = fastrand::Rng::with_seed(1);
    let mut values = [2_000_i64; DEVICES as usize];
    for index in 0..readings {
        let (device, seq) = (index % DEVICES, index / DEVICES);
        let value = &mut values[device as usize];
        *value = (*value + random.i64(-5..=5)).clamp(-4_000, 8_500);
        let (value, at) = (*value as f64 / 100.0, 1_767_225_600_000 + seq * 1_000);
        writeln!(
            file,
            "{{\"device\":\"d{device}\",\"channel\":\"temperature\",\"value\":{value},\"at\":{at},\"seq\":{seq},\"boot\":1}}"
        )
        .unwrap();
    }
    file.flush().unwrap();
}
