//! A frame's header: whose batch it is, how many readings, and what was given up before it.
//!
//! Integers are LEB128 varints; `sealed_ms` is zigzag, `uptime_ms` stands beside it. Causes of drops that this program does not
//! know are skipped, so that a newer agent can report more.

use crate::Drop;
use crate::codec::name::{NAME_BYTES_MAX, Name, is_letter};

/// Longest varint of a `u64`.
const VARINT_BYTES_MAX: usize = 10;

/// Longest header: name, five integers, the count of drops, and the drops.
pub(crate) const HEADER_BYTES_MAX: usize =
    1 + NAME_BYTES_MAX + 6 * VARINT_BYTES_MAX + Drop::ALL.len() * (1 + VARINT_BYTES_MAX);

/// The header's fields; the gateway's name lives outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) boot: u64,
    pub(crate) seq: u64,
    pub(crate) sealed_ms: i64,
    pub(crate) uptime_ms: u64,
    pub(crate) readings: u32,
    /// By [`Drop`] code.
    pub(crate) drops: [u64; Drop::ALL.len()],
}

/// A header's bytes.
pub(crate) struct HeaderBytes {
    bytes: [u8; HEADER_BYTES_MAX],
    len: usize,
}

impl HeaderBytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn put(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value as u8 | 0x80);
            value >>= 7;
        }
        self.put(value as u8);
    }
}

impl Header {
    pub(crate) fn write(&self, gateway: &Name) -> HeaderBytes {
        let mut out = HeaderBytes { bytes: [0; HEADER_BYTES_MAX], len: 0 };
        out.put(gateway.as_bytes().len() as u8); // at most 64
        for byte in gateway.as_bytes() {
            out.put(*byte);
        }
        out.varint(self.boot);
        out.varint(self.seq);
        out.varint(((self.sealed_ms << 1) ^ (self.sealed_ms >> 63)) as u64);
        out.varint(self.uptime_ms);
        out.varint(u64::from(self.readings));
        out.varint(self.drops.iter().filter(|count| **count > 0).count() as u64);
        for (code, count) in (0..).zip(self.drops).filter(|(_, count)| *count > 0) {
            out.varint(code);
            out.varint(count);
        }
        out
    }

    /// The gateway, the header, and the bytes after it; `None` if a field is cut or out of its range.
    pub(crate) fn read(bytes: &[u8]) -> Option<(&str, Self, &[u8])> {
        let (len, rest) = bytes.split_first()?;
        let (gateway, mut rest) = rest.split_at_checked(usize::from(*len))?;
        if gateway.is_empty() || gateway.len() > NAME_BYTES_MAX || !gateway.iter().all(|b| is_letter(*b)) {
            return None;
        }
        let gateway = core::str::from_utf8(gateway).ok()?;
        let mut header = Self { boot: varint(&mut rest)?, seq: varint(&mut rest)?, ..Self::default() };
        let sealed = varint(&mut rest)?;
        header.sealed_ms = (sealed >> 1) as i64 ^ -((sealed & 1) as i64);
        header.uptime_ms = varint(&mut rest)?;
        header.readings = u32::try_from(varint(&mut rest)?).ok()?;
        for _ in 0..varint(&mut rest)? {
            let code = varint(&mut rest)?;
            let count = varint(&mut rest)?;
            if let Some(sum) = usize::try_from(code).ok().and_then(|code| header.drops.get_mut(code)) {
                *sum = sum.saturating_add(count);
            }
        }
        Some((gateway, header, rest))
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7F);
        if part << shift >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
