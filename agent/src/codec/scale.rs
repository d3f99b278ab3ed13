//! A value as an integer and its decimals, whenever that gives the same `f64` back bit for bit.

/// Most decimals tried.
pub(crate) const DECIMALS_MAX: u8 = 12;

/// Powers of ten, exact in an `f64`.
const POWERS: [f64; DECIMALS_MAX as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

/// Differences of so few units in the last place are the rounding of some program, not information
/// that asks for more decimals.
const CLOSE_ULPS: u64 = 8;

/// Further off than this, the raw bits are cheaper.
const NEAR_ULPS_MAX: u64 = 1 << 20;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// The integer gives the value.
    Exact(i64),
    /// The integer, then units in the last place (added to the bits) give the value.
    Near(i64, i64),
    /// The bits of the value.
    Raw(u64),
}

/// The value of `scaled` at `decimals` (at most 12): one correctly rounded division.
#[inline]
pub(crate) fn value_of(scaled: i64, decimals: u8) -> f64 {
    scaled as f64 / POWERS[usize::from(decimals.min(DECIMALS_MAX))]
}

/// `value` at `decimals`; any value has a form at any scale.
#[inline]
pub(crate) fn form(value: f64, decimals: u8) -> Form {
    let scaled = value * POWERS[usize::from(decimals.min(DECIMALS_MAX))];
    let scaled = (scaled + 0.5_f64.copysign(scaled)) as i64; // saturates; NaN gives 0
    let ulps = (value.to_bits() as i64).wrapping_sub(value_of(scaled, decimals).to_bits() as i64);
    match ulps.unsigned_abs() {
        0 => Form::Exact(scaled),
        1..=NEAR_ULPS_MAX => Form::Near(scaled, ulps),
        _ => Form::Raw(value.to_bits()),
    }
}

/// Whether these are the value's own decimals.
pub(crate) fn is_close(form: Form) -> bool {
    match form {
        Form::Exact(_) => true,
        Form::Near(_, ulps) => ulps.unsigned_abs() <= CLOSE_ULPS,
        Form::Raw(_) => false,
    }
}

/// The fewest decimals above `decimals` that are close to `value`; the most there are if only that
/// keeps it from its raw bits.
pub(crate) fn more_decimals(value: f64, decimals: u8) -> Option<u8> {
    let close = (decimals + 1..=DECIMALS_MAX).find(|more| is_close(form(value, *more)));
    let most = || {
        let helps = matches!(form(value, DECIMALS_MAX), Form::Near(..));
        (decimals < DECIMALS_MAX && helps).then_some(DECIMALS_MAX)
    };
    close.or_else(most)
}
