//! Decompression with a limit: what a damaged or endless stream gave before it stopped is kept.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;

/// Why decompression stopped before the stream's end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The stream is cut short, damaged, or followed by something else.
    #[error("the gzip stream stops being one after {expanded_bytes} bytes of output: {reason}")]
    Damaged {
        /// Output before that.
        expanded_bytes: usize,
        /// What the decompressor said.
        reason: String,
    },
    /// More output than an object may have.
    #[error("the object expands to more than {limit_bytes} bytes; the rest was not read")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
}

/// Decompresses one or more gzip members, up to `limit_bytes` of output.
pub(super) fn expand(bytes: &[u8], limit_bytes: usize) -> (Vec<u8>, Option<Problem>) {
    let mut expanded = Vec::new();
    let limit = u64::try_from(limit_bytes).unwrap_or(u64::MAX);
    let read = MultiGzDecoder::new(bytes).take(limit.saturating_add(1)).read_to_end(&mut expanded);
    let problem = match read {
        Err(error) => Some(Problem::Damaged { expanded_bytes: expanded.len(), reason: error.to_string() }),
        Ok(_) if expanded.len() > limit_bytes => {
            expanded.truncate(limit_bytes);
            Some(Problem::TooLarge { limit_bytes })
        }
        Ok(_) => None,
    };
    (expanded, problem)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_one_after_another_are_one_stream() {
        let two = [gz(b"one,"), gz(b"two")].concat();
        assert_eq!(expand(&two, 100), (b"one,two".to_vec(), None));
    }

    #[test]
    fn a_stream_that_expands_past_the_limit_stops_there() {
        let bomb = gz(&vec![0; 1 << 20]);
        let (bytes, problem) = expand(&bomb, 1000);
        assert_eq!((bytes.len(), problem), (1000, Some(Problem::TooLarge { limit_bytes: 1000 })));
    }

    #[test]
    fn trailing_bytes_are_a_problem_and_cost_nothing_before_them() {
        let (bytes, problem) = expand(&[gz(b"whole").as_slice(), b"garbage"].concat(), 100);
        assert_eq!(bytes, b"whole");
        assert!(matches!(problem, Some(Problem::Damaged { expanded_bytes: 5, .. })));
    }
}
