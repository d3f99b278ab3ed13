//! Readings as JSON lines: `{"device":"d1","channel":"temperature","value":21.53,"at":"2026-01-01T00:00:00Z","seq":0,"boot":1}`.
//!
//! `at` is RFC 3339 or whole milliseconds; `boot` and `seq` come together or not at all; `value` null is
//! a gap; `quality` is optional; other keys are ignored. A value is read back bit for bit. A line that is
//! not a reading is counted and logged without its content. A line that never ends costs no more than
//! `line_bytes_max` of memory.

use std::borrow::Cow;
use std::fmt;
use std::io;

use ingot_agent::{Drop, Quality};
use serde::{Deserialize, Deserializer, de};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use super::notice::BadInput;
use super::{CHUNK_SAMPLES_MAX, Chunk, Outlet, Sample, Stamp};
use crate::clock;
use crate::key::is_name;

/// [`read`], with its end in the log.
pub(super) async fn run(reader: impl AsyncBufRead + Unpin, line_bytes_max: usize, outlet: Outlet) {
    if let Err(error) = read(reader, line_bytes_max, outlet).await {
        tracing::error!(%error, "a source of NDJSON broke off");
    }
}

/// Reads lines until the end, the order to stop, or a read error.
///
/// # Errors
/// The reader failed; every line before that was handed over.
pub async fn read(
    mut reader: impl AsyncBufRead + Unpin,
    line_bytes_max: usize,
    mut outlet: Outlet,
) -> io::Result<()> {
    let mut lines = Lines { line_bytes_max, ..Lines::default() };
    let mut chunk = Chunk::default();
    loop {
        let read = tokio::select! {
            read = reader.fill_buf() => read,
            () = outlet.stopped() => break,
        };
        let Ok(mut bytes) = read else {
            outlet.send(&mut chunk).await;
            return read.map(drop);
        };
        let taken = bytes.len();
        if taken == 0 {
            lines.end(&mut chunk);
            break;
        }
        while lines.next(&mut bytes, &mut chunk) {
            if chunk.samples.len() >= CHUNK_SAMPLES_MAX && !outlet.send(&mut chunk).await {
                return Ok(());
            }
        }
        reader.consume(taken);
        if !outlet.send(&mut chunk).await {
            return Ok(());
        }
    }
    outlet.send(&mut chunk).await;
    Ok(())
}

/// Cuts bytes into lines and lines into samples; holds at most one unfinished line.
#[derive(Default)]
struct Lines {
    line_bytes_max: usize,
    unfinished: Vec<u8>,
    /// Inside a line that is already too long.
    skipping: bool,
    bad: BadInput,
}

impl Lines {
    /// Takes one line off `bytes`; `false` when there is no whole one left (the rest is kept).
    fn next(&mut self, bytes: &mut &[u8], chunk: &mut Chunk) -> bool {
        let Some(end) = newline(bytes) else {
            if !self.skipping && self.unfinished.len() + bytes.len() <= self.line_bytes_max {
                self.unfinished.extend_from_slice(bytes);
            } else {
                self.skipping = true;
                self.unfinished.clear();
            }
            return false;
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        *bytes = rest;
        if self.skipping || self.unfinished.len() + line.len() > self.line_bytes_max {
            self.skipping = false;
            self.unfinished.clear();
            self.bad(chunk, Drop::Malformed, "longer than line_bytes_max");
        } else if self.unfinished.is_empty() {
            self.line(line, chunk);
        } else {
            let mut whole = std::mem::take(&mut self.unfinished);
            whole.extend_from_slice(line);
            self.line(&whole, chunk);
        }
        true
    }

    /// The last line may lack its newline.
    fn end(&mut self, chunk: &mut Chunk) {
        self.next(&mut &b"\n"[..], chunk);
    }

    fn line(&mut self, line: &[u8], chunk: &mut Chunk) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match parse(line) {
            Ok(sample) => chunk.samples.push(sample),
            Err((cause, why)) => self.bad(chunk, cause, why),
        }
    }

    fn bad(&mut self, chunk: &mut Chunk, cause: Drop, why: &str) {
        chunk.drop_one(cause);
        self.bad.note("standard input", why);
    }
}

fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    device: Cow<'a, str>,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(deserialize_with = "present")]
    value: Option<f64>,
    at: At,
    boot: Option<u64>,
    seq: Option<u64>,
    quality: Option<u8>,
}

/// `null` is a gap, but a missing key is a mistake.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Option::deserialize(deserializer)
}

/// One line to one sample; the error never repeats the line's content.
fn parse(line: &[u8]) -> Result<Sample, (Drop, &'static str)> {
    let line: Line<'_> = serde_json::from_slice(line)
        .map_err(|_| (Drop::Malformed, "not a JSON object with device, channel, value and at"))?;
    if !is_name(&line.device) || !is_name(&line.channel) {
        return Err((Drop::BadName, "a name is not 1 to 64 of A-Z a-z 0-9 . _ -"));
    }
    const COUNT_MAX: u64 = i64::MAX as u64;
    let boot_seq = match (line.boot, line.seq) {
        (None, None) => None,
        (Some(boot @ ..=COUNT_MAX), Some(seq @ ..=COUNT_MAX)) => Some((boot, seq)),
        _ => {
            return Err((Drop::Malformed, "boot and seq come together, from 0 to 2^63-1"));
        }
    };
    let mut quality = Quality(line.quality.unwrap_or(0));
    if line.value.is_none() {
        quality = quality.with(Quality::MISSING);
    }
    Ok(Sample {
        device: line.device.into(),
        boot_seq,
        channel: line.channel.into(),
        at: Stamp::Wall(line.at.0),
        value: line.value.unwrap_or(0.0),
        quality,
    })
}

