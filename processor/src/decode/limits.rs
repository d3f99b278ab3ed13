//! How much of an object is worked on at a time.

/// Most bytes of a part, unpacked: 16 MiB. While it is promoted its rows are in memory several times over.
pub const PART_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most rows of a part; of frames, up to the end of the frame that they end in.
pub const PART_ROWS_MAX: usize = 250_000;

/// How much of an object is worked on at a time. An object that was cut by other limits before it was done is not taken
/// for done: its rows are known in silver, its discards come twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes, unpacked. Not less than twice [`super::LINE_BYTES_MAX`], or rows that may be read are passed over.
    pub bytes_max: usize,
    /// Most rows.
    pub rows_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: PART_BYTES_MAX, rows_max: PART_ROWS_MAX }
    }
}
