//! A bronze object without some of its rows: their places stay, and hold nothing.
//!
//! Pure: bytes in, bytes out. A row of text is overwritten, so every other row keeps its place and its bytes. A
//! reading's frame is encoded anew with a reading of nobody in its place. So rows keep their numbers, batches
//! their sizes, and whatever refers to them stays right. [`crate::erased`] says how such a place looks.

use std::collections::BTreeSet;
use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::frames;
use crate::bronze::{BronzeKey, Format, Packing};
use crate::contract::Contract;
use crate::decode::{Part, Parts, Taken};
use crate::erased::{ERASED, is_erased};
use crate::examine::WHOLE;
use crate::forgotten::value;

/// The checksum and the length at the end of a gzip stream (RFC 1952).
const GZ_TRAILER_BYTES: usize = 8;
/// The checksum at the end of a zstd frame (RFC 8878).
const ZST_TRAILER_BYTES: usize = 4;

/// What an object has of a subject.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The places of its rows, and of rows that cannot be read and have the value somewhere.
    pub places: BTreeSet<i64>,
    /// Rows of others that have the value somewhere.
    pub mentions: u64,
}

/// Looks in a part of an object for the rows in which `column` (a place among the contract's) is `wanted`.
pub(super) fn find(
    contract: &Contract,
    part: &Part<'_>,
    column: usize,
    wanted: &str,
    found: &mut Found,
) -> Taken {
    let written = serde_json::Value::from(wanted).to_string();
    let written = &written[1..written.len() - 1];
    let device = contract.column_index("device");
    let format = part.format();
    part.rows(contract, |span, row| {
        let bytes = part.slice(span);
        let is_text = format != Format::Frames;
        let mentions = || is_text && [wanted, written].iter().any(|text| has_word(bytes, text.as_bytes()));
        match row {
            Ok(fields) if is_erased(format, bytes, device.map(|device| &fields[device])) => {}
            Ok(fields) if value(&fields[column]).is_some_and(|value| value == wanted) => {
                found.places.insert(span.ordinal);
            }
            Ok(_) if mentions() => found.mentions += 1,
            // What is not in memory of a long row may name anybody.
            Err(_) if mentions() || bytes.len() < span.len => {
                found.places.insert(span.ordinal);
            }
            _ => {}
        }
    })
}

/// Whether `word` stands in `bytes`, and no letter or digit directly at its ends.
pub(super) fn has_word(bytes: &[u8], word: &[u8]) -> bool {
    let free = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
    !word.is_empty()
        && bytes.windows(word.len()).enumerate().any(|(at, window)| {
            window == word && free(bytes[..at].last()) && free(bytes.get(at + word.len()))
        })
}

/// An object cannot be written without the rows.
#[derive(Debug, thiserror::Error)]
#[error("{key} cannot be written without the subject's rows: {problem}")]
pub struct EraseError {
    key: String,
    problem: String,
}

/// The object's bytes without the rows at `places`; `None` if they are gone already.
pub(super) fn without(
    contract: &Contract,
    key: &BronzeKey,
    bytes: Bytes,
    places: &BTreeSet<i64>,
) -> Result<Option<Vec<u8>>, EraseError> {
    let failed = |problem: String| EraseError { key: key.key.clone(), problem };
    if key.packing == Packing::Parquet {
        return Err(failed(
            "a Parquet file is not rewritten; put its rows into another object without them, and remove it"
                .into(),
        ));
    }
    let mut parts = Parts::open(key, bytes, WHOLE);
    parts.fill();
    let part = parts.part();
    let (erased, taken) = match key.format {
        Format::Frames => frames::without(contract, &part, places).map_err(failed)?,
        Format::Ndjson | Format::Csv => text_without(contract, &part, places),
    };
    if !taken.last {
        return Err(failed(format!(
            "it has more than {} bytes or {} rows, and is rewritten in memory; split it",
            WHOLE.bytes_max, WHOLE.rows_max
        )));
    }
    let Some(erased) = erased else { return Ok(None) };
    let packed = match key.packing {
        Packing::Gz => packed_gz(&erased),
        Packing::Zst => packed_zst(&erased),
        Packing::Plain | Packing::Parquet => return Ok(Some(erased)),
    };
    let (mut packed, trailer_bytes) = packed.map_err(|error| failed(error.to_string()))?;
    if part.is_cut() {
        // A stream that stopped early still does.
        packed.truncate(packed.len().saturating_sub(trailer_bytes));
    }
    Ok(Some(packed))
}

/// The bytes packed, and the length of what at their end says only that they are whole.
fn packed_gz(bytes: &[u8]) -> std::io::Result<(Vec<u8>, usize)> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes)?;
    Ok((packed.finish()?, GZ_TRAILER_BYTES))
}

fn packed_zst(bytes: &[u8]) -> std::io::Result<(Vec<u8>, usize)> {
    let mut packed = zstd::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
    packed.include_checksum(true)?;
    packed.write_all(bytes)?;
    Ok((packed.finish()?, ZST_TRAILER_BYTES))
}

