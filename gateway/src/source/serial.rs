//! Frames from microcontrollers that run `ingot-agent`, over a serial port.
//!
//! Each frame is opened and its readings go on with their own device, boot and seq; the gateway batches
//! them anew, and what the node gave up is added to the gateway's counts. The line has no way back, so a
//! frame that arrives damaged is lost: it is counted as one malformed input (how many readings it held
//! is not known; the hole in `seq` tells), and the next closing `0x00` starts afresh. Bytes are lost in
//! the kernel, and counted so, when the batcher makes this source wait for longer than its buffer.
//!
//! A node without a clock stamps its uptime and says so; [`restamp`] puts its readings on the gateway's
//! uptime, which the batcher dates like a source's of its own.

use std::path::PathBuf;

use ingot_agent::{Decoder, Drop, Frame, FrameReader, Quality, Reading};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::sleep;

use super::notice::{BadInput, Link};
use super::port::{self, Parity};
use super::{CHUNK_SAMPLES_MAX, Chunk, Outlet, RETRY, Sample, Stamp};
use crate::clock;

/// Longest frame on a serial line, in bytes; nearly three seconds at 115,200 baud.
pub const FRAME_BYTES_MAX: usize = 32_768;
/// Most series in one frame of a node.
pub const SERIES_MAX: usize = 128;
/// Most devices in one frame of a node.
pub const DEVICES_MAX: usize = 32;
/// Oldest reading that is re-stamped, in milliseconds before its frame was sealed: a year. A greater
/// age means that one of the two times was taken from another clock.
pub const AGE_MS_MAX: i64 = 366 * 86_400_000;

/// Most bytes taken off the port at once.
const READ_BYTES: usize = 4_096;

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialConfig {
    /// Its character device; a name under `/dev/serial/by-id/` survives replugging.
    pub path: PathBuf,
    /// Bits a second.
    pub baud: u32,
}

/// Reads the port until intake stops; opens it again when it was gone.
pub(super) async fn run(config: SerialConfig, mut outlet: Outlet) {
    let mut link = Link::new(config.path.display().to_string());
    let mut node = Node::new(link.source());
    loop {
        let why = match port::open(&config.path, config.baud, Parity::None).await {
            Ok(open) => {
                link.up();
                match read(open, &mut node, &mut outlet).await {
                    End::Stopped => return,
                    End::Gone(why) => why,
                }
            }
            Err(error) => error.to_string(),
        };
        link.down(why);
        tokio::select! {
            () = sleep(RETRY) => {}
            () = outlet.stopped() => return,
        }
    }
}

enum End {
    Stopped,
    Gone(String),
}

async fn read(mut port: impl AsyncRead + Unpin, node: &mut Node, outlet: &mut Outlet) -> End {
    *node.reader = FrameReader::new(); // what was left of a frame has no other half here
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let read = tokio::select! {
            read = port.read(&mut bytes) => read,
            () = outlet.stopped() => return End::Stopped,
        };
        let mut input = match read {
            Ok(0) => return End::Gone("the port was closed".into()),
            Ok(read) => &bytes[..read],
            Err(error) => return End::Gone(error.to_string()),
        };
        let received_ms = clock::uptime_ms() as i64;
        for mut chunk in node.take(&mut input, received_ms) {
            if !outlet.send(&mut chunk).await {
                return End::Stopped;
            }
        }
    }
}

/// Bytes of one port to chunks. Pure: time and bytes are arguments.
struct Node {
    port: String,
    reader: Box<FrameReader<FRAME_BYTES_MAX>>,
    decoder: Box<Decoder<SERIES_MAX, DEVICES_MAX>>,
    /// Boot and seq of the newest frame.
    newest: Option<(u64, u64)>,
    bad: BadInput,
}

impl Node {
    fn new(port: &str) -> Self {
        Self {
            port: port.into(),
            reader: Box::default(),
            decoder: Box::default(),
            newest: None,
            bad: BadInput::default(),
        }
    }

