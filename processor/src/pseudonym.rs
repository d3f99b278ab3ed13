//! Pseudonyms: one name for the same value everywhere, which only the holder of the key can make again.
//!
//! A pseudonym is `p_` and the first 128 bits of HMAC-SHA256 over the value, in hex (RFC 2104, FIPS 180-4). Equal
//! values under one key have equal pseudonyms, in all datasets, so that they can be counted and joined. Values are
//! taken byte by byte: `Ann@x.example` and `ann@x.example` are two. A value that is written as a pseudonym stays.

use std::fmt;

use ring::hmac;

/// Shortest key, in bytes: the length of the hash (RFC 2104, section 3).
pub const KEY_BYTES_MIN: usize = 32;

const PREFIX: &str = "p_";
const HASH_BYTES: usize = 16;

/// The operator's key. It is never shown.
#[derive(Clone)]
pub struct PseudonymKey(hmac::Key);

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("PseudonymKey(..)")
    }
}

/// The key is too short to keep a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key of pseudonyms has {bytes} bytes and wants at least {KEY_BYTES_MIN}; make one with `openssl rand -hex 32`"
)]
pub struct ShortKey {
    /// Its length.
    pub bytes: usize,
}

/// A contract wants pseudonyms, and there is no key.
#[derive(Debug, thiserror::Error)]
#[error(
    "the contract of {dataset} makes pseudonyms of {column}: give their key, --pseudonym-key-file FILE, --pseudonym-key-secret ARN or INGOT_PSEUDONYM_KEY; without the same key as before the same person gets another name"
)]
pub struct NoKey {
    /// The dataset.
    pub dataset: String,
    /// The first such column.
    pub column: String,
}

impl PseudonymKey {
    /// A key from its bytes; white space at its end (an editor's line end) does not count.
    ///
    /// # Errors
    /// It is shorter than [`KEY_BYTES_MIN`].
    pub fn new(bytes: &[u8]) -> Result<Self, ShortKey> {
        let bytes = bytes.trim_ascii_end();
        if bytes.len() < KEY_BYTES_MIN {
            return Err(ShortKey { bytes: bytes.len() });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// The value's pseudonym.
    pub fn pseudonym(&self, value: &str) -> String {
        if is_pseudonym(value) {
            return value.to_owned();
        }
        let tag = hmac::sign(&self.0, value.as_bytes());
        let hex: String = tag.as_ref().iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
        PREFIX.to_owned() + &hex
    }

    /// A tag over `message` for another purpose than a pseudonym, in hex: no tag of one purpose is one of another,
    /// or a pseudonym.
    pub(crate) fn tag(&self, purpose: &str, message: &[u8]) -> String {
        let tag = hmac::sign(&self.0, &labelled(purpose, message));
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether `tag` is the one over `message`; takes as long for every wrong one.
    pub(crate) fn is_tag(&self, purpose: &str, message: &[u8], tag: &str) -> bool {
        let digit = |at: usize| u8::from_str_radix(tag.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..tag.len()).step_by(2).map(digit).collect();
        bytes.is_some_and(|bytes| hmac::verify(&self.0, &labelled(purpose, message), &bytes).is_ok())
    }
}

/// No value of a column has a zero byte first, so no pseudonym is made of this.
fn labelled(purpose: &str, message: &[u8]) -> Vec<u8> {
    [b"\0ingot/", purpose.as_bytes(), b"\0", message].concat()
}

fn is_pseudonym(value: &str) -> bool {
    value.strip_prefix(PREFIX).is_some_and(|hex| {
        hex.len() == 2 * HASH_BYTES && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    #[test]
    fn one_value_has_one_name_and_another_key_gives_another() {
        let key = PseudonymKey::new(KEY).unwrap();
        // printf 'ann@x.example' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef | cut -c1-32
        assert_eq!(key.pseudonym("ann@x.example"), GOLDEN);
        assert_eq!(key.pseudonym(GOLDEN), GOLDEN, "twice changes nothing");
        assert_ne!(key.pseudonym("Ann@x.example"), GOLDEN);
        let with_line_end = PseudonymKey::new(b"0123456789abcdef0123456789abcdef\n").unwrap();
        assert_eq!(with_line_end.pseudonym("ann@x.example"), GOLDEN);
        let other = PseudonymKey::new(b"fedcba9876543210fedcba9876543210").unwrap();
        assert_ne!(other.pseudonym("ann@x.example"), GOLDEN);
    }

    #[test]
    fn a_short_key_is_refused_and_no_key_is_shown() {
        assert_eq!(PseudonymKey::new(b"short   \n").err(), Some(ShortKey { bytes: 5 }));
        assert_eq!(format!("{:?}", PseudonymKey::new(KEY).unwrap()), "PseudonymKey(..)");
    }

    const GOLDEN: &str = "p_de9df84b921d6e3d152e473618dc9792";
}
