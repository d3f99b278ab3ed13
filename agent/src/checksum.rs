//! CRC-32C (Castagnoli), little-endian at the end of every frame.

use crc::{CRC_32_ISCSI, Crc, Digest, Table};

/// Bytes of the checksum.
pub(crate) const CHECKSUM_BYTES: usize = 4;

const CRC32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);
static TABLE: Crc<u32, Table<1>> = CRC32C;

/// A checksum in the making.
pub(crate) type Checksum = Digest<'static, u32, Table<1>>;

/// Starts a checksum.
pub(crate) fn start() -> Checksum {
    TABLE.digest()
}
