//! How a row looks that was erased from bronze: its place stays, and holds nothing.
//!
//! [`forget`](crate::forget) writes them, and whoever reads an object knows them by [`is_erased`]. Text is overwritten
//! with [`ERASED`], as many bytes as there were; a frame has a reading of [`ERASED_DEVICE`].

use crate::bronze::Format;
use crate::decode::Field;

/// What stands where text was: DEL, with which a hole in paper tape was overpunched. No row that can be read has it first.
pub(crate) const ERASED: u8 = 0x7f;
/// The device of the readings that stand where others were; it is nobody's.
pub(crate) const ERASED_DEVICE: &str = "ingot.forgotten";

/// Whether a row was erased: its bytes say so, or the device in a frame.
pub(crate) fn is_erased(format: Format, bytes: &[u8], device: Option<&Field<'_>>) -> bool {
    match format {
        Format::Frames => device == Some(&Field::Text(ERASED_DEVICE)),
        Format::Ndjson => bytes.first() == Some(&ERASED) && bytes.iter().all(|byte| *byte == ERASED),
        // As many fields as before: it may be the header's place.
        Format::Csv => {
            let rest = &bytes[bytes.iter().take_while(|byte| **byte == b',').count()..];
            !rest.is_empty() && rest.iter().all(|byte| *byte == ERASED)
        }
    }
}
