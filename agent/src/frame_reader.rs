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
        Self {
            bytes: [0; BYTES],
            len: 0,
            offset: 0,
            skipping: false,
            skipped_runs: 0,
            skipped_bytes: 0,
        }
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
            return Some(Cut {
                stuffed: &mut self.bytes[..len],
                start,
                end,
            });
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
