//! Frames, one after another: each holds a header and the readings of one batch.
//!
//! A damaged frame is one row with a fault, which names where its bytes are; what was decoded of it
//! before the damage showed is kept. A row's span is its whole frame.

use std::io::BufRead;

use ingot_agent::{Decoder, Drop, Frame, FrameError, Quality};

use super::part::{Part, Taken};
use super::{Fault, Field, Span, place};
use crate::contract::Column;

/// Most series and most devices of a frame that are decoded: as many as a gateway puts into one.
const SERIES_MAX: usize = 1_024;
const DEVICES_MAX: usize = 1_024;
/// Most readings of a frame that are decoded: its rows are in memory together.
pub const FRAME_READINGS_MAX: u32 = 4_000_000;

/// Whose batch a frame is, and what was given up before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The gateway that sealed it.
    pub gateway: String,
    /// The gateway's run.
    pub boot: u64,
    /// The batch's position in that run.
    pub seq: u64,
    /// When it was sealed: milliseconds since 1970-01-01 UTC.
    pub sealed_ms: i64,
    /// The same moment since the boot of the sealing machine, in milliseconds; 0: not known.
    pub uptime_ms: u64,
    /// Readings in it, as the header says.
    pub readings: u32,
    /// Where it stands in its object: its first byte and its length, and the place of its first reading.
    pub span: Span,
    /// Readings given up since the gateway's frame before, by cause; causes without any are left out.
    pub drops: Vec<(Drop, u64)>,
}

/// Where a reading's parts go among the contract's columns.
struct Places {
    columns: usize,
    device: Option<usize>,
    boot: Option<usize>,
    seq: Option<usize>,
    channel: Option<usize>,
    at: Option<usize>,
    value: Option<usize>,
    quality: Option<usize>,
}

/// Gives every reading to `row`, and notes every sound header.
pub(super) fn rows(
    part: &Part<'_>,
    columns: &[Column],
    taken: &mut Taken,
    row: &mut impl FnMut(Span, Result<&[Field<'_>], Fault>),
) {
    let places = Places::new(columns);
    let mut decoder: Box<Decoder<SERIES_MAX, DEVICES_MAX>> = Box::default();
    let mut stuffed = Vec::new();
    let bytes = &part.bytes[..part.rows_end()];
    let mut rest = bytes;
    while taken.rows < part.rows_max
        && let Ok(len @ 1..) = rest.skip_until(0)
    {
        let run = &bytes[bytes.len() - rest.len() - len..][..len];
        let offset = part.first.offset + taken.bytes;
        let span = Span { ordinal: part.next(taken), offset, len };
        taken.bytes += len;
        if run == [0] {
            continue;
        }
        let Taken { rows, frames, .. } = taken;
        let mut each = |fields: Result<&[Field<'_>], Fault>| {
            row(Span { ordinal: part.first.ordinal + *rows as i64, ..span }, fields);
            *rows += 1;
        };
        let Some(run) = run.strip_suffix(&[0]) else {
            each(Err(damaged(span, FrameError::Short { bytes: len })));
            continue;
        };
        stuffed.clear();
        stuffed.extend_from_slice(run);
        if let Err(fault) = frame(&mut stuffed, span, &mut decoder, &places, frames, &mut each) {
            each(Err(fault));
        }
    }
}

fn damaged(span: Span, error: FrameError) -> Fault {
    Fault::Frame { start: span.offset, end: span.offset + span.len, error }
}

fn frame(
    stuffed: &mut [u8],
    span: Span,
    decoder: &mut Decoder<SERIES_MAX, DEVICES_MAX>,
    places: &Places,
    headers: &mut Vec<FrameHeader>,
    each: &mut impl FnMut(Result<&[Field<'_>], Fault>),
) -> Result<(), Fault> {
    let damaged = |error| damaged(span, error);
    let frame = Frame::open(stuffed).map_err(damaged)?;
    if frame.readings() > FRAME_READINGS_MAX {
        return Err(Fault::FrameTooLarge { start: span.offset, end: span.offset + span.len });
    }
    headers.push(header(&frame, span));
    decoder.start(&frame);
    while let Some((series, reading)) = decoder.next(&frame).map_err(damaged)? {
        let (device, boot, channel) = decoder.series(series);
        let mut fields = vec![Field::Missing; places.columns];
        let mut put = |place: Option<usize>, field| {
            if let Some(place) = place {
                fields[place] = field;
            }
        };
        put(places.device, Field::Text(device));
        put(places.boot, count(boot));
        put(places.seq, count(reading.seq));
        put(places.channel, Field::Text(channel));
        put(places.at, Field::Integer(reading.at_ms));
        if !reading.quality.contains(Quality::MISSING) {
            put(places.value, Field::Number(reading.value));
        }
        put(places.quality, Field::Integer(reading.quality.0.into()));
        each(Ok(&fields));
    }
    Ok(())
}

/// A count that no signed column holds becomes a number, which no integer column takes: a `type` fault.
fn count(count: u64) -> Field<'static> {
    i64::try_from(count).map_or(Field::Number(count as f64), Field::Integer)
}

fn header(frame: &Frame<'_>, span: Span) -> FrameHeader {
    let drops = Drop::ALL.into_iter().map(|cause| (cause, frame.dropped(cause)));
    FrameHeader {
        gateway: frame.gateway().into(),
        boot: frame.boot(),
        seq: frame.seq(),
        sealed_ms: frame.sealed_ms(),
        uptime_ms: frame.uptime_ms(),
        readings: frame.readings(),
        span,
        drops: drops.filter(|(_, readings)| *readings > 0).collect(),
    }
}

impl Places {
    fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.len(),
            device: place(columns, "device"),
            boot: place(columns, "boot"),
            seq: place(columns, "seq"),
            channel: place(columns, "channel"),
            at: place(columns, "at"),
            value: place(columns, "value"),
            quality: place(columns, "quality"),
        }
    }
}
