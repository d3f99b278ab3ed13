//! A snapshot in Prometheus' text format, version 0.0.4.
//!
//! Names follow Prometheus' conventions: base units, `_total` on counters, one help line each. They are
//! an interface: dashboards and alerts hang on them, so they change only with a line in the changelog.

use std::fmt::{Display, Write};

use super::Snapshot;

/// The media type to serve it under.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a snapshot.
pub fn text(snapshot: &Snapshot) -> String {
    let Snapshot { readings, contract, clock, spool, flash, uplink, .. } = snapshot;
    let mut text = Text(String::with_capacity(6_000));
    // Names of gateways, causes and versions hold no character that a label must escape.
    text.family("info", "gauge", "The program and its run; always 1.");
    text.sample(
        "info",
        &format!(
            "{{version=\"{}\",gateway=\"{}\",boot=\"{}\"}}",
            snapshot.version, snapshot.gateway, snapshot.boot
        ),
        1,
    );
    text.family("healthy", "gauge", "1 if nothing puts readings in danger, else 0; /health says what does.");
    text.sample("healthy", "", u64::from(snapshot.problems.is_empty()));
    text.seconds("uptime_seconds", "Time since the start.", Some(snapshot.uptime_ms));

    text.counter(
        "readings_total",
        "Readings that sources offered, the malformed ones too.",
        readings.produced,
    );
    text.family("readings_dropped_total", "counter", "Readings given up and counted, by cause.");
    for (cause, count) in &readings.dropped {
        text.sample("readings_dropped_total", &format!("{{cause=\"{cause}\"}}"), *count);
    }
    text.counter("readings_sealed_total", "Readings in frames sealed by this run.", readings.sealed);
    text.counter(
        "readings_acked_total",
        "Readings in confirmed frames, those of former runs too.",
        readings.acked,
    );
    text.counter("readings_lost_total", "Readings that the disk refused to the end.", readings.not_saved);
    text.counter("frames_sealed_total", "Frames sealed by this run.", snapshot.sealed_frames);
    text.counter("sealed_bytes_total", "Bytes of the frames sealed by this run.", snapshot.sealed_bytes);

    text.gauge("contract_pushed", "1 if a pushed contract is in force, else 0.", u64::from(contract.pushed));
    text.gauge("contract_on_trial", "1 if it is on trial, else 0.", u64::from(contract.on_trial));
    text.family("contract_updates_total", "counter", "Contracts that were pushed, by what became of them.");
    for (result, count) in [
        ("accepted", contract.accepted),
        ("refused", contract.refused),
        ("rolled_back", contract.rolled_back),
    ] {
        text.sample("contract_updates_total", &format!("{{result=\"{result}\"}}"), count);
    }
    text.gauge("clock_set", "1 if the clock is set, else 0.", u64::from(clock.set));
    text.counter("clock_steps_total", "Times that the clock was stepped while it was set.", clock.steps);
    text.gauge("held_readings", "Readings on disk that wait until the clock is set.", clock.held_readings);
    text.gauge("held_bytes", "Bytes of the segments that they wait in.", clock.held_bytes);
    text.gauge("held_limit_bytes", "Cap on these segments (clock.held_bytes_max).", clock.held_bytes_max);
    text.counter(
        "held_dated_readings_total",
        "Readings that waited for the clock and went on with their date.",
        clock.dated_readings,
    );
    text.counter(
        "held_undated_readings_total",
        "Readings that waited for the clock and went on without a date.",
        clock.undated_readings,
    );

    text.gauge("spool_frames", "Frames on disk that are not confirmed.", spool.frames);
    text.gauge("spool_readings", "Readings on disk that are not confirmed.", spool.readings);
    text.gauge("spool_bytes", "Bytes of the spool's segments.", spool.bytes);
    text.gauge("spool_limit_bytes", "Cap on the spool's segments (spool.bytes_max).", spool.bytes_max);
    text.seconds(
        "spool_oldest_frame_age_seconds",
        "Age of the oldest frame that is not confirmed; 0 with an empty spool.",
        Some(spool.oldest_age_ms.unwrap_or(0)),
    );
    if let Some(priority) = &spool.priority {
        text.gauge("spool_priority_frames", "Of the frames, those of priority channels.", priority.frames);
        text.gauge("spool_priority_readings", "Readings in them.", priority.readings);
        text.gauge("spool_priority_bytes", "Bytes of their segments.", priority.bytes);
        text.counter(
            "spool_priority_dropped_readings_total",
            "Of the readings dropped as spool_full, those of priority channels.",
            priority.dropped_readings,
        );
    }
    text.gauge("spool_recovered_frames", "Frames that former runs left.", spool.recovered_frames);
    text.counter(
        "spool_damaged_frames_total",
        "Damaged frames that were stepped over.",
        spool.damaged_frames,
    );
    text.counter(
        "spool_poisoned_segments_total",
        "Segments given up after a failed write or fsync.",
        spool.poisoned_segments,
    );
    text.gauge(
        "spool_in_doubt_readings",
        "Readings that a failed fsync put in doubt and that are not confirmed.",
        spool.in_doubt_readings,
    );
    text.counter(
        "spool_lost_readings_total",
        "Readings that were stored and were damaged when they were to be sent.",
        spool.lost_readings,
    );
    text.gauge("spool_unreadable_places", "Places that wait for the next start.", spool.unreadable_places);
    text.counter("spool_written_bytes_total", "Bytes handed to the disk.", flash.bytes_written);
    text.counter("spool_fsyncs_total", "Fsyncs asked of the disk.", flash.fsyncs);
    text.counter("spool_appended_readings_total", "Readings appended on disk.", flash.readings_appended);
    text.gauge(
        "spool_written_bytes_per_reading",
        "Bytes handed to the disk a reading appended; 0 before the first one.",
        flash.bytes_per_reading().unwrap_or(0.0),
    );

    text.gauge("uplink_connected", "1 if there is a connection, else 0.", u64::from(uplink.connected));
    text.gauge("uplink_in_flight_frames", "Frames sent and not confirmed.", uplink.in_flight);
    text.counter("uplink_pubacks_total", "Frames confirmed by the far end.", uplink.acked_frames);
    text.seconds(
        "uplink_last_puback_timestamp_seconds",
        "When the far end last confirmed a frame, in Unix time; missing before the first time.",
        uplink.last_ack_age_ms.map(|age| u64::try_from(snapshot.at_ms).unwrap_or(0).saturating_sub(age)),
    );
    text.counter("uplink_outages_total", "Connections that were lost or could not be made.", uplink.outages);
    text.counter("uplink_refusals_total", "Times that the far end refused a frame.", uplink.refusals);
    text.gauge("resident_memory_bytes", "Memory that the process holds.", snapshot.resident_bytes);
    text.0
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP ingot_gateway_{name} {help}\n# TYPE ingot_gateway_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "ingot_gateway_{name}{labels} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, "", value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }

    /// Milliseconds, said in seconds without losing a digit.
    fn seconds(&mut self, name: &str, help: &str, ms: Option<u64>) {
        self.family(name, "gauge", help);
        if let Some(ms) = ms {
            let _ = writeln!(self.0, "ingot_gateway_{name} {}.{:03}", ms / 1_000, ms % 1_000);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::health::snapshot::{ClockSnapshot, FlashSnapshot, PrioritySnapshot, Readings, UplinkSnapshot};
    use std::collections::{BTreeMap, BTreeSet};

    /// Reads the text by the format's rules and panics at the first breach; samples by name and labels.
    fn parse(text: &str) -> BTreeMap<String, f64> {
        let mut samples = BTreeMap::new();
        let mut families = BTreeSet::new();
        let mut open: Option<(String, String)> = None;
        assert!(text.ends_with('\n'), "the last line ends too");
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("a name and a help text");
                assert!(words.ends_with('.') && !words.contains('\\'), "{line}");
                let kind =
                    lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("HELP, then TYPE");
                let (typed, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, typed);
                assert!(["counter", "gauge"].contains(&kind), "{kind}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
                assert!(!["_ms", "_bytes_total_bytes", "_millis"].iter().any(|unit| name.ends_with(unit)));
                assert!(families.insert(name.to_owned()), "{name} comes twice");
                open = Some((name.to_owned(), kind.to_owned()));
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            let name = series.split_once('{').map_or(series, |(name, labels)| {
                let labels = labels.strip_suffix('}').expect("labels end");
                for label in labels.split(',') {
                    let (key, value) = label.split_once('=').unwrap();
                    assert!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase()));
                    assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{label}");
                }
                name
            });
            assert_eq!(
                Some(name),
                open.as_ref().map(|(name, _)| name.as_str()),
                "a sample below its own family"
            );
            let value: f64 = value.parse().unwrap();
            assert!(value.is_finite() && value >= 0.0);
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
        samples
    }

    #[test]
    fn every_number_is_there_under_the_formats_rules() {
        let mut snapshot = Snapshot {
            version: "1.2.3".into(),
            gateway: "gw-1".into(),
            boot: "00000000000000ff".into(),
            at_ms: 1_767_225_600_500,
            uptime_ms: 1_050,
            readings: Readings {
                produced: 10,
                dropped: BTreeMap::from([("range".into(), 2), ("malformed".into(), 0)]),
                ..Readings::default()
            },
            clock: ClockSnapshot { set: true, held_readings: 12, ..ClockSnapshot::default() },
            flash: FlashSnapshot { bytes_written: 75, readings_appended: 10, fsyncs: 2 },
            uplink: UplinkSnapshot { connected: true, ..UplinkSnapshot::default() },
            ..Snapshot::default()
        };
        let samples = parse(&text(&snapshot));
        let value = |name: &str| samples.get(&format!("ingot_gateway_{name}")).copied();
        assert_eq!(value("readings_total"), Some(10.0));
        assert_eq!(value("readings_dropped_total{cause=\"range\"}"), Some(2.0));
        assert_eq!(value("uptime_seconds"), Some(1.05));
        assert_eq!((value("clock_set"), value("held_readings")), (Some(1.0), Some(12.0)));
        assert_eq!(value("spool_written_bytes_per_reading"), Some(7.5));
        assert_eq!((value("uplink_connected"), value("healthy")), (Some(1.0), Some(1.0)));
        assert_eq!(value("uplink_last_puback_timestamp_seconds"), None);
        assert_eq!(value("info{version=\"1.2.3\",gateway=\"gw-1\",boot=\"00000000000000ff\"}"), Some(1.0));

        snapshot.uplink.last_ack_age_ms = Some(500);
        snapshot.problems.push("something".into());
        let samples = parse(&text(&snapshot));
        assert_eq!(samples["ingot_gateway_uplink_last_puback_timestamp_seconds"], 1_767_225_600.0);
        assert_eq!(samples["ingot_gateway_healthy"], 0.0);
        assert!(!samples.contains_key("ingot_gateway_spool_priority_frames"), "it is not there");

        snapshot.spool.priority =
            Some(PrioritySnapshot { frames: 3, dropped_readings: 7, ..Default::default() });
        let samples = parse(&text(&snapshot));
        assert_eq!(samples["ingot_gateway_spool_priority_frames"], 3.0);
        assert_eq!(samples["ingot_gateway_spool_priority_dropped_readings_total"], 7.0);
    }
}
