//! From packed bytes to bytes, as they are asked for: gz, zst, or Parquet, of which each row is a line of JSON.
//!
//! What a damaged stream gave before it stopped is kept. How far an object may expand is judged before any of it is
//! worked on ([`weigh`]): a bomb is known by its weight, and nothing of it is promoted.

use std::io::{BufReader, ErrorKind, Read};

use deltalake::parquet::file::reader::ChunkReader;
use flate2::bufread::MultiGzDecoder;

use super::limits::Limits;
use super::parquet::Lines;
use crate::bronze::{BronzeKey, Format, Packing};

/// Most bytes that an object may expand to, whatever its size: 64 GiB.
pub const EXPANDED_BYTES_MAX: u64 = 64 << 30;
/// Most bytes that an object may expand to for each of its own. Plain JSON packs 10 to 30 times, a fleet's
/// Parquet up to a hundred; gz itself ends at 1,032.
pub const EXPANDED_RATIO_MAX: u64 = 300;

/// Bytes that are read of a packed object at a time.
const READ_BYTES: usize = 64 * 1024;

/// Why unpacking stopped before the object's end: it is cut short, damaged, or followed by something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {} stops being one after {expanded_bytes} bytes of output: {reason}", .packing.what())]
pub struct Problem {
    /// What it should be.
    pub packing: Packing,
    /// Output before that.
    pub expanded_bytes: usize,
    /// What the unpacker said.
    pub reason: String,
}

impl Problem {
    /// The rule by which the rest of the object is discarded.
    pub(super) fn rule(&self) -> &'static str {
        match self.packing {
            Packing::Plain => "unreadable",
            Packing::Gz => "gz",
            Packing::Zst => "zst",
            Packing::Parquet => "parquet",
        }
    }
}

impl Packing {
    fn what(self) -> &'static str {
        match self {
            Self::Plain => "object",
            Self::Gz => "gzip stream",
            Self::Zst => "zstd stream",
            Self::Parquet => "Parquet file",
        }
    }
}

/// An object's bytes, unpacked while they are read. An error is damage, or `object` could not be read; one of the kind
/// `FileTooLarge` says that it declares to expand further than `bytes_max`, which is not held against what does not say.
pub(super) fn unpacked<R>(
    packing: Packing,
    object: R,
    bytes_max: u64,
) -> std::io::Result<Box<dyn Read + Send>>
where
    R: ChunkReader<T: Send + 'static> + Clone + 'static,
{
    let stream = || object.get_read(0).map_err(std::io::Error::other);
    Ok(match packing {
        Packing::Plain => Box::new(stream()?),
        Packing::Gz => Box::new(MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, stream()?))),
        Packing::Zst => {
            Box::new(zstd::Decoder::with_buffer(BufReader::with_capacity(READ_BYTES, stream()?))?)
        }
        Packing::Parquet => Box::new(Lines::new(object, bytes_max)?),
    })
}

/// What an object comes to when it is unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Bytes, up to one more than was allowed.
    pub bytes: u64,
    /// Of an object of frames, runs that may be frames.
    pub frames: u64,
}

/// The most that an object of `packed_bytes` may expand to: [`EXPANDED_RATIO_MAX`] for each of its bytes, at least a
/// part, at most [`EXPANDED_BYTES_MAX`].
pub fn expanded_bytes_max(packed_bytes: u64, limits: &Limits) -> u64 {
    packed_bytes
        .saturating_mul(EXPANDED_RATIO_MAX)
        .clamp(limits.bytes_max as u64, EXPANDED_BYTES_MAX.max(limits.bytes_max as u64))
}

/// Unpacks the object and keeps nothing of it; stops when it is heavier than `bytes_max`. Damage ends it as it ends
/// reading: what was there counts. Blocking.
pub fn weigh<R>(key: &BronzeKey, object: R, bytes_max: u64) -> Weight
where
    R: ChunkReader<T: Send + 'static> + Clone + 'static,
{
    let mut weight = Weight::default();
    let stream = match unpacked(key.packing, object, bytes_max) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            return Weight { bytes: bytes_max.saturating_add(1), frames: 0 };
        }
        Err(_) => return weight,
    };
    let mut stream = stream.take(bytes_max.saturating_add(1));
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return weight,
            Ok(read) => {
                weight.bytes += read as u64;
                if key.format == Format::Frames {
                    weight.frames += buffer[..read].iter().filter(|byte| **byte == 0).count() as u64;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return weight,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::io::Write;

    use bytes::Bytes;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn expand(packing: Packing, bytes: Vec<u8>) -> (Vec<u8>, bool) {
        let mut expanded = Vec::new();
        let whole =
            unpacked(packing, Bytes::from(bytes), u64::MAX).unwrap().read_to_end(&mut expanded).is_ok();
        (expanded, whole)
    }

    #[test]
    fn streams_one_after_another_are_one() {
        assert_eq!(expand(Packing::Gz, [gz(b"one,"), gz(b"two")].concat()), (b"one,two".to_vec(), true));
        assert_eq!(expand(Packing::Zst, [zst(b"one,"), zst(b"two")].concat()), (b"one,two".to_vec(), true));
    }

    #[test]
    fn bytes_behind_a_stream_are_a_problem_and_cost_nothing_before_them() {
        for (packing, packed) in [(Packing::Gz, gz(b"whole")), (Packing::Zst, zst(b"whole"))] {
            assert_eq!(expand(packing, [packed, b"garbage".to_vec()].concat()), (b"whole".to_vec(), false));
        }
    }

    #[test]
    fn a_bomb_is_weighed_no_further_than_it_may_expand() {
        let limits = Limits { bytes_max: 1_000, ..Limits::default() };
        let zeros = vec![b'\n'; 1 << 20];
        for (ending, bomb) in [("gz", gz(&zeros)), ("zst", zst(&zeros))] {
            let key = BronzeKey::parse(&format!("bronze/orders/a.json.{ending}"), |_| true).unwrap();
            let bytes_max = expanded_bytes_max(bomb.len() as u64, &limits);
            assert!(bytes_max < 1 << 20, "{bytes_max}");
            assert_eq!(weigh(&key, Bytes::from(bomb), bytes_max).bytes, bytes_max + 1);
        }
        assert_eq!(expanded_bytes_max(0, &limits), 1_000);
        assert_eq!(expanded_bytes_max(u64::MAX, &limits), EXPANDED_BYTES_MAX);
        // Two gigabytes of JSON in a thirtieth of them may pass.
        assert!(expanded_bytes_max((2 << 30) / 30, &limits) > 2 << 30);
    }
}
