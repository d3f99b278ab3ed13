//! Finds e-mail addresses, phone and card numbers, IBANs and IP addresses in free text.
//!
//! A card number is 13 to 19 digits with a right check digit (ISO/IEC 7812, Luhn), an IBAN has right check digits
//! (ISO 13616), an IP address is one that parses, so a version of four numbers goes, too.
//! A phone number is a run of 7 or more digits with the usual separators between them. Not eaten:
//! RFC 3339 dates and times, UUIDs, decimals, whole numbers of fewer than 7 digits. A longer whole
//! number may be a phone number, so it goes: free text is better too bare than too open.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What stands for an e-mail address.
pub const EMAIL: &str = "[EMAIL]";
/// What stands for a phone number.
pub const PHONE: &str = "[PHONE]";

/// What stands for a payment card's number.
pub const CARD: &str = "[CARD]";
/// What stands for an IBAN.
pub const IBAN: &str = "[IBAN]";
/// What stands for an IP address.
pub const IP: &str = "[IP]";

/// Fewest digits of a phone number: a local number without its area code.
const PHONE_DIGITS_MIN: usize = 7;

/// The at sign may be written as in JSON text (`\u0040`) or in a URL (`%40`).
const EMAIL_PATTERN: &str = r"[\p{L}\p{N}._%+'-]+(?:@|\\u0040|%40)[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+";

/// Digits with at most three separators between two of them.
const DIGITS_PATTERN: &str = r"[+(]{0,2}[0-9](?:[ \t.()/\u{a0}\u{2010}-\u{2014}-]{0,3}[0-9])*";

/// Country, check digits, 11 to 30 letters and digits, in groups or not.
const IBAN_PATTERN: &str = r"(?i)\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}\b";

/// What could be an address: four numbers with points between, or hex digits with at least two colons.
const IP_PATTERN: &str = r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*|[0-9]+(?:\.[0-9]+){3,}";

/// UUIDs, and RFC 3339 dates with or without a time.
const KEPT_PATTERN: &str = concat!(
    r"\b[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\b",
    r"|\b(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])",
    r"(?:[Tt ][0-2][0-9]:[0-5][0-9](?::[0-6][0-9](?:\.[0-9]{1,9})?)?(?:[Zz]|[+-][0-2][0-9]:?[0-5][0-9])?)?\b",
);

static EMAILS: LazyLock<Regex> = LazyLock::new(|| compiled(EMAIL_PATTERN));
static DIGITS: LazyLock<Regex> = LazyLock::new(|| compiled(DIGITS_PATTERN));
static IBANS: LazyLock<Regex> = LazyLock::new(|| compiled(IBAN_PATTERN));
static IPS: LazyLock<Regex> = LazyLock::new(|| compiled(IP_PATTERN));
static KEPT: LazyLock<Regex> = LazyLock::new(|| compiled(KEPT_PATTERN));

#[expect(clippy::expect_used, reason = "the patterns are constants, and a test compiles each")]
fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern compiles, by test")
}

/// The text with a mark where it held an address or number; borrowed if it held none.
pub fn scan(text: &str) -> Cow<'_, str> {
    let mut scanned = Cow::Borrowed(text);
    // What is left beside a mark may be an address by itself: until nothing more is found. Each round takes digits.
    while let Some(less) = scan_once(&scanned) {
        scanned = Cow::Owned(less);
    }
    scanned
}

/// The text after one look of each kind; `None` if none found anything.
fn scan_once(text: &str) -> Option<String> {
    let mut found: Option<String> = None;
    for look in [scan_emails, scan_ibans, scan_ips, scan_phones] {
        let current = found.as_deref().unwrap_or(text);
        if let Cow::Owned(less) = look(current)
            && less != current
        {
            found = Some(less);
        }
    }
    found
}

