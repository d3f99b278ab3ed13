//! A sample as a line of NDJSON, the form in which readings enter a gateway or bronze.
//!
//! The value's digits parse back to the same bits. JSON knows no NaN, and a sample holds none.

use std::io::{self, Write};

use ingot_agent::Quality;
use serde::Serialize;

use crate::Sample;

/// The line's members, in their order.
#[derive(Serialize)]
struct Line<'a> {
    device: &'a str,
    channel: &'a str,
    value: Option<f64>,
    at: i64,
    seq: u64,
    boot: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<u8>,
}

/// Writes the sample and a newline. `at` is in milliseconds since 1970-01-01 UTC; a missing value
/// is `null` with the quality flag that says so.
pub fn write_line(out: &mut impl Write, sample: &Sample) -> io::Result<()> {
    let line = Line {
        device: &sample.device,
        channel: &sample.channel,
        value: sample.value,
        at: sample.at_ms,
        seq: sample.seq,
        boot: sample.boot,
        quality: sample.value.is_none().then_some(Quality::MISSING.0),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn line(value: Option<f64>) -> String {
        let sample = Sample {
            device: "d1".into(),
            boot: 1,
            seq: 0,
            channel: "temperature".into(),
            at_ms: 1_767_225_600_000,
            value,
        };
        let mut out = Vec::new();
        write_line(&mut out, &sample).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_line_is_what_gateways_read() {
        assert_eq!(
            line(Some(21.53)),
            "{\"device\":\"d1\",\"channel\":\"temperature\",\"value\":21.53,\
             \"at\":1767225600000,\"seq\":0,\"boot\":1}\n"
        );
        assert_eq!(
            line(None),
            "{\"device\":\"d1\",\"channel\":\"temperature\",\"value\":null,\
             \"at\":1767225600000,\"seq\":0,\"boot\":1,\"quality\":4}\n"
        );
    }

    #[test]
    fn values_parse_back_to_their_bits() {
        let mut random = fastrand::Rng::with_seed(1);
        let finite = std::iter::repeat_with(|| f64::from_bits(random.u64(..)));
        for value in finite.filter(|value| value.is_finite()).take(10_000) {
            let json: serde_json::Value = serde_json::from_str(&line(Some(value))).unwrap();
            assert_eq!(json["value"].as_f64().unwrap().to_bits(), value.to_bits());
        }
    }
}
