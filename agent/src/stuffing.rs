//! COBS byte stuffing (Cheshire and Baker, 1999): no `0x00` inside a frame, so that one may close it.
//!
//! A block is a code byte `n` and `n - 1` bytes that are not zero; unless `n` is 255 or the block is
//! the last, a zero follows that is not written. Costs one byte in 254, and one.

/// Longest block, its code byte included.
const BLOCK_BYTES_MAX: usize = 255;

/// The most bytes that `bytes` bytes become, the closing `0x00` included.
pub(crate) const fn stuffed_bytes_max(bytes: usize) -> usize {
    bytes + bytes / (BLOCK_BYTES_MAX - 1) + 2
}

/// The most bytes that surely fit into `bytes` bytes when stuffed and closed.
pub(crate) const fn plain_bytes_max(bytes: usize) -> usize {
    let mut plain = bytes.saturating_sub(2);
    while plain > 0 && stuffed_bytes_max(plain) > bytes {
        plain -= 1;
    }
    plain
}

/// Stuffs bytes on their way to `out`, a block at a time.
pub(crate) struct Stuffer<F: FnMut(&[u8])> {
    block: [u8; BLOCK_BYTES_MAX],
    len: usize,
    written: usize,
    out: F,
}

impl<F: FnMut(&[u8])> Stuffer<F> {
    pub(crate) fn new(out: F) -> Self {
        Self { block: [0; BLOCK_BYTES_MAX], len: 1, written: 0, out }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte != 0 {
                self.block[self.len] = *byte;
                self.len += 1;
            }
            if *byte == 0 || self.len == BLOCK_BYTES_MAX {
                self.flush();
            }
        }
    }

    /// Writes the last block and the closing `0x00`; gives the bytes written in all.
    pub(crate) fn close(mut self) -> usize {
        self.flush();
        (self.out)(&[0]);
        self.written + 1
    }

    fn flush(&mut self) {
        self.block[0] = self.len as u8; // at most 255
        (self.out)(&self.block[..self.len]);
        self.written += self.len;
        self.len = 1;
    }
}

/// Unstuffs in place and gives the length; `None` if the codes point past the end or a zero is met.
pub(crate) fn unstuff(bytes: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while let Some(&code) = bytes.get(from) {
        let end = from + usize::from(code);
        if code == 0 || end > bytes.len() || bytes[from + 1..end].contains(&0) {
            return None;
        }
        bytes.copy_within(from + 1..end, to);
        to += end - from - 1;
        from = end;
        if usize::from(code) < BLOCK_BYTES_MAX && from < bytes.len() {
            bytes[to] = 0;
            to += 1;
        }
    }
    Some(to)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn stuff(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut stuffer = Stuffer::new(|block: &[u8]| out.extend_from_slice(block));
        stuffer.write(bytes);
        let written = stuffer.close();
        assert_eq!(written, out.len());
        out
    }

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0), any::<u8>(), 1_u8..=255];
        prop::collection::vec(byte, 0..1200)
    }

    proptest! {
        #[test]
        fn another_cobs_reads_what_is_stuffed(bytes in any_bytes()) {
            let stuffed = stuff(&bytes);
            prop_assert!(stuffed.len() <= stuffed_bytes_max(bytes.len()));
            let (closing, stuffed) = stuffed.split_last().unwrap();
            prop_assert_eq!(*closing, 0);
            prop_assert!(!stuffed.contains(&0));
            let mut plain = stuffed.to_vec();
            let len = cobs::decode_in_place(&mut plain).unwrap();
            prop_assert_eq!(&plain[..len], &bytes);
            let mut stuffed = stuffed.to_vec();
            let len = unstuff(&mut stuffed).unwrap();
            prop_assert_eq!(&stuffed[..len], &bytes);
        }

        #[test]
        fn any_bytes_unstuff_or_are_refused(mut bytes in any_bytes()) {
            let len = bytes.len();
            prop_assert!(unstuff(&mut bytes).is_none_or(|plain| plain <= len));
        }
    }

    #[test]
    fn runs_without_zero_have_their_own_block() {
        let mut bytes = std::vec![7; 600];
        bytes[300] = 0;
        let mut stuffed = stuff(&bytes);
        stuffed.pop();
        let len = unstuff(&mut stuffed).unwrap();
        assert_eq!(&stuffed[..len], &bytes);
    }

    #[test]
    fn the_plain_room_is_the_largest_that_fits() {
        for bytes in [2, 10, 255, 256, 257, 510, 5120, 131_072] {
            let plain = plain_bytes_max(bytes);
            assert!(stuffed_bytes_max(plain) <= bytes && stuffed_bytes_max(plain + 1) > bytes, "{bytes}");
        }
    }
}
