//! Six guesses at the next integer of a series; the one with the least recent error is used.
//!
//! All arithmetic wraps, so any `i64` may come.

/// Errors are averaged over about this many values (a power of two).
const ERROR_SHIFT: u32 = 6;

/// The running mean and the mean slope move by this power of two per value.
const MEAN_SHIFT: u32 = 5;

/// A series' recent past.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Predictor {
    /// The last three values, the latest first.
    last: [i64; 3],
    /// Running mean, in 1/16.
    mean: i64,
    /// Running mean of the differences, in 1/16.
    slope: i64,
    /// Recent absolute error of each guess, summed with decay.
    errors: [u64; 6],
    /// The guesses for the next value.
    guesses: [i64; 6],
    best: u8,
    seen: u8,
}

impl Predictor {
    pub(crate) const NEW: Self =
        Self { last: [0; 3], mean: 0, slope: 0, errors: [0; 6], guesses: [0; 6], best: 0, seen: 0 };

    /// The guess with the least recent error; 0 at the start.
    #[inline]
    pub(crate) fn guess(&self) -> i64 {
        self.guesses[usize::from(self.best)]
    }

    /// Learns what really came.
    #[inline]
    pub(crate) fn learn(&mut self, value: i64) {
        if self.seen == 0 {
            self.last = [value; 3];
            self.mean = value.wrapping_mul(16);
            self.guesses = [value; 6];
            self.seen = 1;
            return;
        }
        let mut best = 0;
        for i in 0..6 {
            let error = value.wrapping_sub(self.guesses[i]).unsigned_abs();
            self.errors[i] = (self.errors[i] - (self.errors[i] >> ERROR_SHIFT)).saturating_add(error);
            if self.errors[i] < self.errors[best] {
                best = i;
            }
        }
        self.best = best as u8;
        let [x1, x2, _] = self.last;
        let step = value.wrapping_sub(x1);
        let bend = step.wrapping_sub(x1.wrapping_sub(x2));
        self.mean = towards(self.mean, value);
        self.slope = if self.seen == 1 { step.wrapping_mul(16) } else { towards(self.slope, step) };
        self.seen = 2;
        self.last = [value, x1, x2];
        let linear = value.wrapping_add(step);
        self.guesses = [
            value,
            linear,
            linear.wrapping_add(bend),
            rounded(self.mean),
            value.wrapping_add(rounded(self.slope)),
            value.wrapping_add(step >> 1),
        ];
    }
}

#[inline]
fn towards(mean_16: i64, value: i64) -> i64 {
    mean_16.wrapping_add(value.wrapping_mul(16).wrapping_sub(mean_16) >> MEAN_SHIFT)
}

#[inline]
fn rounded(mean_16: i64) -> i64 {
    mean_16.wrapping_add(8) >> 4
}
