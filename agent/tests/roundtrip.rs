//! What is pushed comes back: every reading, bit for bit, in order, however odd its values are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use ingot_agent::{Batch, DeclareError, Decoder, Drop, Frame, PushError, Quality, Reading, SeriesId};
use proptest::prelude::*;

type Small = Batch<12, 4, 2048>;

/// A frame's readings with their names; a missing value has no bits to compare.
type Decoded = Vec<(String, u64, String, u64, i64, Option<u64>, u8)>;

fn seal<const S: usize, const D: usize, const B: usize>(batch: &mut Batch<S, D, B>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let sealed = batch.seal(1_767_225_600_000, 12_345, |part| bytes.extend_from_slice(part));
    assert_eq!(sealed.bytes, bytes.len());
    assert!(bytes.len() <= B);
    assert_eq!(bytes.iter().position(|byte| *byte == 0), Some(bytes.len() - 1));
    bytes
}

fn decode(bytes: &[u8]) -> Decoded {
    let mut stuffed = bytes[..bytes.len() - 1].to_vec();
    let frame = Frame::open(&mut stuffed).unwrap();
    let mut decoder = Decoder::<12, 4>::new();
    decoder.start(&frame);
    let mut found = Vec::new();
    while let Some((series, reading)) = decoder.next(&frame).unwrap() {
        let (device, boot, channel) = decoder.series(series);
        found.push(row(device, boot, channel, &reading));
    }
    assert_eq!(found.len(), frame.readings() as usize);
    found
}

/// What a reading that counts from the boot becomes, by the times of [`seal`].
fn dated(reading: Reading) -> Reading {
    if !reading.quality.contains(Quality::FROM_BOOT) {
        return reading;
    }
    let at_ms = reading.at_ms.wrapping_add(1_767_225_600_000 - 12_345);
    Reading { at_ms, quality: reading.quality.without(Quality::CLOCK_UNSET), ..reading }
}

fn row(
    device: &str,
    boot: u64,
    channel: &str,
    r: &Reading,
) -> (String, u64, String, u64, i64, Option<u64>, u8) {
    let value = (!r.quality.contains(Quality::MISSING)).then_some(r.value.to_bits());
    (device.to_owned(), boot, channel.to_owned(), r.seq, r.at_ms, value, r.quality.0)
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (-5000_i64..5000).prop_map(|q| q as f64 / 100.0),
        2 => (any::<i32>(), 0_i32..14).prop_map(|(q, d)| f64::from(q) / 10_f64.powi(d)),
        2 => any::<u64>().prop_map(f64::from_bits),
        1 => prop::sample::select(vec![
            f64::NAN, f64::from_bits(0xFFF0_0000_0000_0001), f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0,
            f64::MIN_POSITIVE, f64::from_bits(1), f64::MAX, f64::MIN, 0.1 + 0.2, i64::MAX as f64, 1e18,
        ]),
    ]
}

/// A step of `seq` or time: mostly the usual one.
fn step() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(1_i64), 2 => -3_i64..5000, 1 => any::<i64>()]
}