fn scan_ibans(text: &str) -> Cow<'_, str> {
    if !has_phone_digits(text) {
        return Cow::Borrowed(text);
    }
    IBANS.replace_all(text, |found: &Captures<'_>| {
        let candidate = &found[0];
        // Words may follow in the same groups: the longest beginning with right check digits counts.
        let after = |end: usize| candidate.as_bytes().get(end);
        let ends =
            (15..=candidate.len()).rev().filter(|end| !after(*end).is_some_and(u8::is_ascii_alphanumeric));
        match ends.map(|end| candidate.split_at(end)).find(|(iban, _)| is_iban(iban)) {
            Some((_, rest)) => format!("{IBAN}{rest}"),
            None => candidate.to_owned(),
        }
    })
}

/// Whether the check digits are right: the country and they moved to the end, letters as 10 to 35, modulo 97 is 1.
fn is_iban(text: &str) -> bool {
    let signs: Vec<u8> = text.bytes().filter(u8::is_ascii_alphanumeric).collect();
    if !(15..=34).contains(&signs.len()) {
        return false;
    }
    let rest = signs[4..].iter().chain(&signs[..4]).fold(0u32, |rest, sign| match sign {
        b'0'..=b'9' => (rest * 10 + u32::from(sign - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter.to_ascii_uppercase() - b'A') + 10) % 97,
    });
    rest == 1
}

fn scan_ips(text: &str) -> Cow<'_, str> {
    if !may_hold_ip(text) {
        return Cow::Borrowed(text);
    }
    IPS.replace_all(text, |found: &Captures<'_>| {
        let candidate = found[0].trim_end_matches(['.', ':']);
        let whole =
            &found[0][..candidate.len() + if found[0][candidate.len()..].starts_with("::") { 2 } else { 0 }];
        // `std::fmt` is no address: letters of a word beside it.
        let (start, end) = found.get(0).map_or((0, 0), |found| (found.start(), found.start() + whole.len()));
        let in_word =
            text[..start].ends_with(char::is_alphanumeric) || text[end..].starts_with(char::is_alphanumeric);
        let is_ip =
            !in_word && whole.bytes().any(|byte| byte.is_ascii_hexdigit()) && whole.parse::<IpAddr>().is_ok();
        if is_ip { format!("{IP}{}", &found[0][whole.len()..]) } else { found[0].to_owned() }
    })
}

fn may_hold_ip(text: &str) -> bool {
    let more_than = |sign, count| text.bytes().filter(|byte| *byte == sign).nth(count).is_some();
    more_than(b'.', 2) || more_than(b':', 1)
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
    text.contains('@')
        || text.contains("%40")
        || text.contains("\\u")
        || has_phone_digits(text)
        || may_hold_ip(text)
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
        scanned.push_str(if is_card(run.as_str()) { CARD } else { PHONE });
        done = run.end();
    }
    scanned.push_str(&text[done..]);
}

fn is_phone(run: &str) -> bool {
    has_phone_digits(run) && !run.split_whitespace().all(is_decimal)
}

/// 13 to 19 digits whose check digit is right: every second one from the end doubled, the digits' sum is full tens.
fn is_card(run: &str) -> bool {
    let digits: Vec<u32> = run.chars().filter_map(|sign| sign.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, doubled) => doubled / 10 + doubled % 10,
        })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
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
            ("paid by 4111 1111 1111 1111, not 4111 1111 1111 1112", "paid by [CARD], not [PHONE]"),
            ("378282246310005", "[CARD]"),
            ("to DE89 3704 0044 0532 0130 00 today", "to [IBAN] today"),
            ("gb82west12345698765432!", "[IBAN]!"),
            ("from 192.168.7.20 or 10.0.0.1:8080.", "from [IP] or [IP]:8080."),
            ("[2001:db8::8a2e:370:7334] ::1 fe80::", "[[IP]] [IP] [IP]"),
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
            "at 20:36:20, in std::fmt, 1.2.3 and 300.1.1.1",
            "AB12CDEF",
        ] {
            assert_eq!(scan(text), text);
        }
    }

    proptest! {
        #[test]
        fn scanning_twice_changes_nothing(text in "([ a-f0-9@.+()%T:Z-]|::|DE89370400440532013000|10.0.0.1){0,40}") {
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
