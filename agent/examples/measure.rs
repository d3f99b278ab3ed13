//! Bytes and time per reading on real series: `measure SET.csv ..` with lines `device,sensor,ts_ms,value`.
//!
//! Frames are at most 5,120 bytes with everything in them. Every reading is decoded and compared bit
//! for bit. Times are the best of several rounds, so that a busy machine disturbs them least.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use ingot_agent::{Batch, Decoder, Frame, PushError, Reading, SeriesId};

const FRAME_BYTES: usize = 5_120;
const SERIES: usize = 256;
const DEVICES: usize = 64;
const ROUNDS: usize = 9;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Row {
    device: String,
    channel: String,
    reading: Reading,
}

fn rows(path: &str) -> Result<Vec<Row>> {
    let mut seqs: HashMap<String, u64> = HashMap::new();
    let mut rows = Vec::new();
    for line in std::fs::read_to_string(path)?.lines().skip(1) {
        let mut fields = line.split(',');
        let mut field = || fields.next().ok_or("a field is missing");
        let (device, channel) = (field()?.to_owned(), field()?.to_owned());
        let (at_ms, value) = (field()?.parse()?, field()?.parse()?);
        let count = seqs.entry(device.clone()).or_insert(0);
        let seq = *count;
        *count += 1;
        let quality = ingot_agent::Quality::GOOD;
        rows.push(Row { device, channel, reading: Reading { seq, at_ms, value, quality } });
    }
    Ok(rows)
}

fn encode(rows: &[Row]) -> Result<(Vec<Vec<u8>>, f64)> {
    let mut batch = Box::new(Batch::<SERIES, DEVICES, FRAME_BYTES>::new("gateway-01", 1)?);
    let mut ids: Vec<SeriesId> = Vec::with_capacity(rows.len());
    for row in rows {
        let device = batch.device(&row.device, 1)?;
        ids.push(batch.series(device, &row.channel)?);
    }
    let mut frames = Vec::new();
    let start = Instant::now();
    for (row, id) in rows.iter().zip(&ids) {
        if batch.push(*id, &row.reading) == Err(PushError::Full) {
            let mut frame = Vec::with_capacity(FRAME_BYTES);
            batch.seal(row.reading.at_ms, 0, |bytes| frame.extend_from_slice(bytes));
            frames.push(frame);
            batch.push(*id, &row.reading)?;
        }
    }
    let mut frame = Vec::new();
    batch.seal(0, 0, |bytes| frame.extend_from_slice(bytes));
    frames.push(frame);
    Ok((frames, start.elapsed().as_nanos() as f64))
}

fn check(rows: &[Row], frames: &[Vec<u8>]) -> Result<()> {
    let mut decoder = Box::new(Decoder::<SERIES, DEVICES>::new());
    let mut rows = rows.iter();
    for stuffed in frames {
        assert!(stuffed.len() <= FRAME_BYTES);
        let mut stuffed = stuffed[..stuffed.len() - 1].to_vec();
        let frame = Frame::open(&mut stuffed)?;
        decoder.start(&frame);
        while let Some((id, found)) = decoder.next(&frame)? {
            let row = rows.next().ok_or("too many readings")?;
            assert_eq!(decoder.series(id), (row.device.as_str(), 1, row.channel.as_str()));
            assert_eq!(found.value.to_bits(), row.reading.value.to_bits());
            assert_eq!((found.seq, found.at_ms), (row.reading.seq, row.reading.at_ms));
            assert_eq!(found.quality, row.reading.quality);
        }
    }
    assert!(rows.next().is_none(), "readings are missing");
    Ok(())
}

fn decode(frames: &[Vec<u8>]) -> Result<f64> {
    let mut decoder = Box::new(Decoder::<SERIES, DEVICES>::new());
    let mut frames: Vec<Vec<u8>> = frames.to_vec();
    let start = Instant::now();
    for stuffed in &mut frames {
        let len = stuffed.len() - 1;
        let frame = Frame::open(&mut stuffed[..len])?;
        decoder.start(&frame);
        while let Some(reading) = decoder.next(&frame)? {
            black_box(&reading);
        }
    }
    Ok(start.elapsed().as_nanos() as f64)
}

fn main() -> Result<()> {
    let mut logarithms = Vec::new();
    println!("set | readings | frames | bytes per reading | encode ns | decode ns");
    for path in std::env::args().skip(1) {
        let rows = rows(&path)?;
        let count = rows.len() as f64;
        let (mut encode_ns, mut decode_ns) = (f64::MAX, f64::MAX);
        let mut bytes = 0;
        let mut sealed = 0;
        for round in 0..ROUNDS {
            let (frames, ns) = encode(&rows)?;
            if round == 0 {
                check(&rows, &frames)?;
            }
            encode_ns = encode_ns.min(ns / count);
            decode_ns = decode_ns.min(decode(&frames)? / count);
            bytes = frames.iter().map(Vec::len).sum();
            sealed = frames.len();
        }
        let each = bytes as f64 / count;
        logarithms.push(each.ln());
        let name = path.rsplit('/').next().unwrap_or(&path);
        println!("{name} | {count} | {sealed} | {each:.3} | {encode_ns:.0} | {decode_ns:.0}");
    }
    let mean = (logarithms.iter().sum::<f64>() / logarithms.len().max(1) as f64).exp();
    println!("geometric mean {mean:.3}");
    Ok(())
}
