//! Bronze keys: which dataset an object belongs to, how it is written, and who sent it.
//!
//! `bronze/<dataset>/[dt=YYYY-MM-DD/][gateway=<gateway>/]<name>.<format>[.gz|.zst]`, or `<name>.parquet`. A key names
//! its format; the bytes are not sniffed. Gateways' objects are named `<boot>-<seq>.ingot`.

/// What an IoT rule with Basic Ingest is called by in the topic; it is no part of the key.
const BASIC_INGEST_PREFIX: &str = "$aws/rules/ingot_bronze/";

/// How an object's rows are written, once it is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Frames of readings (`.ingot`).
    Frames,
    /// JSON objects, one per line (`.ndjson`, `.jsonl`, `.json`); what `.parquet` unpacks to.
    Ndjson,
    /// Comma-separated values with a header row (`.csv`).
    Csv,
}

/// How an object is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, one or more members (`.gz`).
    Gz,
    /// Zstandard, one or more frames (`.zst`).
    Zst,
    /// Apache Parquet (`.parquet`): each row unpacks to the line of JSON that says the same.
    Parquet,
}

/// A key of a dataset that is known, in a format that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BronzeKey {
    /// The whole key, decoded, relative to the lake.
    pub key: String,
    /// The dataset, which is also its contract's id.
    pub dataset: String,
    /// How the object is written.
    pub format: Format,
    /// How it is packed.
    pub packing: Packing,
    /// The day in the key: when the object was sealed or written, not when its rows happened.
    pub dt: Option<String>,
    /// The gateway that sealed it.
    pub gateway: Option<String>,
    /// The gateway's run and the batch's position in it.
    pub batch: Option<(u64, u64)>,
}

/// Why an object is not processed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// Not under `bronze/<dataset>/`.
    #[error("{key} is not under bronze/<dataset>/")]
    NotBronze {
        /// The key.
        key: String,
    },
    /// No contract has this id.
    #[error("{key}: no contract for the dataset {dataset}; add contracts/{dataset}.yaml")]
    UnknownDataset {
        /// The key.
        key: String,
        /// The dataset in it.
        dataset: String,
    },
    /// The name does not end as a known format's does.
    #[error(
        "{key}: the name does not end in .parquet, nor in .ingot, .ndjson, .jsonl, .json or .csv, with or without .gz or .zst"
    )]
    UnknownFormat {
        /// The key.
        key: String,
    },
    /// A file on a disk whose name no store of objects takes.
    #[error("{key:?}: the name has a control character, or is not UTF-8; rename it")]
    ImpossibleName {
        /// The key.
        key: String,
    },
    /// A folder's marker, as consoles make them.
    #[error("{key} is a folder")]
    Folder {
        /// The key.
        key: String,
    },
}

impl Skip {
    /// Whether the object would be processed, were it named otherwise.
    pub fn is_misnamed(&self) -> bool {
        matches!(self, Self::UnknownFormat { .. } | Self::ImpossibleName { .. })
    }
}

/// What stands in a key for what is not UTF-8 in a file's name.
pub(crate) const NOT_UTF8: char = char::REPLACEMENT_CHARACTER;

/// Whether an object can have this key; files on a disk can have other names.
pub(crate) fn is_possible(key: &str) -> bool {
    !key.contains(|letter: char| letter.is_ascii_control() || letter == NOT_UTF8)
}

impl Format {
    /// The byte that ends a row, or a frame.
    pub(crate) fn row_end(self) -> u8 {
        match self {
            Self::Frames => 0,
            Self::Ndjson | Self::Csv => b'\n',
        }
    }
}

