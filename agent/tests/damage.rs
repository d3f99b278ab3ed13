//! What is damaged is found, and costs itself alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use crc::{CRC_32_ISCSI, Crc};
use ingot_agent::{Batch, Decoder, Frame, FrameError, FrameReader, Quality, Reading};
use proptest::prelude::*;

fn frames(count: u64) -> Vec<Vec<u8>> {
    let mut batch = Box::new(Batch::<2, 1, 2048>::new("gateway-01", 1).unwrap());
    let device = batch.device("d1", 1).unwrap();
    let series = batch.series(device, "temperature").unwrap();
    let frame = |frame| {
        for i in 0..20 {
            let value = (2000 + (i * i) % 17) as f64 / 100.0;
            let seq = frame * 20 + i;
            let reading = Reading { seq, at_ms: 1000 * seq as i64, value, quality: Quality::GOOD };
            batch.push(series, &reading).unwrap();
        }
        let mut bytes = Vec::new();
        batch.seal(0, 0, |part| bytes.extend_from_slice(part));
        bytes
    };
    (0..count).map(frame).collect()
}

/// Sequence numbers of the good frames in a stream.
fn good(stream: &[u8]) -> Vec<u64> {
    let mut reader = FrameReader::<2048>::new();
    let mut input = stream;
    let mut found = Vec::new();
    while let Some(cut) = reader.read(&mut input) {
        if let Ok(frame) = Frame::open(cut.stuffed) {
            found.push(frame.seq());
        }
    }
    found
}

#[test]
fn every_single_bit_flip_is_found() {
    let frame = &frames(1)[0];
    for bit in 0..(frame.len() - 1) * 8 {
        let mut damaged = frame.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(good(&damaged).is_empty(), "bit {bit}");
    }
}

#[test]
fn a_damaged_frame_costs_itself_alone() {
    let frames = frames(4);
    let (start, len) = (frames[0].len(), frames[1].len());
    let stream = frames.concat();
    for at in start..start + len - 1 {
        let mut damaged = stream.clone();
        damaged[at] ^= 0x10;
        assert_eq!(good(&damaged), [0, 2, 3], "byte {at}");
    }
    let torn: Vec<u8> = [&stream[..start + len / 2], &[0], &stream[start + len..]].concat();
    assert_eq!(good(&torn), [0, 2, 3]);
}

#[test]
fn errors_say_what_is_wrong() {
    let open = |bytes: &[u8]| Frame::open(&mut bytes.to_vec()).map(|frame| frame.seq());
    assert_eq!(open(&[]), Err(FrameError::Short { bytes: 0 }));
    assert_eq!(open(&[9, 1]), Err(FrameError::Stuffing));
    assert!(matches!(open(&stuffed(&[1, 1, 2, 3, 4, 5])), Err(FrameError::Checksum { .. })));
    assert_eq!(open(&closed(&[2, 1, b'g'])), Err(FrameError::Version { version: 2 }));
    assert_eq!(open(&closed(&[1, 9, b'g'])), Err(FrameError::Short { bytes: 7 }));
}

fn stuffed(plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; cobs::max_encoding_length(plain.len())];
    let len = cobs::encode(plain, &mut out);
    out.truncate(len);
    out
}

/// With a good checksum, stuffed.
fn closed(plain: &[u8]) -> Vec<u8> {
    let checksum = Crc::<u32>::new(&CRC_32_ISCSI).checksum(plain);
    stuffed(&[plain, &checksum.to_le_bytes()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_body_with_a_good_checksum_ends_in_readings_or_an_error(
        body in prop::collection::vec(any::<u8>(), 0..600),
        readings in 0_u8..0x80,
    ) {
        let header = [1, 1, b'g', 0, 0, 0, 0, readings, 0];
        let plain = [&header[..], &body].concat();
        let mut bytes = closed(&plain);
        let frame = Frame::open(&mut bytes).unwrap();
        let mut decoder = Decoder::<4, 2>::new();
        decoder.start(&frame);
        let mut found = 0;
        loop {
            match decoder.next(&frame) {
                Ok(Some((series, _))) => prop_assert!(!decoder.series(series).0.is_empty()),
                Ok(None) => { prop_assert_eq!(found, frame.readings()); break }
                Err(error) => { prop_assert_eq!(error, FrameError::Body { reading: found }); break }
            }
            found += 1;
        }
    }

    #[test]
    fn a_changed_body_with_a_good_checksum_never_panics(at in 0_usize..4096, to in any::<u8>()) {
        let mut plain = frames(1).remove(0);
        plain.pop();
        let len = cobs::decode_in_place(&mut plain).unwrap();
        plain.truncate(len - 4);
        let at = at % plain.len();
        plain[at] = to;
        let mut bytes = closed(&plain);
        if let Ok(frame) = Frame::open(&mut bytes) {
            let mut decoder = Decoder::<2, 1>::new();
            decoder.start(&frame);
            let mut found = 0_u32;
            while let Ok(Some(_)) = decoder.next(&frame) {
                found += 1;
            }
            prop_assert!(found <= frame.readings());
        }
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Frame::open(&mut bytes).is_err());
    }
}