prop_compose! {
    fn steps()(
        series in 0_usize..12, seq in step(), time in step(), tick in prop_oneof![Just(0_i64), Just(1000), Just(7)],
        value in value(), quality in prop_oneof![6 => Just(0_u8), 1 => any::<u8>()],
    ) -> (usize, i64, i64, f64, u8) {
        (series, seq, time.wrapping_mul(tick), value, quality)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_readings_come_back(steps in prop::collection::vec(steps(), 1..400), round_robin in any::<bool>()) {
        let mut batch = Box::new(Small::new("gateway-01", u64::MAX).unwrap());
        let ids: Vec<SeriesId> = (0..12_u64).map(|i| {
            let device = batch.device(&format!("device-{}", i / 3), u64::MAX - i / 3).unwrap();
            batch.series(device, ["temperature", "t", "humidity"][i as usize % 3]).unwrap()
        }).collect();
        let (mut seqs, mut at_ms) = ([0_u64; 4], 1_767_225_600_000_i64);
        let (mut pushed, mut found) = (Decoded::new(), Decoded::new());
        for (i, (series, seq, time, value, quality)) in steps.into_iter().enumerate() {
            let series = if round_robin { i % 12 } else { series };
            let device = series / 3;
            seqs[device] = seqs[device].wrapping_add(seq as u64);
            at_ms = at_ms.wrapping_add(time);
            let reading = Reading { seq: seqs[device], at_ms, value, quality: Quality(quality) };
            let before = (batch.readings(), batch.bytes());
            if batch.push(ids[series], &reading) == Err(PushError::Full) {
                prop_assert_eq!(before, (batch.readings(), batch.bytes()));
                found.extend(decode(&seal(&mut batch)));
                batch.push(ids[series], &reading).unwrap();
            }
            let channel = ["temperature", "t", "humidity"][series % 3];
            pushed.push(row(&format!("device-{device}"), u64::MAX - device as u64, channel, &dated(reading)));
        }
        found.extend(decode(&seal(&mut batch)));
        prop_assert_eq!(pushed, found);
    }
}

fn reading(seq: u64) -> Reading {
    Reading { seq, at_ms: seq as i64 * 1000, value: seq as f64 / 4.0, quality: Quality::GOOD }
}

#[test]
fn a_push_that_fails_leaves_the_batch_as_it_was() {
    let mut batch = Box::new(Small::new("g", 1).unwrap());
    let device = batch.device("d", 1).unwrap();
    let known = batch.series(device, "known").unwrap();
    let late = batch.series(device, &"x".repeat(64)).unwrap();
    let mut seq = 0;
    // Worst values, so that the batch fills without being predictable.
    let odd =
        |seq: u64| Reading { value: f64::from_bits(seq.wrapping_mul(0x9E37_79B9_7F4A_7C15)), ..reading(seq) };
    while batch.push(known, &odd(seq)).is_ok() {
        seq += 1;
    }
    let before = (batch.readings(), batch.bytes());
    assert_eq!(batch.push(known, &odd(seq)), Err(PushError::Full));
    assert_eq!(batch.push(late, &odd(seq)), Err(PushError::Full));
    assert_eq!(before, (batch.readings(), batch.bytes()));
    let found = decode(&seal(&mut batch));
    assert_eq!(found, (0..seq).map(|seq| row("d", 1, "known", &odd(seq))).collect::<Vec<_>>());
    batch.push(late, &odd(seq)).unwrap();
}

#[test]
fn an_empty_batch_takes_the_longest_names_and_worst_values() {
    let mut batch = Box::new(Small::new(&"g".repeat(64), u64::MAX).unwrap());
    let device = batch.device(&"aZ9-".repeat(16), u64::MAX / 3).unwrap();
    let series = batch.series(device, &"._xY".repeat(16)).unwrap();
    for cause in Drop::ALL {
        batch.count_drop(cause, u64::MAX);
    }
    let worst =
        Reading { seq: u64::MAX, at_ms: i64::MIN, value: f64::from_bits(u64::MAX), quality: Quality(0xFB) };
    batch.push(series, &worst).unwrap();
    assert_eq!(
        decode(&seal(&mut batch)),
        [row(&"aZ9-".repeat(16), u64::MAX / 3, &"._xY".repeat(16), &dated(worst))]
    );
}

#[test]
fn a_full_table_says_so_and_an_unknown_id_is_refused() {
    let mut batch = Box::new(Batch::<2, 1, 2048>::new("g", 1).unwrap());
    let device = batch.device("d", 1).unwrap();
    assert_eq!(batch.device("d", 2), Err(DeclareError::TableFull { max: 1 }));
    let first = batch.series(device, "a").unwrap();
    let second = batch.series(device, "b").unwrap();
    assert_eq!(batch.series(device, "c"), Err(DeclareError::TableFull { max: 2 }));
    assert_eq!(batch.series(device, "a"), Ok(first), "a known name needs no room");
    batch.push(second, &reading(0)).unwrap();
    assert_eq!(batch.clear_tables().unwrap_err().readings, 1);
    seal(&mut batch);
    batch.clear_tables().unwrap();
    assert_eq!(batch.push(second, &reading(1)), Err(PushError::Unknown));
    assert_eq!(batch.series(device, "a"), Err(DeclareError::Unknown));
}

#[test]
fn bad_names_are_refused() {
    for name in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
        assert_eq!(Small::new(name, 1).err(), Some(DeclareError::Name), "{name}");
        let mut batch = Box::new(Small::new("g", 1).unwrap());
        assert_eq!(batch.device(name, 1), Err(DeclareError::Name));
    }
}

