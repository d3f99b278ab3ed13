//! The values of one series: guess, look in the dictionary, else code what the guess missed.

use super::dictionary::Dictionary;
use super::predictor::Predictor;
use super::range_coder::BitCoder;
use super::residual::Residual;

/// What is learned of a series' values at its present decimals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values {
    predictor: Predictor,
    dictionary: Dictionary,
    residual: Residual,
}

impl Values {
    pub(crate) const NEW: Self =
        Self { predictor: Predictor::NEW, dictionary: Dictionary::NEW, residual: Residual::NEW };

    /// Codes one scaled value.
    #[inline]
    pub(crate) fn code<C: BitCoder>(&mut self, coder: &mut C, scaled: i64) -> i64 {
        let guess = self.predictor.guess();
        let scaled = match self.dictionary.code(coder, scaled, guess) {
            Some(known) => known,
            None => {
                let missed = self.residual.code(coder, scaled.wrapping_sub(guess));
                let scaled = guess.wrapping_add(missed);
                self.dictionary.add(scaled);
                scaled
            }
        };
        self.predictor.learn(scaled);
        scaled
    }
}
