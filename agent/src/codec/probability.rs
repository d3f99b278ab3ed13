//! The learned odds of one yes/no question: 12 bits of probability and 4 bits of age in a `u16`.
//!
//! Young odds move quickly, old ones slowly; they never reach certainty, so no answer is impossible
//! and the cost of one answer is bounded by [`BIT_COST_MAX`].

/// Probabilities are in 1/4096.
pub(crate) const ONE: u32 = 1 << 12;

/// Odds never leave `FLOOR..=ONE - FLOOR`.
const FLOOR: u32 = 8;

/// No answer costs more than this many bits: log2(4096 / 8), and room for the coder's rounding.
pub(crate) const BIT_COST_MAX: usize = 10;

/// How far the odds move towards an answer, in 1/65536 of the distance, by age.
const RATE: [u32; 16] =
    [30000, 22000, 16384, 13107, 10923, 9362, 8192, 7282, 6554, 5461, 4681, 4096, 3640, 3277, 2979, 2731];

/// The odds that the answer is yes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probability(u16);

impl Probability {
    /// Even odds, nothing learned.
    pub(crate) const EVEN: Self = Self(0x8000);

    /// Nearly even odds that are likely to stay so: learned slowly from the start.
    pub(crate) const SURE: Self = Self(0x780B);

    /// Odds of one in sixteen, for what is rare from the start.
    pub(crate) const RARE: Self = Self(0x1001);

    /// The probability of yes, in 1/4096.
    #[inline(always)]
    pub(crate) fn yes(self) -> u32 {
        u32::from(self.0 >> 4)
    }

    /// Learns from an answer.
    #[inline(always)]
    pub(crate) fn learn(&mut self, yes: bool) {
        let age = self.0 & 15;
        let rate = RATE[usize::from(age)];
        let odds = self.yes();
        let odds = if yes {
            (odds + (((ONE - odds) * rate + 0xFFFF) >> 16)).min(ONE - FLOOR)
        } else {
            (odds - ((odds * rate + 0xFFFF) >> 16)).max(FLOOR)
        };
        // `odds` is below 4096, so it fits the upper 12 bits.
        self.0 = (odds as u16) << 4 | (age + 1).min(15);
    }
}