impl BronzeKey {
    /// Reads a decoded key. `is_dataset` says whether there is a contract of that id.
    pub fn parse(key: &str, is_dataset: impl Fn(&str) -> bool) -> Result<Self, Skip> {
        if !is_possible(key) {
            return Err(Skip::ImpossibleName { key: key.into() });
        }
        let not_bronze = || Skip::NotBronze { key: key.into() };
        let (dataset, path) =
            key.strip_prefix("bronze/").and_then(|path| path.split_once('/')).ok_or_else(not_bronze)?;
        if dataset.is_empty() {
            return Err(not_bronze());
        }
        if path.is_empty() || path.ends_with('/') {
            return Err(Skip::Folder { key: key.into() });
        }
        if !is_dataset(dataset) {
            return Err(Skip::UnknownDataset { key: key.into(), dataset: dataset.into() });
        }
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (name, packing) = match name.rsplit_once('.') {
            Some((name, "gz")) => (name, Packing::Gz),
            Some((name, "zst")) => (name, Packing::Zst),
            _ => (name, Packing::Plain),
        };
        let (stem, format, packing) = match (name.rsplit_once('.'), packing) {
            (Some((stem, "ingot")), packing) => (stem, Format::Frames, packing),
            (Some((stem, "ndjson" | "jsonl" | "json")), packing) => (stem, Format::Ndjson, packing),
            (Some((stem, "csv")), packing) => (stem, Format::Csv, packing),
            (Some((stem, "parquet")), Packing::Plain) => (stem, Format::Ndjson, Packing::Parquet),
            _ => return Err(Skip::UnknownFormat { key: key.into() }),
        };
        let folder = |name: &str| {
            folders
                .split('/')
                .find_map(|folder| folder.strip_prefix(name)?.strip_prefix('='))
                .map(String::from)
        };
        Ok(Self {
            key: key.into(),
            dataset: dataset.into(),
            format,
            packing,
            dt: folder("dt").filter(|dt| is_day(dt)),
            gateway: folder("gateway").filter(|gateway| is_name(gateway)),
            batch: batch(stem),
        })
    }
}

/// The key of the object that a gateway's message becomes; `None` if the topic is not a gateway's.
///
/// `ingot/bronze/<gateway>/<dt>/<boot>-<seq>`, with or without the prefix of Basic Ingest.
pub fn topic_to_key(topic: &str) -> Option<String> {
    let topic = topic.strip_prefix(BASIC_INGEST_PREFIX).unwrap_or(topic);
    let mut levels = topic.strip_prefix("ingot/bronze/")?.split('/');
    let (gateway, dt, name) = (levels.next()?, levels.next()?, levels.next()?);
    if levels.next().is_some() || !is_name(gateway) || !is_day(dt) {
        return None;
    }
    batch(name)?;
    Some(format!("bronze/sensor_readings/dt={dt}/gateway={gateway}/{name}.ingot"))
}

/// A key as S3 writes it in an event (`+` for a space, then `%XX`), decoded once; `None` if the result
/// is not UTF-8. A `%` that starts no escape stays.
pub fn decode_event_key(key: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(key.len());
    let mut bytes = key.as_bytes();
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        let escaped = || {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            if digits.starts_with('+') { None } else { u8::from_str_radix(digits, 16).ok() }
        };
        match first {
            b'+' => decoded.push(b' '),
            b'%' => match escaped() {
                Some(byte) => {
                    decoded.push(byte);
                    bytes = &rest[2..];
                }
                None => decoded.push(b'%'),
            },
            other => decoded.push(*other),
        }
    }
    String::from_utf8(decoded).ok()
}

/// `<boot>-<seq>`: 16 hex digits in lower case, and at least 10 decimal ones.
fn batch(stem: &str) -> Option<(u64, u64)> {
    let (boot, seq) = stem.split_once('-')?;
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if boot.len() != 16
        || !boot.bytes().all(hex)
        || seq.len() < 10
        || !seq.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    Some((u64::from_str_radix(boot, 16).ok()?, seq.parse().ok()?))
}

