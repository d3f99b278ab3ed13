//! Numbers as they are written: whether text is one, and its exact value at a scale.

/// Whether the text is a number in JSON's grammar: no sign but a minus, no bare point, no name.
pub(crate) fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

/// The number times ten to the `scale`, if that is whole and has at most `precision` digits.
/// `text` is a number in JSON's grammar.
pub(crate) fn parse(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut scaled: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        scaled = scaled.checked_mul(10)?.checked_add(i128::from(digit.checked_sub(b'0')?))?;
    }
    if scaled == 0 {
        return Some(0);
    }
    // What is still to be multiplied by ten, or divided without a rest.
    let shift = exponent.checked_add(i64::from(scale))?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let power = 10_i128.checked_pow(u32::try_from(shift.unsigned_abs()).ok()?)?;
    scaled = match shift {
        0.. => scaled.checked_mul(power)?,
        _ if scaled % power == 0 => scaled / power,
        _ => return None,
    };
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (scaled < limit).then_some(if negative { -scaled } else { scaled })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_keeps_its_exact_value() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0.00", Some(0)),
            ("12.3", Some(1230)),
            ("-12.340", Some(-1234)),
            ("0.001", None),
            ("1e2", Some(10_000)),
            ("1200e-3", Some(120)),
            ("1e-3", None),
            ("999.99", Some(99_999)),
            ("1000", None),
            ("1e999999999999999999999", None),
            ("0e999999999", Some(0)),
            ("123456789012345678901234567890123456789012345", None),
        ] {
            assert_eq!(parse(text, 5, 2), expected, "{text}");
        }
    }

    #[test]
    fn csv_numbers_are_written_as_in_json() {
        for text in ["0", "-1.5", "1e5", "1E+05", "10.0"] {
            assert!(is_number(text), "{text}");
        }
        for text in ["", "-", "+1", "01", ".5", "5.", "1e", "NaN", "inf", "1,5", " 1", "0x1"] {
            assert!(!is_number(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_json_takes_as_a_number_is_one(text in "-?[0-9.eE+-]{1,8}") {
            let json = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(is_number(&text), json, "{}", text);
        }

        #[test]
        fn cents_come_back(cents in -10_000_000_000_000_000i64..10_000_000_000_000_000) {
            let text = format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
            prop_assert_eq!(parse(&text, 18, 2), Some(i128::from(cents)));
        }
    }
}
