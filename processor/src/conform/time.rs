//! RFC 3339 times and dates to counts since 1970-01-01 UTC, years 0000 to 9999.

const US_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// 0000-01-01T00:00:00Z.
const US_MIN: i64 = -62_167_219_200 * US_PER_SECOND;
/// 9999-12-31T23:59:59.999999Z.
const US_MAX: i64 = 253_402_300_800 * US_PER_SECOND - 1;

/// Days since 1970-01-01 of a `YYYY-MM-DD` that exists.
pub(crate) fn days(text: &str) -> Option<i32> {
    match text.as_bytes() {
        date if date.len() == 10 => civil_days(date),
        _ => None,
    }
}

/// Microseconds since 1970-01-01 UTC of an RFC 3339 time, its offset included.
/// Digits past the microsecond are cut off; second 60 is not known.
pub(crate) fn micros(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !matches!(bytes[10], b'T' | b't' | b' ') || bytes[13] != b':' || bytes[16] != b':'
    {
        return None;
    }
    let day = i64::from(civil_days(&bytes[..10])?);
    let (hour, minute, second) = (two(&bytes[11..13])?, two(&bytes[14..16])?, two(&bytes[17..19])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_us, zone) = fraction(&bytes[19..])?;
    let offset_s = offset(zone)?;
    let seconds = day * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset_s;
    Some(seconds * US_PER_SECOND + fraction_us).filter(|us| (US_MIN..=US_MAX).contains(us))
}

/// Microseconds of milliseconds, both since 1970-01-01 UTC.
pub(crate) fn from_epoch_ms(ms: i64) -> Option<i64> {
    ms.checked_mul(1000).filter(|us| (US_MIN..=US_MAX).contains(us))
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar: Howard Hinnant's `days_from_civil`.
fn civil_days(date: &[u8]) -> Option<i32> {
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let year = two(&date[..2])? * 100 + two(&date[2..4])?;
    let (month, day) = (two(&date[5..7])?, two(&date[8..10])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    if !(1..=12).contains(&month) || day < 1 || day > month_days {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

fn two(digits: &[u8]) -> Option<i64> {
    match digits {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
        }
        _ => None,
    }
}

/// Microseconds of `.digits`, if it is there, and what follows.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', digits @ ..] = text else {
        return Some((0, text));
    };
    let len = digits.iter().take_while(|digit| digit.is_ascii_digit()).count();
    if len == 0 {
        return None;
    }
    let us = (0..6)
        .fold(0, |us, place| us * 10 + digits[..len].get(place).map_or(0, |digit| i64::from(digit - b'0')));
    Some((us, &digits[len..]))
}

/// Seconds east of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, hour, minute) = match zone {
        [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2, b':', m1, m2] => (sign, two(&[*h1, *h2])?, two(&[*m1, *m2])?),
        _ => return None,
    };
    let seconds = hour * 3600 + minute * 60;
    match sign {
        _ if hour > 23 || minute > 59 => None,
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use chrono::{DateTime, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_have_an_offset_and_exist() {
        assert_eq!(micros("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(micros("1970-01-01 01:00:00.0000019+01:00"), Some(1));
        assert_eq!(micros("0000-01-01T00:00:00Z"), Some(US_MIN));
        assert_eq!(micros("9999-12-31T23:59:59.999999Z"), Some(US_MAX));
        for text in [
            "",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00Z ",
            "01/03/25 00:00:00 Z",
            "2026-1-1T00:00:00.00Z",
            "0000-01-01T00:00:00+00:01",
            "2026-01-01T00:00:00+24:00",
            "２026-01-01T00:00:00Z",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    #[test]
    fn dates_exist() {
        assert_eq!(days("1970-01-02"), Some(1));
        assert_eq!(days("2024-02-29"), NaiveDate::from_ymd_opt(2024, 2, 29).map(|day| day.to_epoch_days()));
        for text in ["2023-02-29", "1900-02-29", "2026-1-1", "2026-01-01T", "20260101", "2026-01-0é"] {
            assert_eq!(days(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn times_are_read_as_chrono_reads_them(us in US_MIN + 86_400_000_000..US_MAX - 86_400_000_000, minutes in -1439i32..=1439) {
            let zone = chrono::FixedOffset::east_opt(minutes * 60).unwrap();
            let text = DateTime::from_timestamp_micros(us).unwrap().with_timezone(&zone).to_rfc3339();
            prop_assert_eq!(micros(&text), Some(us), "{}", text);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = (micros(&text), days(&text));
        }
    }
}
