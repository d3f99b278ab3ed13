//! A series' first reading in a frame declares it: its device, its channel's name, its decimals.
//!
//! A device new to the frame is declared with it: name, boot, clock tick. A channel name that another
//! series of the frame has is not written again.

use super::Damaged;
use super::name::{Letters, Name};
use super::probability::BIT_COST_MAX;
use super::range_coder::BitCoder;
use super::residual;
use super::scale::DECIMALS_MAX;
use super::series::{Device, NONE};
use super::table::Table;

/// No declaration costs more bytes besides its names: 8 answers, residuals for the channel's and the
/// device's numbers, boot and tick, and raw decimals.
const BYTES_MAX: usize = (8 * BIT_COST_MAX + 4 * residual::COST_MAX + 4).div_ceil(8);

/// Raw bits of a series' decimals.
pub(crate) const DECIMALS_BITS: u32 = 4;

/// The most bytes that declaring `series` can take now; 0 where it is declared.
pub(crate) fn cost_bytes_max<const S: usize, const D: usize>(table: &Table<S, D>, series: u16) -> usize {
    let series = &table.series[usize::from(series)];
    if series.frame_id != NONE {
        return 0;
    }
    let device = &table.devices[usize::from(series.device)];
    let mut answers = Letters::answers_max(series.channel.as_bytes().len());
    if device.frame_id == NONE {
        answers += Letters::answers_max(device.name.as_bytes().len());
    }
    BYTES_MAX + (answers * BIT_COST_MAX).div_ceil(8)
}

/// Codes the declaration of series `wanted`, whose first reading is at `at_ms`; gives its place in
/// the table.
#[cold]
#[inline(never)]
pub(crate) fn code<const S: usize, const D: usize, C: BitCoder>(
    table: &mut Table<S, D>,
    coder: &mut C,
    wanted: u16,
    at_ms: i64,
) -> Result<u16, Damaged> {
    let entry = table.series.get(usize::from(wanted));
    let (device, channel, decimals) = match entry {
        Some(series) if !C::DECODES => (series.device, series.channel, series.decimals),
        _ => (NONE, Name::EMPTY, 0),
    };
    let device = code_device(table, coder, device, at_ms)?;
    let channel = code_channel(table, coder, channel)?;
    let decimals = coder.raw(u64::from(decimals), DECIMALS_BITS) as u8;
    if decimals > DECIMALS_MAX {
        return Err(Damaged);
    }
    let id = match C::DECODES {
        true => table.add_series(device, channel).ok_or(Damaged)?,
        false => wanted,
    };
    let series = &mut table.series[usize::from(id)];
    series.declare(table.frame_series);
    series.decimals = decimals;
    table.frame_series += 1;
    table.series_declared = id;
    table.enter(id);
    Ok(id)
}

fn code_device<const S: usize, const D: usize, C: BitCoder>(
    table: &mut Table<S, D>,
    coder: &mut C,
    wanted: u16,
    at_ms: i64,
) -> Result<u16, Damaged> {
    let number = table.devices.get(usize::from(wanted)).map_or(NONE, |device| device.frame_id);
    if coder.bit(&mut table.shared.is_device_new, number == NONE) {
        return code_new_device(table, coder, wanted, at_ms);
    }
    let number = code_number(table, coder, table.device_before, number, table.frame_devices)?;
    table.device_before = number;
    Ok(if C::DECODES { number } else { wanted })
}

fn code_new_device<const S: usize, const D: usize, C: BitCoder>(
    table: &mut Table<S, D>,
    coder: &mut C,
    wanted: u16,
    at_ms: i64,
) -> Result<u16, Damaged> {
    let before = table.devices.get(usize::from(table.device_declared)).unwrap_or(&Device::NEW);
    let (name_before, boot_before) = (before.name, before.boot);
    let (mut name, mut boot, mut tick_ms) = (Name::EMPTY, 0, 1);
    if let Some(device) = table.devices.get_mut(usize::from(wanted)) {
        device.clock.see_first(at_ms);
        (name, boot, tick_ms) = (device.name, device.boot, device.clock.tick_ms);
    }
    let shared = &mut table.shared;
    name = shared.letters.code(coder, name, &name_before)?;
    let step = shared.odd.code(coder, boot.wrapping_sub(boot_before) as i64);
    boot = boot_before.wrapping_add(step as u64);
    tick_ms = shared.odd.code(coder, tick_ms);
    if tick_ms < 1 {
        return Err(Damaged);
    }
    let id = match C::DECODES {
        true => table.add_device(name, boot).ok_or(Damaged)?,
        false => wanted,
    };
    let device = &mut table.devices[usize::from(id)];
    device.clock.tick_ms = tick_ms;
    device.frame_id = table.frame_devices;
    table.device_before = table.frame_devices;
    table.frame_devices += 1;
    table.device_declared = id;
    Ok(id)
}

fn code_channel<const S: usize, const D: usize, C: BitCoder>(
    table: &mut Table<S, D>,
    coder: &mut C,
    channel: Name,
) -> Result<Name, Damaged> {
    let twin = if C::DECODES { NONE } else { find_channel(table, &channel) };
    if coder.bit(&mut table.shared.is_channel_known, twin != NONE) {
        let number = code_number(table, coder, table.channel_before, twin, table.frame_series)?;
        table.channel_before = number + 1;
        // The encoder's places are not the frame's numbers; the decoder's are.
        return Ok(if C::DECODES { table.series[usize::from(number)].channel } else { channel });
    }
    let before = table.series.get(usize::from(table.series_declared));
    let before = before.map_or(Name::EMPTY, |series| series.channel);
    table.shared.letters.code(coder, channel, &before)
}

/// Codes one of the numbers below `len`, likely near `before`.
fn code_number<const S: usize, const D: usize, C: BitCoder>(
    table: &mut Table<S, D>,
    coder: &mut C,
    before: u16,
    number: u16,
    len: u16,
) -> Result<u16, Damaged> {
    let step = table.shared.odd.code(coder, i64::from(number) - i64::from(before));
    let number = i64::from(before).wrapping_add(step);
    u16::try_from(number).ok().filter(|number| *number < len).ok_or(Damaged)
}

/// The frame's number of a declared series with this channel name, [`NONE`] if there is none: the
/// expected one if it has the name, else the first.
fn find_channel<const S: usize, const D: usize>(table: &Table<S, D>, channel: &Name) -> u16 {
    let series = table.series[..usize::from(table.series_len)].iter();
    let twins = series.filter(|series| series.frame_id != NONE && series.channel == *channel);
    let preferred = |number: &u16| {
        if *number == table.channel_before { 0 } else { number + 1 }
    };
    twins.map(|series| series.frame_id).min_by_key(preferred).unwrap_or(NONE)
}
