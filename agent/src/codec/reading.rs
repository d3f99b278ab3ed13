//! One reading, question by question: which series, which `seq`, what quality, when, what value.

use super::Damaged;
use super::declaration::{self, DECIMALS_BITS};
use super::probability::BIT_COST_MAX;
use super::range_coder::BitCoder;
use super::residual;
use super::scale::{DECIMALS_MAX, Form, value_of};
use super::series::NONE;
use super::table::Table;
use super::value::Values;
use crate::{Quality, Reading};

/// No reading of a declared series costs more bytes: 20 answers, residuals for rank, `seq`, time,
/// value and last places, and raw quality, decimals and value.
const READING_BYTES_MAX: usize = (20 * BIT_COST_MAX + 5 * residual::COST_MAX + 8 + 4 + 64).div_ceil(8);

/// The most bytes that a reading of `series` can take now.
pub(crate) fn cost_bytes_max<const S: usize, const D: usize>(table: &Table<S, D>, series: u16) -> usize {
    READING_BYTES_MAX + declaration::cost_bytes_max(table, series)
}

/// What the encoder wants to write; the decoder passes [`Target::UNKNOWN`].
#[derive(Clone, Copy)]
struct Target {
    series: u16,
    reading: Reading,
    form: Form,
    regraded: Option<u8>,
}

impl Target {
    const UNKNOWN: Self = Self {
        series: NONE,
        reading: Reading { seq: 0, at_ms: 0, value: 0.0, quality: Quality::GOOD },
        form: Form::Exact(0),
        regraded: None,
    };
}

/// Writes a reading; the caller has made sure of [`cost_bytes_max`].
#[inline]
pub(crate) fn encode<const S: usize, const D: usize, C: BitCoder>(
    table: &mut Table<S, D>,
    coder: &mut C,
    series: u16,
    reading: &Reading,
) -> Result<(), Damaged> {
    let mut target = Target { series, reading: *reading, ..Target::UNKNOWN };
    let entry = &mut table.series[usize::from(series)];
    if !reading.quality.contains(Quality::MISSING) {
        (target.form, target.regraded) = entry.form(reading.value);
        if entry.frame_id == NONE {
            // The declaration says the decimals.
            entry.decimals = target.regraded.take().unwrap_or(entry.decimals);
        }
    }
    code(table, coder, &target).map(drop)
}

/// Reads the next reading.
#[inline]
pub(crate) fn decode<const S: usize, const D: usize, C: BitCoder>(
    table: &mut Table<S, D>,
    coder: &mut C,
) -> Result<(u16, Reading), Damaged> {
    code(table, coder, &Target::UNKNOWN)
}

#[inline]
fn code<const S: usize, const D: usize, C: BitCoder>(
    table: &mut Table<S, D>,
    coder: &mut C,
    target: &Target,
) -> Result<(u16, Reading), Damaged> {
    let expected = table.expected();
    let mut usual = false;
    if expected != NONE {
        let wanted = !C::DECODES && is_usual(table, expected, target);
        usual = coder.bit(&mut table.series[usize::from(expected)].is_usual, wanted);
    }
    let id = if usual { expected } else { code_series(table, coder, expected, target)? };
    table.touch(id);
    if table.previous != NONE {
        table.series[usize::from(table.previous)].successor = id;
    }
    table.previous = id;

    let series = &mut table.series[usize::from(id)];
    let device = &mut table.devices[usize::from(series.device)];
    let shared = &mut table.shared;
    let mut seq = device.seq_next;
    if !usual {
        if !coder.bit(&mut shared.is_next_seq, target.reading.seq == seq) {
            let jump = shared.odd.code(coder, target.reading.seq.wrapping_sub(seq) as i64);
            seq = seq.wrapping_add(jump as u64);
        }
        if !coder.bit(&mut shared.is_same_quality, target.reading.quality.0 == series.quality) {
            series.quality = coder.raw(u64::from(target.reading.quality.0), 8) as u8;
        }
    }
    device.seq_next = seq.wrapping_add(1);
    let quality = Quality(series.quality);
    let at_ms = target.reading.at_ms;
    let at_ms = series.rhythm.code(coder, &mut device.clock, &mut shared.odd, table.previous_ms, at_ms);
    table.previous_ms = at_ms;
    let value = if quality.contains(Quality::MISSING) {
        f64::NAN
    } else if usual {
        let Form::Exact(scaled) = target.form else {
            return Err(Damaged);
        };
        value_of(series.values.code(coder, scaled), series.decimals)
    } else {
        code_value(table, coder, id, target)?
    };
    Ok((id, Reading { seq, at_ms, value, quality }))
}

/// Whether the reading is of the expected series, next in `seq`, of its last quality, and exact.
#[inline]
fn is_usual<const S: usize, const D: usize>(table: &Table<S, D>, expected: u16, target: &Target) -> bool {
    let series = &table.series[usize::from(expected)];
    expected == target.series
        && target.reading.seq == table.devices[usize::from(series.device)].seq_next
        && target.reading.quality.0 == series.quality
        && target.regraded.is_none()
        && matches!(target.form, Form::Exact(_))
}

/// Codes the series of a reading that was not the usual one, declaring it where it is new.
fn code_series<const S: usize, const D: usize, C: BitCoder>(
    table: &mut Table<S, D>,
    coder: &mut C,
    expected: u16,
    target: &Target,
) -> Result<u16, Damaged> {
    if expected != NONE && coder.bit(&mut table.shared.is_successor, target.series == expected) {
        return Ok(expected);
    }
    let is_new = !C::DECODES && table.series[usize::from(target.series)].frame_id == NONE;
    if coder.bit(&mut table.shared.is_new, is_new) {
        return declaration::code(table, coder, target.series, target.reading.at_ms);
    }
    let rank = if C::DECODES { 0 } else { table.rank(target.series) };
    let rank = table.shared.rank.code(coder, rank);
    table.at_rank(rank).ok_or(Damaged)
}

/// Codes a value that may be inexact or raw, or that changes its series' decimals.
fn code_value<const S: usize, const D: usize, C: BitCoder>(
    table: &mut Table<S, D>,
    coder: &mut C,
    id: u16,
    target: &Target,
) -> Result<f64, Damaged> {
    let series = &mut table.series[usize::from(id)];
    let shared = &mut table.shared;
    if coder.bit(&mut shared.is_regraded, target.regraded.is_some()) {
        let decimals = coder.raw(u64::from(target.regraded.unwrap_or(0)), DECIMALS_BITS) as u8;
        if decimals > DECIMALS_MAX {
            return Err(Damaged);
        }
        series.decimals = decimals;
        series.values = Values::NEW;
    }
    let (scaled, ulps) = match target.form {
        Form::Exact(scaled) => (scaled, 0),
        Form::Near(scaled, ulps) => (scaled, ulps),
        Form::Raw(_) => (0, 0),
    };
    if coder.bit(&mut series.is_exact, matches!(target.form, Form::Exact(_))) {
        return Ok(value_of(series.values.code(coder, scaled), series.decimals));
    }
    if coder.bit(&mut shared.is_near, matches!(target.form, Form::Near(..))) {
        let value = value_of(series.values.code(coder, scaled), series.decimals);
        let ulps = shared.ulps.code(coder, ulps);
        return Ok(f64::from_bits(value.to_bits().wrapping_add(ulps as u64)));
    }
    let raw = match target.form {
        Form::Raw(bits) => bits,
        _ => 0,
    };
    Ok(f64::from_bits(coder.raw(raw, 64)))
}