    /// The readings of all frames that `input` closes; `received_ms` on the clock of [`Stamp::Uptime`].
    fn take(&mut self, input: &mut &[u8], received_ms: i64) -> Vec<Chunk> {
        let mut chunks = vec![Chunk::default()];
        let skipped = self.reader.skipped_runs();
        while let Some(cut) = self.reader.read(input) {
            let chunk = last(&mut chunks);
            match Frame::open(cut.stuffed) {
                Ok(frame) => {
                    for cause in Drop::ALL {
                        chunk.drops.add(cause, frame.dropped(cause));
                    }
                    note_hole(&self.port, &mut self.newest, &frame);
                    if let Err(why) = readings(&mut self.decoder, &frame, received_ms, &mut chunks) {
                        self.bad.note(&self.port, &why);
                    }
                }
                Err(error) => {
                    chunk.drop_one(Drop::Malformed);
                    self.bad.note(&self.port, &error.to_string());
                }
            }
        }
        let skipped = self.reader.skipped_runs() - skipped;
        if skipped > 0 {
            last(&mut chunks).drops.add(Drop::Malformed, skipped);
            self.bad.note(&self.port, "no end of a frame in 32768 bytes; is the baud rate the node's?");
        }
        chunks
    }
}

/// The chunk that is filled; a new one when that is full.
fn last(chunks: &mut Vec<Chunk>) -> &mut Chunk {
    if chunks.last().is_none_or(|chunk| chunk.samples.len() >= CHUNK_SAMPLES_MAX) {
        chunks.push(Chunk::default());
    }
    let end = chunks.len() - 1;
    &mut chunks[end]
}

fn readings(
    decoder: &mut Decoder<SERIES_MAX, DEVICES_MAX>,
    frame: &Frame<'_>,
    received_ms: i64,
    chunks: &mut Vec<Chunk>,
) -> Result<(), String> {
    // Without an uptime in its header, a frame gives the times that count from the boot as they are.
    let undated = frame.sealed_at(frame.sealed_ms(), 0);
    decoder.start(&undated);
    let mut done = 0;
    loop {
        match decoder.next(&undated) {
            Ok(None) => return Ok(()),
            Ok(Some((series, reading))) => {
                done += 1;
                let (at, quality) =
                    restamp(&reading, [frame.uptime_ms() as i64, frame.sealed_ms()], received_ms);
                let (device, boot, channel) = decoder.series(series);
                last(chunks).samples.push(Sample {
                    device: device.into(),
                    boot_seq: Some((boot, reading.seq)),
                    channel: channel.into(),
                    at,
                    value: reading.value,
                    quality,
                });
            }
            Err(error) => {
                let lost = u64::from(frame.readings() - done).max(1);
                last(chunks).drops.add(Drop::Malformed, lost);
                return Err(format!("{error} (most: {SERIES_MAX} series, {DEVICES_MAX} devices)"));
            }
        }
    }
}

/// Says that frames are missing between the newest one and this one of the same run.
fn note_hole(port: &str, newest: &mut Option<(u64, u64)>, frame: &Frame<'_>) {
    if let Some((boot, seq)) = *newest
        && boot == frame.boot()
        && frame.seq() > seq.saturating_add(1)
    {
        let frames = frame.seq() - seq - 1;
        tracing::warn!(source = port, node = frame.gateway(), frames, "frames of the node did not arrive");
    }
    *newest = Some((frame.boot(), frame.seq()));
}

