//! Finds e-mail addresses and phone numbers in free text.
//!
//! A phone number is a run of 7 or more digits with the usual separators between them. Not eaten:
//! RFC 3339 dates and times, UUIDs, decimals, whole numbers of fewer than 7 digits. A longer whole
//! number may be a phone number, so it goes: free text is better too bare than too open.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// What stands for an e-mail address.
pub const EMAIL: &str = "[EMAIL]";
/// What stands for a phone number.
pub const PHONE: &str = "[PHONE]";

/// Fewest digits of a phone number: a local number without its area code.
const PHONE_DIGITS_MIN: usize = 7;

/// The at sign may be written as in JSON text (`\u0040`) or in a URL (`%40`).
const EMAIL_PATTERN: &str = r"[\p{L}\p{N}._%+'-]+(?:@|\\u0040|%40)[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+";

/// Digits with at most three separators between two of them.
const DIGITS_PATTERN: &str = r"[+(]{0,2}[0-9](?:[ \t.()/\u{a0}\u{2010}-\u{2014}-]{0,3}[0-9])*";

/// UUIDs, and RFC 3339 dates with or without a time.
const KEPT_PATTERN: &str = concat!(
    r"\b[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\b",
    r"|\b(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])",
    r"(?:[Tt ][0-2][0-9]:[0-5][0-9](?::[0-6][0-9](?:\.[0-9]{1,9})?)?(?:[Zz]|[+-][0-2][0-9]:?[0-5][0-9])?)?\b",
);

static EMAILS: LazyLock<Regex> = LazyLock::new(|| compiled(EMAIL_PATTERN));
static DIGITS: LazyLock<Regex> = LazyLock::new(|| compiled(DIGITS_PATTERN));
static KEPT: LazyLock<Regex> = LazyLock::new(|| compiled(KEPT_PATTERN));

#[expect(clippy::expect_used, reason = "the patterns are constants, and a test compiles each")]
fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern compiles, by test")
}

/// The text with `[EMAIL]` and `[PHONE]` where it held addresses and numbers; borrowed if it held none.
pub fn scan(text: &str) -> Cow<'_, str> {
    match scan_emails(text) {
        Cow::Borrowed(text) => scan_phones(text),
        Cow::Owned(text) => Cow::Owned(scan_phones(&text).into_owned()),
    }
}

/// The text with `[EMAIL]` where it held addresses.
pub fn scan_emails(text: &str) -> Cow<'_, str> {
    if text.contains('@') || text.contains("40") {
        EMAILS.replace_all(text, EMAIL)
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether [`scan`] could find anything: a cheap look before any pattern runs.
pub(super) fn suspicious(text: &str) -> bool {
    text.contains('@') || text.contains("%40") || text.contains("\\u") || has_phone_digits(text)
}

fn has_phone_digits(text: &str) -> bool {
    text.bytes().filter(u8::is_ascii_digit).nth(PHONE_DIGITS_MIN - 1).is_some()
}

fn scan_phones(text: &str) -> Cow<'_, str> {
    if !has_phone_digits(text) || !DIGITS.find_iter(text).any(|run| is_phone(run.as_str())) {
        return Cow::Borrowed(text);
    }
    let mut scanned = String::with_capacity(text.len());
    let mut done = 0;
    for kept in KEPT.find_iter(text) {
        push_without_phones(&mut scanned, &text[done..kept.start()]);
        scanned.push_str(kept.as_str());
        done = kept.end();
    }
    push_without_phones(&mut scanned, &text[done..]);
    Cow::Owned(scanned)
}

fn push_without_phones(scanned: &mut String, text: &str) {
    let mut done = 0;
    for run in DIGITS.find_iter(text).filter(|run| is_phone(run.as_str())) {
        scanned.push_str(&text[done..run.start()]);
        scanned.push_str(PHONE);
        done = run.end();
    }
    scanned.push_str(&text[done..]);
}

fn is_phone(run: &str) -> bool {
    has_phone_digits(run) && !run.split_whitespace().all(is_decimal)
}

fn is_decimal(word: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    // A number that starts with a zero is dialled, not counted.
    let counted = |whole: &str| whole == "0" || !whole.starts_with('0');
    word.split_once('.').is_some_and(|(whole, fraction)| digits(whole) && counted(whole) && digits(fraction))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_and_numbers_are_replaced() {
        for (text, expected) in [
            ("call +1 (555) 123-4567 now", "call [PHONE] now"),
            ("555.123.4567", "[PHONE]"),
            ("tel:5551234567;", "tel:[PHONE];"),
            ("+49 30 / 1234 5678, or jane.doe+x@mail.example.com.", "[PHONE], or [EMAIL]."),
            ("5551234567 5559876543", "[PHONE]"),
            ("jürgen@bücher.example", "[EMAIL]"),
            (r#""a\u0040b.example" c%40d.example"#, r#""[EMAIL]" [EMAIL]"#),
            ("2026-01-02T03:04:05Z 555 123 4567", "2026-01-02T03:04:05Z [PHONE]"),
            (
                "550e8400-e29b-41d4-a716-446655440000 5551234567",
                "550e8400-e29b-41d4-a716-446655440000 [PHONE]",
            ),
        ] {
            assert_eq!(scan(text), expected);
        }
    }

    #[test]
    fn times_identities_and_numbers_stay() {
        for text in [
            "",
            "no one @ home",
            "2026-11-23T20:36:20.123456Z",
            "2026-11-23 20:36:20+01:00",
            "between 2026-11-23 and 2026-11-24",
            "550e8400-e29b-41d4-a716-446655440000",
            "12345678-1234-1234-1234-123456789012",
            "123456",
            "1234.567890",
            "-0.000123456789",
            "21.500 22.500 23.500",
        ] {
            assert_eq!(scan(text), text);
        }
    }

    proptest! {
        #[test]
        fn scanning_twice_changes_nothing(text in "[ a-f0-9@.+()%T:Z-]{0,60}") {
            let once = scan(&text).into_owned();
            prop_assert_eq!(scan(&once), once.as_str());
        }

        // No 8 around it, so that 867 can come from the planted number alone.
        #[test]
        fn a_planted_address_or_number_never_stays(before in "[ ,;:a-z0-79]{0,12}", after in "[ ,;:a-z0-79]{0,12}") {
            let text = format!("{before} canary@mail.example {after} +1 555 867 5309 {before}");
            let scanned = scan(&text);
            prop_assert!(!scanned.contains("canary") && !scanned.contains("867"), "{}", scanned);
        }
    }
}
