//! Bytes in, frames out: cuts a byte stream at each closing `0x00`.
//!
//! Runs that are too long to be a frame are skipped and counted; empty runs are ignored. What it cuts
//! is not checked: that is [`crate::Frame::open`].

/// One stuffed frame and where it stood in the stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut<'a> {
    /// The stuffed bytes, without the closing `0x00`.
    pub stuffed: &'a mut [u8],
    /// Offset of the first stuffed byte in the stream.
    pub start: u64,
    /// Offset after the closing `0x00`: the frame is `start..end`.
    pub end: u64,
}

/// Cuts a byte stream into stuffed frames of at most `BYTES` bytes, the closing `0x00` included.
#[derive(Clone, Debug)]
pub struct FrameReader<const BYTES: usize> {
    bytes: [u8; BYTES],
    len: usize,
    offset: u64,
    skipping: bool,
    skipped_runs: u64,
    skipped_bytes: u64,
}

impl<const BYTES: usize> Default for FrameReader<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> FrameReader<BYTES> {
    /// A reader at offset 0 of a stream.
    pub const fn new() -> Self {
        Self { bytes: [0; BYTES], len: 0, offset: 0, skipping: false, skipped_runs: 0, skipped_bytes: 0 }
    }

    /// Takes bytes off `input` up to the end of the next frame and gives it, or takes them all and
    /// gives `None`. Call it until then:
    /// `while let Some(cut) = reader.read(&mut input) { .. }`
    pub fn read(&mut self, input: &mut &[u8]) -> Option<Cut<'_>> {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            self.offset += 1;
            if *byte != 0 {
                self.take(*byte);
                continue;
            }
            let len = core::mem::take(&mut self.len);
            if core::mem::take(&mut self.skipping) || len == 0 {
                continue;
            }
            let (start, end) = (self.offset - 1 - len as u64, self.offset);
            return Some(Cut { stuffed: &mut self.bytes[..len], start, end });
        }
        None
    }

    fn take(&mut self, byte: u8) {
        if self.skipping {
            self.skipped_bytes += 1;
        } else if self.len + 1 < BYTES {
            self.bytes[self.len] = byte;
            self.len += 1;
        } else {
            self.skipping = true;
            self.skipped_runs += 1;
            self.skipped_bytes += self.len as u64 + 1;
        }
    }

    /// Bytes of a frame that has begun and is not closed yet.
    pub fn pending_bytes(&self) -> usize {
        self.len
    }

    /// Runs skipped because they were too long to be a frame.
    pub fn skipped_runs(&self) -> u64 {
        self.skipped_runs
    }

    /// Bytes skipped with them, without their closing `0x00`.
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn read_all<const BYTES: usize>(
        reader: &mut FrameReader<BYTES>,
        mut input: &[u8],
    ) -> Vec<(Vec<u8>, u64, u64)> {
        let mut found = Vec::new();
        while let Some(cut) = reader.read(&mut input) {
            found.push((cut.stuffed.to_vec(), cut.start, cut.end));
        }
        found
    }

    #[test]
    fn cuts_at_zeros_however_the_bytes_arrive() {
        let stream = [1, 2, 0, 0, 3, 0, 4];
        let expected = [(std::vec![1, 2], 0, 3), (std::vec![3], 4, 6)];
        let mut whole = FrameReader::<8>::new();
        assert_eq!(read_all(&mut whole, &stream), expected);
        assert_eq!(whole.pending_bytes(), 1);
        let mut single = FrameReader::<8>::new();
        let found: Vec<_> = stream.iter().flat_map(|byte| read_all(&mut single, &[*byte])).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_longest_frame_fits_and_a_longer_run_is_skipped_and_counted() {
        let mut reader = FrameReader::<4>::new();
        let found = read_all(&mut reader, &[1, 2, 3, 0, 1, 2, 3, 4, 5, 0, 6, 0]);
        assert_eq!(found, [(std::vec![1, 2, 3], 0, 4), (std::vec![6], 10, 12)]);
        assert_eq!((reader.skipped_runs(), reader.skipped_bytes()), (1, 5));
    }
}