/// Time and quality of a reading that arrived at `received_ms` of this machine's uptime.
///
/// A reading with a clock keeps its time. One without counts from the node's boot, as the header's
/// uptime at sealing does, or from another origin that it shares with the header's time of sealing: the
/// first of `sealed` (uptime, time) that gives a possible age, from 0 to [`AGE_MS_MAX`], is taken, and the
/// reading is marked [`Quality::RESTAMPED`]; the error is the time on the line. Where none does (the
/// clock was set in between), the reading stays as it is, marked [`Quality::CLOCK_UNSET`].
pub fn restamp(reading: &Reading, sealed: [i64; 2], received_ms: i64) -> (Stamp, Quality) {
    if !reading.quality.contains(Quality::CLOCK_UNSET) {
        return (Stamp::Wall(reading.at_ms), reading.quality);
    }
    let [uptime_ms, sealed_ms] = sealed;
    let origins = [Some(uptime_ms).filter(|uptime_ms| *uptime_ms > 0), Some(sealed_ms)];
    let age_ms = origins.into_iter().flatten().find_map(|origin_ms| {
        origin_ms.checked_sub(reading.at_ms).filter(|age| (0..=AGE_MS_MAX).contains(age))
    });
    match age_ms {
        Some(age_ms) => {
            let rest = reading.quality.without(Quality::CLOCK_UNSET);
            (Stamp::Uptime(received_ms.saturating_sub(age_ms)), rest.with(Quality::RESTAMPED))
        }
        None => (Stamp::Wall(reading.at_ms), reading.quality),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use ingot_agent::Batch;
    use proptest::prelude::*;

    /// Uptime of the gateway: less than what a node may have waited.
    const NOW: i64 = 10_000;

    fn frame(seq: u64, quality: Quality) -> Vec<u8> {
        let mut batch = Box::new(Batch::<2, 2, 4_096>::new("node-1", 5).unwrap());
        for _ in 0..seq {
            batch.seal(0, 0, |_| {});
        }
        let device = batch.device("pump", 5).unwrap();
        let series = batch.series(device, "temperature").unwrap();
        for index in 0..10 {
            let (seq, at_ms) = (seq * 10 + index, 60_000 + 100 * index as i64);
            batch.push(series, &Reading { seq, at_ms, value: 20.5, quality }).unwrap();
        }
        batch.count_drop(Drop::Range, 3);
        let mut bytes = Vec::new();
        batch.seal(5, 61_000, |part| bytes.extend_from_slice(part));
        bytes
    }

    fn take(node: &mut Node, mut bytes: &[u8]) -> (Vec<Sample>, [u64; 4]) {
        let (mut samples, mut drops) = (Vec::new(), [0; 4]);
        for chunk in node.take(&mut bytes, NOW) {
            assert!(chunk.samples.len() <= CHUNK_SAMPLES_MAX);
            samples.extend(chunk.samples);
            for cause in Drop::ALL {
                drops[cause as usize] += chunk.drops.get(cause);
            }
        }
        (samples, drops)
    }

    #[test]
    fn readings_keep_their_identity_and_an_uptime_becomes_a_time() {
        let (samples, drops) = take(&mut Node::new("p"), &frame(0, Quality::CLOCK_UNSET));
        assert_eq!(drops, [3, 0, 0, 0], "what the node gave up is carried on");
        let seen: Vec<_> = samples.iter().map(|s| (&*s.device, s.boot_seq.unwrap(), s.at)).collect();
        assert_eq!(
            (seen.len(), seen[0], seen[9]),
            (10, ("pump", (5, 0), Stamp::Uptime(NOW - 1_000)), ("pump", (5, 9), Stamp::Uptime(NOW - 100)))
        );
        assert!(samples.iter().all(|sample| sample.quality == Quality::RESTAMPED && sample.value == 20.5));

        let (samples, _) = take(&mut Node::new("p"), &frame(0, Quality::STEP));
        assert_eq!(
            (samples[0].at, samples[0].quality),
            (Stamp::Wall(60_000), Quality::STEP),
            "a clock is trusted"
        );
    }

    #[test]
    fn noise_and_cut_frames_cost_themselves_alone() {
        let (one, two) = (frame(0, Quality::GOOD), frame(1, Quality::GOOD));
        let stream =
            [&b"boot rom says hello\r\n\0"[..], &one, &one[..one.len() / 2], b"\0", &[0, 0], &two, &two[5..]]
                .concat();
        for piece in [1, 7, 4_096] {
            let mut node = Node::new("p");
            let (mut seqs, mut malformed) = (Vec::new(), 0);
            for bytes in stream.chunks(piece) {
                let (samples, drops) = take(&mut node, bytes);
                seqs.extend(samples.iter().map(|sample| sample.boot_seq.unwrap().1));
                malformed += drops[Drop::Malformed as usize];
            }
            assert_eq!(seqs, (0..20).collect::<Vec<_>>());
            assert_eq!(malformed, 3, "the greeting, the first half, the second half");
        }
    }

    #[test]
    fn a_run_without_an_end_is_one_malformed_input_and_bounded() {
        let mut node = Node::new("p");
        let mut malformed = 0;
        for _ in 0..100 {
            malformed += take(&mut node, &[7; 4_096]).1[Drop::Malformed as usize];
        }
        assert_eq!(malformed, 1);
        take(&mut node, &[0]);
        assert_eq!(take(&mut node, &frame(0, Quality::GOOD)).0.len(), 10);
    }

    #[test]
    fn a_frame_with_more_series_than_fit_is_counted_by_its_readings() {
        let mut batch = Box::new(Batch::<200, 1, 32_768>::new("hub", 1).unwrap());
        let device = batch.device("hub", 1).unwrap();
        for seq in 0..200 {
            let series = batch.series(device, &format!("c{seq}")).unwrap();
            batch.push(series, &Reading { seq, at_ms: 0, value: 1.0, quality: Quality::GOOD }).unwrap();
        }
        let mut bytes = Vec::new();
        batch.seal(0, 0, |part| bytes.extend_from_slice(part));
        let (samples, drops) = take(&mut Node::new("p"), &bytes);
        assert_eq!((samples.len(), drops[Drop::Malformed as usize]), (128, 72));
    }

    #[test]
    fn a_megabyte_of_random_bytes_is_survived() {
        let mut node = Node::new("p");
        let mut random = fastrand::Rng::with_seed(3);
        let mut malformed = 0;
        for _ in 0..256 {
            let bytes: Vec<u8> = (0..4_096).map(|_| random.u8(..)).collect();
            let (samples, drops) = take(&mut node, &bytes);
            assert!(samples.is_empty());
            malformed += drops[Drop::Malformed as usize];
        }
        assert!(malformed > 1_000);
        take(&mut node, &[0]);
        assert_eq!(take(&mut node, &frame(0, Quality::GOOD)).0.len(), 10);
    }

    proptest! {
        #[test]
        fn any_times_are_restamped_or_left(at_ms: i64, sealed: [i64; 2], received_ms: i64, flags: u8) {
            let reading = Reading { seq: 0, at_ms, value: 0.0, quality: Quality(flags) };
            let (at, quality) = restamp(&reading, sealed, received_ms);
            if let Stamp::Uptime(at_ms) = at {
                prop_assert!(reading.quality.contains(Quality::CLOCK_UNSET));
                prop_assert!(!quality.contains(Quality::CLOCK_UNSET) && quality.contains(Quality::RESTAMPED));
                prop_assert!(at_ms <= received_ms && received_ms.saturating_sub(at_ms) <= AGE_MS_MAX);
            } else {
                prop_assert_eq!((at, quality), (Stamp::Wall(at_ms), reading.quality));
            }
        }

        #[test]
        fn an_age_at_sealing_is_kept(at_ms in 1..AGE_MS_MAX, age_ms in 0..AGE_MS_MAX, own_clock: bool) {
            let quality = if own_clock { Quality::CLOCK_UNSET } else { Quality::FROM_BOOT };
            let reading = Reading { seq: 0, at_ms, value: 0.0, quality };
            let sealed = if own_clock { [0, at_ms + age_ms] } else { [at_ms + age_ms, -1] };
            let expected = (Stamp::Uptime(NOW - age_ms), Quality::RESTAMPED);
            prop_assert_eq!(restamp(&reading, sealed, NOW), expected);
        }

        #[test]
        fn damaged_streams_never_panic(cuts in prop::collection::vec((0..200_usize, any::<u8>()), 0..8)) {
            let mut stream = [frame(0, Quality::CLOCK_UNSET), frame(1, Quality::GOOD)].concat();
            for (at, byte) in cuts {
                let end = stream.len() - 1;
                stream[at.min(end)] = byte;
            }
            take(&mut Node::new("p"), &stream);
        }
    }
}
