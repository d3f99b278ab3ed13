//! A register: where it stands, and how its words become a value.

use std::fmt;

/// One register of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Register {
    /// The device's name in its readings.
    pub device: String,
    /// The channel's name.
    pub channel: String,
    /// The device's address on the bus, 1 to 247; often 1, 0 or 255 over TCP.
    pub unit: u8,
    /// The address of its first word, from 0 (40001 in a manual is often holding register 0).
    pub address: u16,
    /// Which table it stands in.
    pub function: Function,
    /// What its words mean.
    pub number: Number,
    /// Which of two words comes first.
    pub word_order: WordOrder,
    /// `value = raw * scale + offset`, in the channel's unit; not 0.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// From one reading to the next, in milliseconds.
    pub period_ms: u64,
}

/// A table of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Function 3.
    Holding,
    /// Function 4.
    Input,
}

/// A number in one or two words of 16 bits, each with its high byte first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Unsigned, one word.
    U16,
    /// Signed, one word.
    I16,
    /// Unsigned, two words.
    U32,
    /// Signed, two words.
    I32,
    /// IEEE 754 single, two words.
    F32,
}

/// The order of two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordOrder {
    /// High word first, as most devices have it.
    Big,
    /// Low word first.
    Little,
}

impl Number {
    /// How many words it takes.
    pub fn words(self) -> u16 {
        match self {
            Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = match self.function {
            Function::Holding => "holding",
            Function::Input => "input",
        };
        write!(to, "unit {} {table} register {}", self.unit, self.address)
    }
}

impl Register {
    /// The value of an answer; `None` if it is too short or not a finite number.
    pub fn value(&self, words: &[u16]) -> Option<f64> {
        let first = *words.first()?;
        let both = || {
            let second = *words.get(1)?;
            let (high, low) = match self.word_order {
                WordOrder::Big => (first, second),
                WordOrder::Little => (second, first),
            };
            Some(u32::from(high) << 16 | u32::from(low))
        };
        let raw = match self.number {
            Number::U16 => f64::from(first),
            Number::I16 => f64::from(first.cast_signed()),
            Number::U32 => f64::from(both()?),
            Number::I32 => f64::from(both()?.cast_signed()),
            Number::F32 => f64::from(f32::from_bits(both()?)),
        };
        Some(scaled(raw, self.scale) + self.offset).filter(|value| value.is_finite())
    }
}

/// `raw * scale`; a scale such as 0.1 divides by 10 instead, so that 3 becomes 0.3 and not
/// 0.30000000000000004.
fn scaled(raw: f64, scale: f64) -> f64 {
    let divisor = (1.0 / scale).round();
    if divisor.abs() > 1.0 && 1.0 / divisor == scale { raw / divisor } else { raw * scale }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn register(number: Number, word_order: WordOrder, scale: f64, offset: f64) -> Register {
        Register {
            device: "meter".into(),
            channel: "power".into(),
            unit: 1,
            address: 0,
            function: Function::Holding,
            number,
            word_order,
            scale,
            offset,
            period_ms: 1_000,
        }
    }

    #[test]
    fn words_become_the_value_that_the_manual_promises() {
        use Number::{F32, I16, I32, U16, U32};
        use WordOrder::{Big, Little};
        let [high, low] = [(21.5_f32.to_bits() >> 16) as u16, 21.5_f32.to_bits() as u16];
        for (number, order, scale, offset, words, value) in [
            (U16, Big, 0.1, 0.0, vec![3], 0.3),
            (U16, Big, 1.0, 0.0, vec![65_535], 65_535.0),
            (I16, Big, 0.1, 0.0, vec![65_535], -0.1),
            (I16, Big, 0.01, -40.0, vec![6_050], 20.5),
            (U32, Big, 1.0, 0.0, vec![1, 2], 65_538.0),
            (U32, Little, 1.0, 0.0, vec![2, 1], 65_538.0),
            (I32, Big, 1.0, 0.0, vec![0xffff, 0xfffe], -2.0),
            (F32, Big, 1.0, 0.0, vec![high, low], 21.5),
            (F32, Little, 2.0, 1.0, vec![low, high], 44.0),
        ] {
            let found = register(number, order, scale, offset).value(&words);
            assert_eq!(found, Some(value), "{number:?} {words:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        let float = register(Number::F32, WordOrder::Big, 1.0, 0.0);
        assert_eq!(float.value(&[0x7fc0, 0]), None, "NaN");
        assert_eq!(float.value(&[0x7f80, 0]), None, "infinity");
        assert_eq!(float.value(&[0x41ac]), None, "half an answer");
        assert_eq!(register(Number::U16, WordOrder::Big, 1.0, 0.0).value(&[]), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_a_finite_value_or_none(words: Vec<u16>, scale in -1e6..1e6, offset in -1e6..1e6) {
            for number in [Number::U16, Number::I16, Number::U32, Number::I32, Number::F32] {
                let value = register(number, WordOrder::Little, scale, offset).value(&words);
                prop_assert!(value.is_none_or(f64::is_finite));
            }
        }
    }
}
