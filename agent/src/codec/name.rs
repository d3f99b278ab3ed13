//! Names of gateways, devices and channels: 1 to 64 characters of `[A-Za-z0-9._-]`.

use super::Damaged;
use super::probability::Probability;
use super::range_coder::BitCoder;

/// Longest name, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// Bits of one letter in the letter tree.
const LETTER_BITS: u32 = 7;

/// Bits of the count of letters shared with the name before.
const SHARED_BITS: u32 = 6;

/// A checked name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    len: u8,
    bytes: [u8; NAME_BYTES_MAX],
}

/// Whether `byte` may stand in a name.
pub(crate) fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

impl Name {
    pub(crate) const EMPTY: Self = Self { len: 0, bytes: [0; NAME_BYTES_MAX] };

    /// `None` if it is not a name.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let mut result = Self::EMPTY;
        for byte in name.bytes() {
            result.push(byte)?;
        }
        (result.len > 0).then_some(result)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only ASCII is ever pushed.
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) -> Option<()> {
        if !is_letter(byte) {
            return None;
        }
        *self.bytes.get_mut(usize::from(self.len))? = byte;
        self.len += 1;
        Some(())
    }

    fn shared_with(&self, before: &Self) -> usize {
        let same = |(a, b): &(&u8, &u8)| a == b;
        self.as_bytes().iter().zip(before.as_bytes()).take_while(same).count().min((1 << SHARED_BITS) - 1)
    }
}

/// The learned odds of letters, shared by all names of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letters {
    letters: [Probability; 1 << LETTER_BITS],
    shared: [Probability; 1 << SHARED_BITS],
}

impl Letters {
    pub(crate) const NEW: Self = Self {
        letters: [Probability::EVEN; 1 << LETTER_BITS],
        shared: [Probability::RARE; 1 << SHARED_BITS],
    };

    /// Answers that a name of `len` letters takes at most.
    pub(crate) fn answers_max(len: usize) -> usize {
        SHARED_BITS as usize + (len + 1) * LETTER_BITS as usize
    }

    /// Codes a name: how many letters it shares with the name before, its other letters, an end mark 0.
    pub(crate) fn code<C: BitCoder>(
        &mut self,
        coder: &mut C,
        name: Name,
        before: &Name,
    ) -> Result<Name, Damaged> {
        let shared = code_tree(coder, &mut self.shared, SHARED_BITS, name.shared_with(before));
        let mut result = Name::EMPTY;
        for byte in before.as_bytes().get(..shared).ok_or(Damaged)? {
            result.push(*byte).ok_or(Damaged)?;
        }
        loop {
            let letter = name.as_bytes().get(usize::from(result.len)).copied().unwrap_or(0);
            let letter = code_tree(coder, &mut self.letters, LETTER_BITS, usize::from(letter));
            if letter == 0 {
                break;
            }
            result.push(letter as u8).ok_or(Damaged)?;
        }
        if result.len == 0 { Err(Damaged) } else { Ok(result) }
    }
}

/// Codes `bits` bits, the upper ones first, each with odds that depend on those before.
fn code_tree<C: BitCoder>(coder: &mut C, odds: &mut [Probability], bits: u32, value: usize) -> usize {
    let mut node = 1;
    for bit in (0..bits).rev() {
        let yes = coder.bit(&mut odds[node], value >> bit & 1 == 1);
        node = node << 1 | usize::from(yes);
    }
    node - (1 << bits)
}
