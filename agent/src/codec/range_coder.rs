//! A binary range coder: answers and their odds become bytes, and bytes become answers.
//!
//! 32-bit low and range; a carry runs back into the bytes already written. The encoder never writes
//! past its buffer: the batch checks the room for the worst reading before it codes one. The decoder
//! reads zeros past the end and reports it by [`Decoder::is_past_end`].

use super::probability::Probability;

/// A range below this is widened by one byte.
const RANGE_MIN: u32 = 1 << 24;

/// Raw bits go into the coder in pieces of at most this many.
const RAW_PIECE_BITS: u32 = 16;

/// One side of the coder. Code written against this trait encodes what it is given, or ignores what
/// it is given and returns what it decodes: so one function describes both directions.
pub(crate) trait BitCoder {
    /// Whether the values given are meaningless and only the returned ones count.
    const DECODES: bool;
    /// An answer with learned odds.
    fn bit(&mut self, odds: &mut Probability, yes: bool) -> bool;
    /// The low `bits` bits of `value`, at most 16, each with even odds.
    fn raw_piece(&mut self, value: u32, bits: u32) -> u32;

    /// The low `bits` bits of `value`, at most 64, the upper ones first.
    #[inline]
    fn raw(&mut self, value: u64, bits: u32) -> u64 {
        let mut left = bits;
        let mut result = 0;
        while left > 0 {
            let piece = left.min(RAW_PIECE_BITS);
            left -= piece;
            let part = (value >> left) as u32 & ((1 << piece) - 1);
            result = result << piece | u64::from(self.raw_piece(part, piece));
        }
        result
    }
}

/// Answers to bytes.
pub(crate) struct Encoder<const BYTES: usize> {
    bytes: [u8; BYTES],
    len: usize,
    low: u32,
    range: u32,
}

impl<const BYTES: usize> Encoder<BYTES> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; BYTES], len: 0, low: 0, range: u32::MAX }
    }

    /// Bytes that [`Self::finish`] would give now.
    pub(crate) fn len(&self) -> usize {
        self.len + 1
    }

    /// Everything coded so far, closed by the shortest byte that decodes with zeros after it.
    pub(crate) fn finish(&mut self) -> &[u8] {
        // The range is at least 2^24, so a multiple of 2^24 lies in low..low + range.
        self.add(RANGE_MIN - 1);
        self.shift();
        &self.bytes[..self.len.min(BYTES)]
    }

    /// Starts again.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.low = 0;
        self.range = u32::MAX;
    }

    #[inline(always)]
    fn add(&mut self, part: u32) {
        let (low, carry) = self.low.overflowing_add(part);
        self.low = low;
        if carry {
            for byte in self.bytes[..self.len.min(BYTES)].iter_mut().rev() {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
        }
    }

    #[inline(always)]
    fn shift(&mut self) {
        if let Some(byte) = self.bytes.get_mut(self.len) {
            *byte = (self.low >> 24) as u8;
            self.len += 1;
        }
        self.low <<= 8;
    }

    #[inline(always)]
    fn widen(&mut self) {
        while self.range < RANGE_MIN {
            self.shift();
            self.range <<= 8;
        }
    }
}

impl<const BYTES: usize> BitCoder for Encoder<BYTES> {
    const DECODES: bool = false;

    #[inline(always)]
    fn bit(&mut self, odds: &mut Probability, yes: bool) -> bool {
        let bound = (self.range >> 12) * odds.yes();
        if yes {
            self.range = bound;
        } else {
            self.add(bound);
            self.range -= bound;
        }
        odds.learn(yes);
        self.widen();
        yes
    }

    #[inline(always)]
    fn raw_piece(&mut self, value: u32, bits: u32) -> u32 {
        self.range >>= bits;
        // value < 2^bits, so the product stays below the range before the shift.
        self.add(value * self.range);
        self.widen();
        value
    }
}

/// Where the decoder stands in a body; the body's bytes are lent to it for each reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    next: usize,
    code: u32,
    range: u32,
}

impl Position {
    /// The start of `body`.
    pub(crate) fn start(body: &[u8]) -> Self {
        let mut start = Self { next: 0, code: 0, range: u32::MAX };
        for _ in 0..4 {
            start.shift(body);
        }
        start
    }

    /// Whether more was read than an encoder writes for this.
    pub(crate) fn is_past_end(&self, body: &[u8]) -> bool {
        self.next > body.len() + 3
    }

    /// Whether exactly what an encoder writes for this was read.
    pub(crate) fn is_at_end(&self, body: &[u8]) -> bool {
        self.next == body.len() + 3
    }

    #[inline(always)]
    fn shift(&mut self, body: &[u8]) {
        let byte = body.get(self.next).copied().unwrap_or(0);
        self.code = self.code << 8 | u32::from(byte);
        self.next = self.next.saturating_add(1);
    }
}

/// Bytes to answers.
pub(crate) struct Decoder<'a> {
    pub(crate) position: Position,
    pub(crate) body: &'a [u8],
}

impl Decoder<'_> {
    #[inline(always)]
    fn widen(&mut self) {
        while self.position.range < RANGE_MIN {
            self.position.shift(self.body);
            self.position.range <<= 8;
        }
    }
}

impl BitCoder for Decoder<'_> {
    const DECODES: bool = true;

    #[inline(always)]
    fn bit(&mut self, odds: &mut Probability, _: bool) -> bool {
        let at = &mut self.position;
        let bound = (at.range >> 12) * odds.yes();
        let yes = at.code < bound;
        if yes {
            at.range = bound;
        } else {
            at.code -= bound;
            at.range -= bound;
        }
        odds.learn(yes);
        self.widen();
        yes
    }

    #[inline(always)]
    fn raw_piece(&mut self, _: u32, bits: u32) -> u32 {
        let at = &mut self.position;
        at.range >>= bits;
        // A damaged body can hold a code past the last piece: keep the value in its bits.
        let value = (at.code / at.range).min((1 << bits) - 1);
        at.code -= value * at.range;
        self.widen();
        value
    }
}
