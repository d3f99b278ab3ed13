//! Frames without some of their readings.
//!
//! Every frame that has one is encoded anew, under its header, with readings of nobody in their places; the other
//! readings keep every bit. Frames without one are copied. A frame that was damaged within is cut where the damage is.

use std::collections::{BTreeMap, BTreeSet};

use ingot_agent::{Batch, Decoder, Drop, Frame, Quality, Reading};

use crate::bronze::Format;
use crate::contract::Contract;
use crate::decode::{Part, Taken};
use crate::erased::{ERASED_DEVICE, is_erased};

/// As many as are decoded, and one for nobody.
const SERIES_MAX: usize = 1_025;
const DEVICES_MAX: usize = 1_025;
/// Longest frame that can be written: eight times what AWS IoT Core carries.
const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// The channel of nobody.
const ERASED_CHANNEL: &str = "none";
/// A run that is no frame: what stands for the damaged rest of one.
const DAMAGED: [u8; 2] = [0x7f, 0];

/// Memory of the thread that encodes: tables of that size pass over its stack.
const STACK_BYTES: usize = 16 * 1024 * 1024;

type Encoder = Batch<SERIES_MAX, DEVICES_MAX, FRAME_BYTES_MAX>;

/// The object's frames without the readings at `places`; `None` if they are gone already. And what was read of it.
pub(super) fn without(
    contract: &Contract,
    object: &Part<'_>,
    places: &BTreeSet<i64>,
) -> Result<(Option<Vec<u8>>, Taken), String> {
    let device = contract.column_index("device");
    // By the frame's first byte: its length, and which of its readings go.
    let mut touched: BTreeMap<usize, (usize, BTreeSet<usize>)> = BTreeMap::new();
    let (mut first, mut at) = (0, usize::MAX);
    let taken = object.rows(contract, |span, row| {
        if span.offset != at {
            (first, at) = (span.ordinal, span.offset);
        }
        let device = device.and_then(|device| row.ok().map(|fields| &fields[device]));
        if places.contains(&span.ordinal) && !is_erased(Format::Frames, &[], device) {
            let frame = touched.entry(span.offset).or_insert((span.len, BTreeSet::new()));
            frame.1.extend(usize::try_from(span.ordinal - first));
        }
    });
    if touched.is_empty() {
        return Ok((None, taken));
    }
    let encode = || -> Result<Vec<u8>, String> {
        let bytes = object.bytes();
        let mut written = Vec::with_capacity(bytes.len());
        let mut copied = 0;
        for (offset, (len, gone)) in touched {
            written.extend_from_slice(&bytes[copied..offset]);
            copied = offset + len;
            frame_without(&bytes[offset..copied], &gone, &mut written)?;
        }
        written.extend_from_slice(&bytes[copied..]);
        Ok(written)
    };
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(threads, encode);
        let thread = thread.map_err(|error| error.to_string())?;
        thread.join().unwrap_or_else(|_| Err("its frames could not be encoded".to_owned()))
    })
    .map(|written| (Some(written), taken))
}

fn frame_without(run: &[u8], gone: &BTreeSet<usize>, out: &mut Vec<u8>) -> Result<(), String> {
    let mut stuffed = run.strip_suffix(&[0]).unwrap_or(run).to_vec();
    let Ok(frame) = Frame::open(&mut stuffed) else {
        out.extend_from_slice(&DAMAGED);
        return Ok(());
    };
    let mut decoder: Box<Decoder<SERIES_MAX, DEVICES_MAX>> = Box::default();
    let mut batch: Box<Encoder> =
        Box::new(Encoder::new(frame.gateway(), frame.boot()).map_err(|error| error.to_string())?);
    batch.next_seq(frame.seq());
    decoder.start(&frame);
    let mut damaged = false;
    for place in 0.. {
        let (series, reading) = match decoder.next(&frame) {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(_) => {
                damaged = true;
                break;
            }
        };
        let ((device, boot, channel), reading) = if gone.contains(&place) {
            let nothing = Reading {
                seq: place as u64,
                at_ms: frame.sealed_ms(),
                value: 0.0,
                quality: Quality::MISSING,
            };
            ((ERASED_DEVICE, 0, ERASED_CHANNEL), nothing)
        } else {
            (decoder.series(series), reading)
        };
        let device = batch.device(device, boot).map_err(|error| error.to_string())?;
        let series = batch.series(device, channel).map_err(|error| error.to_string())?;
        batch.push(series, &reading).map_err(|error| error.to_string())?;
    }
    for cause in Drop::ALL {
        batch.count_drop(cause, frame.dropped(cause));
    }
    batch.seal(frame.sealed_ms(), frame.uptime_ms(), |bytes| out.extend_from_slice(bytes));
    if damaged {
        out.extend_from_slice(&DAMAGED);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;
    use crate::bronze::BronzeKey;
    use crate::decode::Parts;
    use crate::examine::WHOLE;

    fn frame(seq: u64, devices: &[&str]) -> Vec<u8> {
        let mut batch: Box<Batch<64, 64, 4096>> = Box::new(Batch::new("gw", 7).unwrap());
        batch.next_seq(seq);
        batch.count_drop(Drop::Range, 3);
        for (place, device) in devices.iter().enumerate() {
            let device = batch.device(device, 1).unwrap();
            let series = batch.series(device, "temperature").unwrap();
            let value = 20.0 + place as f64 / 3.0;
            let reading =
                Reading { seq: place as u64, at_ms: 1_767_268_800_000, value, quality: Quality::STEP };
            batch.push(series, &reading).unwrap();
        }
        let mut bytes = Vec::new();
        batch.seal(1_767_268_900_000, 5, |part| bytes.extend_from_slice(part));
        bytes
    }

    #[test]
    fn the_others_keep_their_place_and_every_bit() {
        let contract = Contract::embedded().remove(0);
        let key = "bronze/sensor_readings/dt=2026-01-01/gateway=gw/0000000000000007-0000000000.ingot";
        let key = BronzeKey::parse(key, |_| true).unwrap();
        let mut damaged = frame(2, &["d1", "d2"]);
        damaged[9] ^= 0x55;
        let bytes = [frame(0, &["d1", "d2", "d1", "d3"]), damaged, frame(1, &["d2"])].concat();
        let object = |bytes: &[u8]| {
            let mut parts = Parts::open(&key, Bytes::copy_from_slice(bytes), WHOLE);
            parts.fill();
            parts
        };
        let rows = |bytes: &[u8]| {
            let mut rows = Vec::new();
            let aside = object(bytes).part().rows(&contract, |span, row| {
                rows.push((span.ordinal, format!("{:?}", row.map_err(|fault| fault.rule()))));
            });
            let headers = aside.frames.into_iter().map(|header| (header.seq, header.readings, header.drops));
            (rows, headers.collect::<Vec<_>>())
        };
        let places = BTreeSet::from([0, 2]);
        let erased = without(&contract, &object(&bytes).part(), &places).unwrap().0.unwrap();
        let ((before, headers), (after, headers_after)) = (rows(&bytes), rows(&erased));
        assert_eq!(headers, headers_after);
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before == after, !places.contains(&before.0), "{before:?} {after:?}");
        }
        assert!(after[0].1.contains(ERASED_DEVICE) && !format!("{after:?}").contains("\"d1\""));
        assert_eq!(without(&contract, &object(&erased).part(), &places).unwrap().0, None);
    }
}