fn text_without(contract: &Contract, part: &Part<'_>, places: &BTreeSet<i64>) -> (Option<Vec<u8>>, Taken) {
    let format = part.format();
    let mut erased = part.bytes().to_vec();
    let mut changed = false;
    let taken = part.rows(contract, |span, _| {
        let row = part.slice(span);
        if !places.contains(&span.ordinal) || is_erased(format, row, None) {
            return;
        }
        let commas = match format {
            Format::Csv => Part::csv_fields(row).len().saturating_sub(1).min(row.len().saturating_sub(1)),
            _ => 0,
        };
        let here = &mut erased[span.offset..span.offset + span.len];
        here[..commas].fill(b',');
        here[commas..].fill(ERASED);
        changed = true;
    });
    (changed.then_some(erased), taken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn orders() -> Contract {
        Contract::embedded().remove(1)
    }

    fn key(name: &str) -> BronzeKey {
        BronzeKey::parse(&format!("bronze/orders/{name}"), |_| true).unwrap()
    }

    fn rows(name: &str, bytes: &[u8]) -> Vec<(i64, usize, usize, bool)> {
        let parts = parts(name, bytes);
        let part = parts.part();
        let mut rows = Vec::new();
        part.rows(&orders(), |span, _| {
            let gone = is_erased(key(name).format, part.slice(span), None);
            rows.push((span.ordinal, span.offset, span.len, gone));
        });
        rows
    }

    fn parts(name: &str, bytes: &[u8]) -> Parts {
        let mut parts = Parts::open(&key(name), Bytes::copy_from_slice(bytes), WHOLE);
        parts.fill();
        parts
    }

    fn email(name: &str, bytes: &[u8]) -> (Found, Vec<u8>) {
        let column = orders().column_index("customer_email").unwrap();
        let mut found = Found::default();
        find(&orders(), &parts(name, bytes).part(), column, "ann@x.example", &mut found);
        let erased = without(&orders(), &key(name), Bytes::copy_from_slice(bytes), &found.places).unwrap();
        (found, erased.unwrap_or_default())
    }

    #[test]
    fn rows_of_text_keep_their_places_and_the_subjects_hold_nothing() {
        let lines = "{\"order_id\":\"A1\",\"customer_email\":\"ann@x.example\"}\r\n\n{\"order_id\":\"A2\",\"notes\":\"for ann@x.example\"}\n{\"customer_email\":\"\\u0061nn@x.example\"}\n broken ann@x.example\n{\"customer_email\":\"joann@x.example\"}";
        let csv = "order_id,customer_email,notes\r\nA1,ann@x.example,\"two\nlines, one\"\nA2,bob@x.example,\nA3,ann@x.example\n";
        for (name, text, places, mentions) in
            [("a.ndjson", lines, vec![0, 2, 3], 1), ("a.csv", csv, vec![0, 2], 0)]
        {
            let (found, erased) = email(name, text.as_bytes());
            assert_eq!(
                (found.places.iter().copied().collect::<Vec<_>>(), found.mentions),
                (places, mentions)
            );
            let (before, after) = (rows(name, text.as_bytes()), rows(name, &erased));
            assert_eq!(before.len(), after.len());
            for (before, after) in before.iter().zip(&after) {
                assert_eq!((before.0, before.1, before.2), (after.0, after.1, after.2));
                assert_eq!(after.3, found.places.contains(&after.0), "{name}");
            }
            assert_eq!(
                email(name, &erased).0.places,
                BTreeSet::new(),
                "nothing is left, and again is nothing"
            );
        }
    }

    #[test]
    fn a_packed_object_is_packed_again_and_a_cut_one_stays_cut() {
        let text =
            "{\"order_id\":\"A1\",\"customer_email\":\"ann@x.example\"}\n{\"order_id\":\"A2\"}\n{\"order_";
        let gz = packed_gz(text.as_bytes()).unwrap().0;
        let zst = packed_zst(text.as_bytes()).unwrap().0;
        for (name, bytes) in [
            ("a.ndjson.gz", &gz[..]),
            ("a.ndjson.gz", &gz[..gz.len() - 6]),
            ("a.ndjson.zst", &zst),
            ("a.ndjson.zst", &zst[..zst.len() - 3]),
        ] {
            let (found, erased) = email(name, bytes);
            assert_eq!(found.places, BTreeSet::from([0]));
            let (then, now) = (parts(name, bytes), parts(name, &erased));
            assert_eq!(then.part().is_cut(), now.part().is_cut());
            assert_eq!(now.part().bytes().len(), text.len());
            let (before, after) = (rows(name, bytes), rows(name, &erased));
            assert_eq!(before[1..], after[1..]);
        }
    }

    #[test]
    fn a_word_is_whole() {
        for (text, is) in [("d1", true), ("x d1,", true), ("d10", false), ("ad1", false), ("\"d1\"", true)] {
            assert_eq!(has_word(text.as_bytes(), b"d1"), is, "{text}");
        }
    }
}
