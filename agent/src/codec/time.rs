//! When: mostly the time of the reading before, else near the series' own rhythm, in the device's tick.

use super::predictor::Predictor;
use super::probability::Probability;
use super::range_coder::BitCoder;
use super::residual::Residual;

/// The ticks that a first time is tried against, in milliseconds; the last fits any.
const TICKS_MS: [i64; 5] = [60_000, 1_000, 100, 10, 1];

/// Times off the tick, weighed against those on it, at which the tick shrinks.
const OFF_TICK_MAX: u8 = 8;

/// A device's clock: all its times lie whole ticks apart, but for rare ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// 0 until the first time is known; kept over seals.
    pub(crate) tick_ms: i64,
    /// Kept over seals; only the encoder counts.
    off_tick: u8,
    residual: Residual,
    is_off: Probability,
    shrinks: Probability,
}

/// The rhythm of one series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rhythm {
    is_same: Probability,
    started: bool,
    at_ms: i64,
    predictor: Predictor,
}

impl Clock {
    pub(crate) const NEW: Self = Self {
        tick_ms: 0,
        off_tick: 0,
        residual: Residual::NEW,
        is_off: Probability::RARE,
        shrinks: Probability::EVEN,
    };

    /// Forgets what was learned in a frame.
    pub(crate) fn forget(&mut self) {
        *self = Self { tick_ms: self.tick_ms, off_tick: self.off_tick, ..Self::NEW };
    }

    /// Sets the tick from the device's first time, if it is not known yet.
    pub(crate) fn see_first(&mut self, at_ms: i64) {
        if self.tick_ms == 0 {
            self.tick_ms = TICKS_MS.into_iter().find(|tick| at_ms % tick == 0).unwrap_or(1);
        }
    }

    /// The encoder's choice: shrink the tick at this time off it? Rare ones are cheaper to bear.
    fn should_shrink(&mut self) -> bool {
        self.off_tick = (self.off_tick + 3).min(OFF_TICK_MAX);
        self.off_tick == OFF_TICK_MAX
    }
}

impl Rhythm {
    pub(crate) const NEW: Self =
        Self { is_same: Probability::EVEN, started: false, at_ms: 0, predictor: Predictor::NEW };

    /// Codes the time of this series' next reading; `before_ms` is the time of the reading before.
    #[inline]
    pub(crate) fn code<C: BitCoder>(
        &mut self,
        coder: &mut C,
        clock: &mut Clock,
        odd: &mut Residual,
        before_ms: i64,
        at_ms: i64,
    ) -> i64 {
        let is_same = coder.bit(&mut self.is_same, at_ms == before_ms);
        let at_ms = if is_same { before_ms } else { self.code_new(coder, clock, odd, before_ms, at_ms) };
        self.predictor.learn(at_ms);
        self.at_ms = at_ms;
        self.started = true;
        at_ms
    }

    fn code_new<C: BitCoder>(
        &mut self,
        coder: &mut C,
        clock: &mut Clock,
        odd: &mut Residual,
        before_ms: i64,
        at_ms: i64,
    ) -> i64 {
        let last_ms = if self.started { self.at_ms } else { before_ms };
        let guess_ms = if self.started { self.predictor.guess() } else { before_ms };
        let tick_ms = clock.tick_ms.max(1);
        let away = guess_ms.wrapping_sub(last_ms);
        let guess_ms = guess_ms.wrapping_sub(away.wrapping_rem(tick_ms));
        let missed_ms = at_ms.wrapping_sub(guess_ms);
        if coder.bit(&mut clock.is_off, missed_ms.wrapping_rem(tick_ms) != 0) {
            let missed_ms = odd.code(coder, missed_ms);
            let shrinks = !C::DECODES && clock.should_shrink();
            if coder.bit(&mut clock.shrinks, shrinks) {
                clock.tick_ms = greatest_common_divisor(tick_ms, missed_ms);
                clock.off_tick = 0;
            }
            return guess_ms.wrapping_add(missed_ms);
        }
        clock.off_tick = clock.off_tick.saturating_sub(1);
        let missed = clock.residual.code(coder, missed_ms.wrapping_div(tick_ms));
        guess_ms.wrapping_add(missed.wrapping_mul(tick_ms))
    }
}

/// At least 1; `tick_ms` is at least 1.
fn greatest_common_divisor(tick_ms: i64, missed_ms: i64) -> i64 {
    let (mut a, mut b) = (tick_ms, missed_ms.wrapping_rem(tick_ms).wrapping_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