/// Milliseconds since 1970-01-01 UTC, from RFC 3339 or a whole number.
struct At(i64);

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = At;
            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an RFC 3339 time or milliseconds")
            }
            fn visit_i64<E: de::Error>(self, ms: i64) -> Result<At, E> {
                Ok(At(ms))
            }
            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<At, E> {
                i64::try_from(ms).map(At).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<At, E> {
                clock::parse_rfc3339_ms(text).map(At).ok_or_else(|| E::custom("not RFC 3339"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::phase::Phase;
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::BufReader;
    use tokio::sync::{mpsc, watch};

    async fn read_all(text: &[u8], buffer: usize, line_bytes_max: usize) -> (Vec<Sample>, [u64; 4]) {
        let (chunks, mut received) = mpsc::channel(1);
        let (_keep, phase) = watch::channel(Phase::Running);
        let reader = BufReader::with_capacity(buffer, text);
        let (read, (samples, drops)) =
            tokio::join!(read(reader, line_bytes_max, Outlet { chunks, phase }), async {
                let (mut samples, mut drops) = (Vec::new(), [0; 4]);
                while let Some(chunk) = received.recv().await {
                    assert!(chunk.samples.len() <= CHUNK_SAMPLES_MAX);
                    samples.extend(chunk.samples);
                    for cause in Drop::ALL {
                        drops[cause as usize] += chunk.drops.get(cause);
                    }
                }
                (samples, drops)
            });
        read.unwrap();
        (samples, drops)
    }

    #[tokio::test]
    async fn good_lines_become_samples() {
        let text = br#"{"device":"d1","channel":"temperature","value":21.53,"at":"2026-01-01T00:00:00.250Z","seq":3,"boot":1}
{"channel":"x","at":12,"value":null,"device":"d-2","quality":8,"site":"ignored"}

{"device":"d1","channel":"x","value":-0.0,"at":-5}"#;
        let (samples, drops) = read_all(text, 16, 1_000).await;
        assert_eq!(drops, [0; 4]);
        assert_eq!(samples.len(), 3);
        assert_eq!(samples[0].boot_seq, Some((1, 3)));
        assert_eq!((samples[0].at, samples[0].value), (Stamp::Wall(1_767_225_600_250), 21.53));
        assert_eq!(samples[1].quality, Quality::MISSING.with(Quality::CLOCK_UNSET));
        assert_eq!((samples[1].at, samples[1].boot_seq), (Stamp::Wall(12), None));
        assert_eq!(samples[2].value.to_bits(), (-0.0_f64).to_bits());
    }

    #[tokio::test]
    async fn bad_lines_are_counted_by_cause_and_cost_themselves_alone() {
        let good = r#"{"device":"d","channel":"c","value":1,"at":1}"#;
        let bad = [
            "x",
            "[]",
            "{}",
            "\u{0}",
            r#"{"device":"d","channel":"c","at":1}"#,
            r#"{"device":"d","channel":"c","value":"1","at":1}"#,
            r#"{"device":"d","channel":"c","value":1,"at":1.5}"#,
            r#"{"device":"d","channel":"c","value":1,"at":"yesterday"}"#,
            r#"{"device":"d","channel":"c","value":1,"at":1,"seq":1}"#,
            r#"{"device":"d","channel":"c","value":1,"at":1,"seq":1,"boot":9223372036854775808}"#,
            r#"{"device":"d","channel":"c","value":1,"at":1,"quality":256}"#,
            r#"{"device":"d","channel":"c","value":1e999,"at":1}"#,
        ];
        let names = [
            r#"{"device":"d/e","channel":"c","value":1,"at":1}"#,
            r#"{"device":"d","channel":"","value":1,"at":1}"#,
        ];
        let mut text = Vec::new();
        for line in bad.iter().chain(&names) {
            text.extend(format!("{line}\n{good}\n").bytes());
        }
        text.extend(b"\xff\xfe\n".repeat(2));
        text.extend(vec![b'y'; 5_000]);
        text.extend(format!("\n{good}").bytes());
        let (samples, drops) = read_all(&text, 64, 200).await;
        assert_eq!(samples.len(), bad.len() + names.len() + 1);
        assert_eq!(drops[Drop::Malformed as usize], bad.len() as u64 + 3);
        assert_eq!(drops[Drop::BadName as usize], names.len() as u64);
    }

    #[tokio::test]
    async fn stop_ends_a_silent_source() {
        let (chunks, _received) = mpsc::channel(1);
        let (stop, phase) = watch::channel(Phase::Running);
        let (silent, _open) = tokio::io::simplex(16);
        let source = tokio::spawn(read(BufReader::new(silent), 100, Outlet { chunks, phase }));
        stop.send(Phase::Sealing(tokio::time::Instant::now())).unwrap();
        tokio::time::timeout(Duration::from_secs(5), source).await.unwrap().unwrap().unwrap();
    }

    proptest! {
        #[test]
        fn every_finite_value_is_read_back_bit_for_bit(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let line = format!(r#"{{"device":"d","channel":"c","value":{value:?},"at":0}}"#);
            prop_assert_eq!(parse(line.as_bytes()).unwrap().value.to_bits(), bits);
        }
    }
}