#[test]
fn the_header_carries_identity_and_drops_and_starts_anew() {
    let mut batch = Box::new(Small::new("gateway-01", 7).unwrap());
    batch.count_drop(Drop::Malformed, 3);
    batch.count_drop(Drop::Malformed, 2);
    let (first, second) = (seal(&mut batch), seal(&mut batch));
    for (bytes, seq, dropped) in [(first, 0, 5), (second, 1, 0)] {
        let mut stuffed = bytes[..bytes.len() - 1].to_vec();
        let frame = Frame::open(&mut stuffed).unwrap();
        assert_eq!((frame.gateway(), frame.boot(), frame.seq(), frame.readings()), ("gateway-01", 7, seq, 0));
        assert_eq!((frame.sealed_ms(), frame.uptime_ms()), (1_767_225_600_000, 12_345));
        assert_eq!((frame.dropped(Drop::Malformed), frame.dropped(Drop::Range)), (dropped, 0));
        assert_eq!(decode(&bytes), []);
    }
}

#[test]
fn a_frame_is_dated_afterwards_without_touching_its_body() {
    let mut batch = Box::new(Small::new("gateway-01", 7).unwrap());
    let device = batch.device("d", 1).unwrap();
    let series = batch.series(device, "c").unwrap();
    let own = Reading { seq: 0, at_ms: 5_000, value: 1.5, quality: Quality::GOOD };
    let quality = Quality::FROM_BOOT.with(Quality::STEP);
    batch.push(series, &own).unwrap();
    batch.push(series, &Reading { seq: 1, at_ms: 6_000, quality, ..own }).unwrap();
    batch.push(series, &Reading { seq: 2, quality: Quality::CLOCK_UNSET, ..own }).unwrap();
    batch.count_drop(Drop::Range, 9);
    let mut bytes = Vec::new();
    batch.seal(10_000, 10_000, |part| bytes.extend_from_slice(part));
    bytes.pop();

    let frame = Frame::open(&mut bytes).unwrap();
    let write = |sealed_ms, uptime_ms| {
        let mut written = Vec::new();
        let length = frame.sealed_at(sealed_ms, uptime_ms).write(|part| written.extend_from_slice(part));
        assert_eq!(length, Ok(written.len()));
        written
    };
    let times = |bytes: &[u8]| decode(bytes).iter().map(|row| (row.4, row.6)).collect::<Vec<_>>();
    let dated = write(1_767_225_600_000, 10_000);
    assert_eq!(times(&dated), [(5_000, 0), (1_767_225_596_000, 16 | 2), (5_000, 8)]);
    assert_eq!(times(&write(1_767_225_600_000, 0)), [(5_000, 0), (6_000, 8 | 2), (5_000, 8)]);
    let mut stuffed = dated[..dated.len() - 1].to_vec();
    let found = Frame::open(&mut stuffed).unwrap();
    assert_eq!((found.boot(), found.seq(), found.dropped(Drop::Range)), (7, 0, 9));
    assert_eq!((found.sealed_ms(), found.uptime_ms()), (1_767_225_600_000, 10_000));
}

#[test]
fn a_batch_for_eight_series_fits_in_16_kib() {
    let bytes = size_of::<Batch<8, 1, 5120>>();
    assert!(bytes <= 16 * 1024, "{bytes}");
}