/// 1 to 64 of `[A-Za-z0-9._-]`.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// `YYYY-MM-DD`, a day that exists.
fn is_day(dt: &str) -> bool {
    crate::conform::time::days(dt).is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn known(dataset: &str) -> bool {
        matches!(dataset, "sensor_readings" | "orders")
    }

    #[test]
    fn a_key_says_what_the_object_is() {
        let key = BronzeKey::parse("bronze/orders/dt=2026-01-02/shop 1.CSV.csv.gz", known).unwrap();
        assert_eq!((key.dataset.as_str(), key.format, key.packing), ("orders", Format::Csv, Packing::Gz));
        assert_eq!((key.dt.as_deref(), key.gateway, key.batch), (Some("2026-01-02"), None, None));
        for name in ["a.ndjson", "a.jsonl", "x/y/a.json"] {
            let key = BronzeKey::parse(&format!("bronze/orders/{name}"), known).unwrap();
            assert_eq!((key.format, key.packing), (Format::Ndjson, Packing::Plain));
        }
        for (name, packing) in [("a.json.zst", Packing::Zst), ("a.parquet", Packing::Parquet)] {
            let key = BronzeKey::parse(&format!("bronze/orders/{name}"), known).unwrap();
            assert_eq!((key.format, key.packing), (Format::Ndjson, packing));
        }
    }

    #[test]
    fn a_batchs_key_says_who_sealed_it() {
        let key = "bronze/sensor_readings/dt=2026-01-02/gateway=gw-1/00000000000000ab-0000000012.ingot";
        let key = BronzeKey::parse(key, known).unwrap();
        assert_eq!((key.format, key.packing, key.batch), (Format::Frames, Packing::Plain, Some((0xab, 12))));
        assert_eq!((key.dt.as_deref(), key.gateway.as_deref()), (Some("2026-01-02"), Some("gw-1")));
    }

    #[test]
    fn other_keys_are_skipped_with_a_reason() {
        let skip = |key: &str| BronzeKey::parse(key, known).unwrap_err();
        assert!(matches!(skip("silver/orders/a.csv"), Skip::NotBronze { .. }));
        assert!(matches!(skip("bronze//a.csv"), Skip::NotBronze { .. }));
        assert!(matches!(skip("bronze/a.csv"), Skip::NotBronze { .. }));
        assert!(matches!(skip("bronze/orders/"), Skip::Folder { .. }));
        assert!(matches!(skip("bronze/people/a.csv"), Skip::UnknownDataset { .. }));
        for name in ["a", "a.gz", "a.csv.zip", "a.parquet.gz", "a.gz.gz", ".."] {
            assert!(matches!(skip(&format!("bronze/orders/{name}")), Skip::UnknownFormat { .. }), "{name}");
        }
    }

    #[test]
    fn an_event_key_is_decoded_once() {
        for (written, key) in [
            ("bronze/orders/dt%3D2026-01-02/a+b.csv", "bronze/orders/dt=2026-01-02/a b.csv"),
            ("a%2Bb%3A%253D", "a+b:%3D"),
            ("f%C3%BCnf", "fünf"),
            ("100%", "100%"),
            ("%zz%+1%1", "%zz% 1%1"),
        ] {
            assert_eq!(decode_event_key(written).as_deref(), Some(key));
        }
        assert_eq!(decode_event_key("%FF"), None);
    }

    #[test]
    fn both_topics_of_a_batch_give_its_key() {
        let key = "bronze/sensor_readings/dt=2026-01-02/gateway=gw-1/00000000000000ab-0000000012.ingot";
        let topic = "ingot/bronze/gw-1/2026-01-02/00000000000000ab-0000000012";
        assert_eq!(topic_to_key(topic).as_deref(), Some(key));
        assert_eq!(topic_to_key(&format!("$aws/rules/ingot_bronze/{topic}")).as_deref(), Some(key));
    }

    #[test]
    fn a_topic_that_is_not_a_batch_has_no_key() {
        for topic in [
            "ingot/bronze/gw/2026-01-02",
            "ingot/bronze/gw/2026-01-02/00000000000000ab-0000000012/x",
            "ingot/bronze/gw/2026-02-30/00000000000000ab-0000000012",
            "ingot/bronze/../2026-01-02/00000000000000AB-0000000012",
            "ingot/bronze/g=w/2026-01-02/00000000000000ab-0000000012",
            "ingot/bronze/gw/2026-01-02/00000000000000ab-12",
            "$aws/rules/other/ingot/bronze/gw/2026-01-02/00000000000000ab-0000000012",
        ] {
            assert_eq!(topic_to_key(topic), None, "{topic}");
        }
    }
}
