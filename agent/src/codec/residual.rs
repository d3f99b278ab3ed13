//! What a prediction missed: small numbers cheap, any `i64` possible.
//!
//! Asked in turn: is it zero; its sign; its bit length, as steps away from the usual length of late;
//! its upper bits below the leading one. The bits below those are noise and go in raw.

use super::probability::{BIT_COST_MAX, Probability};
use super::range_coder::BitCoder;

/// Steps away from the usual length that are asked one by one; past them the length goes in raw.
const STEPS_MAX: usize = 6;

/// Lengths with mantissa odds of their own; longer ones share the last.
const MANTISSAS: usize = 6;

/// No residual costs more bits: zero, sign, usual, longer, steps, two mantissa bits; then raw the
/// length (6 bits) and 61 bits of mantissa.
pub(crate) const COST_MAX: usize = (6 + STEPS_MAX) * BIT_COST_MAX + 6 + 61;

/// Odds of how the length differs from the usual one.
#[derive(Clone, Copy, Debug)]
struct Length {
    usual: Probability,
    longer: Probability,
    further: [[Probability; STEPS_MAX]; 2],
}

/// The learned shape of one kind of residual.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Residual {
    zero: [Probability; 4],
    sign: [Probability; 2],
    length: [Length; 2],
    mantissa: [[Probability; 3]; MANTISSAS],
    /// Running mean of the bit lengths, in 1/256 bit.
    mean: u16,
    /// Lengths seen, up to where the mean's rate settles.
    seen: u8,
    /// Whether the last three were zero, the latest in the lowest bit.
    zeros: u8,
    /// The last two signs (1 = negative) of those that had one.
    signs: u8,
}

impl Residual {
    pub(crate) const NEW: Self = Self {
        zero: [Probability::EVEN; 4],
        sign: [Probability::SURE; 2],
        length: [Length {
            usual: Probability::EVEN,
            longer: Probability::EVEN,
            further: [[Probability::EVEN; STEPS_MAX]; 2],
        }; 2],
        mantissa: [[Probability::SURE; 3]; MANTISSAS],
        mean: 0,
        seen: 0,
        zeros: 0,
        signs: 0,
    };

    /// Codes one residual.
    #[inline]
    pub(crate) fn code<C: BitCoder>(&mut self, coder: &mut C, residual: i64) -> i64 {
        let zero = coder.bit(&mut self.zero[usize::from(self.zeros)], residual == 0);
        self.zeros = (self.zeros << 1 | u8::from(zero)) & 3;
        if zero {
            return 0;
        }
        let negative = coder.bit(&mut self.sign[usize::from(self.signs)], residual < 0);
        self.signs = (self.signs << 1 | u8::from(negative)) & 1;
        let magnitude = residual.unsigned_abs();
        let length = self.code_length(coder, 64 - magnitude.leading_zeros());
        let magnitude = self.code_mantissa(coder, magnitude, length);
        let magnitude = magnitude as i64; // 2^63 becomes i64::MIN, which is its own negative
        if negative { magnitude.wrapping_neg() } else { magnitude }
    }

    #[inline]
    fn code_length<C: BitCoder>(&mut self, coder: &mut C, length: u32) -> u32 {
        let length = if self.seen == 0 {
            coder.raw(u64::from(length.wrapping_sub(1)), 6) as u32 + 1
        } else {
            let rounded = u32::from(self.mean) + 128;
            let odds = &mut self.length[(rounded >> 7 & 1) as usize];
            code_around(coder, odds, length, rounded >> 8)
        };
        self.learn_length(length);
        length
    }

    #[inline]
    fn learn_length(&mut self, length: u32) {
        let sample = (length << 8) as i32;
        let mean = i32::from(self.mean);
        let mean = if self.seen == 0 { sample } else { mean + ((sample - mean) >> self.seen.min(3)) };
        self.mean = mean as u16;
        self.seen = (self.seen + 1).min(4);
    }

    #[inline]
    fn code_mantissa<C: BitCoder>(&mut self, coder: &mut C, magnitude: u64, length: u32) -> u64 {
        let odds = &mut self.mantissa[(length as usize - 1).min(MANTISSAS - 1)];
        let mut left = length - 1;
        let mut result = 1;
        if left > 0 {
            left -= 1;
            let high = coder.bit(&mut odds[0], magnitude >> left & 1 == 1);
            result = result << 1 | u64::from(high);
            if left > 0 {
                left -= 1;
                let next = coder.bit(&mut odds[1 + usize::from(high)], magnitude >> left & 1 == 1);
                result = result << 1 | u64::from(next);
                if left > 0 {
                    result = result << left | coder.raw(magnitude, left);
                }
            }
        }
        result
    }
}

/// Codes a length of 1 to 64 as steps away from the usual one.
#[inline]
fn code_around<C: BitCoder>(coder: &mut C, odds: &mut Length, length: u32, usual: u32) -> u32 {
    if coder.bit(&mut odds.usual, length == usual) {
        return usual;
    }
    let longer = coder.bit(&mut odds.longer, length > usual);
    let steps = if longer { length.wrapping_sub(usual) } else { usual.wrapping_sub(length) };
    for (step, further) in (1..).zip(&mut odds.further[usize::from(longer)]) {
        if !coder.bit(further, steps > step) {
            let length = if longer { usual + step } else { usual.saturating_sub(step) };
            return length.clamp(1, 64);
        }
    }
    coder.raw(u64::from(length.wrapping_sub(1)), 6) as u32 + 1
}
