//! Frames: readings land with their headers; a damaged frame costs itself alone.

use ingot_agent::{Batch, Drop, Quality, Reading};

use super::*;

/// A frame of one reading of `d1` per value, counted from 0; no value is a missing one.
fn frame(seq: u64, values: &[Option<f64>]) -> Vec<u8> {
    let mut batch = Box::new(Batch::<4, 4, 4096>::new("gw-1", 7).unwrap());
    for _ in 0..seq {
        batch.seal(0, 0, |_| {});
    }
    let device = batch.device("d1", 1).unwrap();
    let series = batch.series(device, "temperature").unwrap();
    for (seq, value) in (0..).zip(values) {
        let quality = if value.is_some() { Quality::GOOD } else { Quality::MISSING };
        let at_ms = 1_767_225_600_000 + seq as i64 * 1000;
        batch.push(series, &Reading { seq, at_ms, value: value.unwrap_or(0.0), quality }).unwrap();
    }
    batch.count_drop(Drop::SpoolFull, 3);
    let mut bytes = Vec::new();
    batch.seal(1_767_225_700_000, 90_000, |piece| bytes.extend_from_slice(piece));
    bytes
}

#[test]
fn readings_of_frames_land_with_their_headers() {
    let object =
        [frame(0, &[Some(21.5), None, Some(f64::NAN), Some(99.0)]), frame(1, &[Some(-40.0)])].concat();
    let examined = run("sensor_readings", "a.ingot", object.clone());
    assert_eq!(
        rules(&examined),
        [(1, "missing_value".into()), (2, "out_of_range".into()), (3, "out_of_range".into())]
    );
    let rows = &examined.accepted;
    assert_eq!(rows["value"].as_primitive::<Float64Type>().values().to_vec(), [21.5, -40.0]);
    assert_eq!(rows["device"].as_string::<i32>().value(1), "d1");
    assert_eq!(rows["at"].as_primitive::<TimestampMicrosecondType>().value(0), 1_767_225_600_000_000);
    assert_eq!(
        examined.discards[1].record,
        r#"{"device":"d1","boot":1,"seq":2,"channel":"temperature","at":"2026-01-01T00:00:02Z","value":"NaN","quality":0}"#
    );
    let headers: Vec<(u64, u32)> = examined.frames.iter().map(|frame| (frame.seq, frame.readings)).collect();
    assert_eq!(headers, [(0, 4), (1, 1)]);
    assert_eq!(examined.frames[0].drops, [(Drop::SpoolFull, 3)]);
    assert_eq!((examined.frames[0].gateway.as_str(), examined.frames[0].boot), ("gw-1", 7));
    assert_eq!(run("sensor_readings", "a.ingot.gz", gz(&object)).accepted.num_rows(), 2);
}

#[test]
fn a_damaged_frame_costs_itself_alone() {
    let good = frame(0, &[Some(20.0), Some(20.5)]);
    let mut bad = frame(1, &[Some(21.0)]);
    let middle = bad.len() / 2;
    bad[middle] = if bad[middle] == 1 { 2 } else { 1 };
    let cut = &good[..good.len() - 3];
    let examined = run("sensor_readings", "a.ingot", [good.as_slice(), &bad, &good, cut].concat());
    assert_eq!(rules(&examined), [(2, "frame".into()), (5, "frame".into())]);
    assert_eq!(examined.accepted.num_rows(), 4);
    let (start, end) = (good.len(), good.len() + bad.len());
    assert!(
        examined.discards[0].record.starts_with(&format!("bytes {start}..{end} of the object: the frame's "))
    );
    assert_eq!(
        (examined.discards[0].byte_offset, examined.discards[0].byte_len),
        (start as i64, bad.len() as i64)
    );
}
