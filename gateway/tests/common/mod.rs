//! What several tests need: frames to spool, and the readings of bronze objects.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ingot_agent::{Batch, Decoder, Drop, Frame, Quality, Reading};

/// A frame of `readings` readings, sealed as number `seq` of run 1 of gateway `gw`.
pub fn frame(seq: u64, readings: u32) -> Vec<u8> {
    let mut batch = Batch::<4, 4, 65_536>::new("gw", 1).unwrap();
    for _ in 0..seq {
        batch.seal(0, 0, |_| {});
    }
    let device = batch.device("d", 1).unwrap();
    let series = batch.series(device, "c").unwrap();
    for index in 0..readings {
        let value = f64::from(fastrand::u32(..));
        let reading = Reading { seq: index.into(), at_ms: 0, value, quality: Quality::GOOD };
        batch.push(series, &reading).unwrap();
    }
    let mut frame = Vec::new();
    batch.seal(0, 0, |piece| frame.extend_from_slice(piece));
    frame
}

/// A reading as it stands in bronze: device, boot, seq, channel, time, value's bits, quality.
pub type Row = (String, u64, u64, String, i64, u64, u8);

/// What bronze holds: each reading with how often it is there, and the dropped counts of all headers.
#[derive(Default)]
pub struct Bronze {
    pub rows: BTreeMap<Row, u32>,
    pub frames: u32,
    pub dropped: [u64; 4],
}

impl Bronze {
    /// Decodes all objects below `lake`; any damage fails the test.
    pub fn read(lake: &Path) -> Self {
        let mut bronze = Self::default();
        // A kill may leave a temporary file behind, which is no object.
        let is_object = |path: &PathBuf| path.extension().is_some_and(|end| end == "ingot");
        for object in objects(&lake.join("bronze")).into_iter().filter(is_object) {
            bronze.add(&mut std::fs::read(&object).unwrap());
        }
        bronze
    }

    /// Decodes the frames of one object.
    pub fn add(&mut self, object: &mut [u8]) {
        let mut decoder: Box<Decoder<64, 64>> = Box::new(Decoder::new());
        for stuffed in object.split_mut(|byte| *byte == 0).filter(|stuffed| !stuffed.is_empty()) {
            let frame = Frame::open(stuffed).unwrap();
            self.frames += 1;
            for cause in Drop::ALL {
                self.dropped[cause as usize] += frame.dropped(cause);
            }
            decoder.start(&frame);
            while let Some((series, reading)) = decoder.next(&frame).unwrap() {
                let (device, boot, channel) = decoder.series(series);
                let Reading { seq, at_ms, value, quality } = reading;
                let row = (device.into(), boot, seq, channel.into(), at_ms, value.to_bits(), quality.0);
                *self.rows.entry(row).or_default() += 1;
            }
        }
    }
}

/// All files below a directory, none if it is not there.
pub fn objects(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    // A kill may leave an object's temporary file behind: hidden, and no object.
    let entries =
        entries.map(Result::unwrap).filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let paths = entries.map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { objects(&path) } else { vec![path] }).collect()
}
