//! Parquet, of which each row is the line of JSON that says the same; so it takes the road of any line.
//!
//! Columns are found by name, nested values are JSON, NULL is a field that is not there, a number that JSON does not
//! know (NaN) is a text. A timestamp without a zone stays without one, and fits no timestamp column.
//!
//! The embedded Arrow schema is not looked at, and a reader that panics over a damaged file is one that fails: what it
//! gave before stays, the rest of the file is one row with a fault.

use std::any::Any;
use std::io::{Error, ErrorKind, Read, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};
use deltalake::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use deltalake::parquet::file::reader::ChunkReader;
use serde_json::Value;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 512;
/// Text that is made at a time, and the rest of a row.
const TEXT_BYTES: usize = 256 * 1024;

/// The lines of a Parquet file.
pub(super) struct Lines {
    batches: ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    /// Rows of the batch that are lines already.
    rows: usize,
    text: Vec<u8>,
    /// Bytes of the text that were read.
    read: usize,
    /// What comes behind the text.
    failure: Option<Error>,
}

impl Lines {
    /// Reads the footer. A page is unpacked whole: a file whose pages are declared to unpack to more than `bytes_max` is
    /// an error of the kind `FileTooLarge`.
    pub(super) fn new<R: ChunkReader + 'static>(file: R, bytes_max: u64) -> Result<Self> {
        let plain = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let plain = guarded(|| ArrowReaderMetadata::load(&file, plain))?;
        let bytes = declared_bytes(&plain);
        if bytes > bytes_max {
            let reason = format!("its pages unpack to {bytes} bytes, more than {bytes_max}");
            return Err(Error::new(ErrorKind::FileTooLarge, reason));
        }
        let batches = guarded(|| {
            let options = ArrowReaderOptions::new().with_schema(viewed(plain.schema()));
            let metadata = ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options)?;
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
                .with_batch_size(BATCH_ROWS)
                .build()
        })?;
        Ok(Self { batches, batch: None, rows: 0, text: Vec::new(), read: 0, failure: None })
    }

    /// Makes more text; none if there are no more rows.
    fn next(&mut self) -> Result<()> {
        self.read = 0;
        self.text.clear();
        while self.text.is_empty() {
            let batch = match self.batch.take() {
                Some(batch) if self.rows < batch.num_rows() => batch,
                _ => {
                    self.rows = 0;
                    match guarded(|| self.batches.next().transpose())? {
                        Some(batch) => batch,
                        None => return Ok(()),
                    }
                }
            };
            guarded(|| lines(&batch, &mut self.rows, &mut self.text))?;
            self.batch = Some(batch);
        }
        Ok(())
    }
}

/// Bytes of the file's pages, unpacked, as its footer declares them.
fn declared_bytes(footer: &ArrowReaderMetadata) -> u64 {
    let columns = footer.metadata().row_groups().iter().flat_map(|group| group.columns());
    let bytes = columns.map(|column| u64::try_from(column.uncompressed_size()).unwrap_or(u64::MAX));
    bytes.fold(0, u64::saturating_add)
}

impl Read for Lines {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.read == self.text.len() {
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if let Err(failure) = self.next() {
                // Lines that were whole before the damage stay.
                self.text
                    .truncate(self.text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
                self.failure = Some(failure);
                if self.text.is_empty() {
                    return self.failure.take().map_or(Ok(0), Err);
                }
            }
        }
        let read = out.len().min(self.text.len() - self.read);
        out[..read].copy_from_slice(&self.text[self.read..self.read + read]);
        self.read += read;
        Ok(read)
    }
}

/// What a reader of damaged bytes does, whichever way it fails.
fn guarded<T, E: std::fmt::Display>(read: impl FnOnce() -> std::result::Result<T, E>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Error::other(error.to_string())),
        Err(panic) => Err(Error::other(format!("its reader gave up: {}", said(panic.as_ref())))),
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "without a word",
    }
}

/// Texts as views: a dictionary's value is in memory once, however many rows have it.
fn viewed(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let view = match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            DataType::Binary => DataType::BinaryView,
            _ => return Arc::clone(field),
        };
        Arc::new(field.as_ref().clone().with_data_type(view))
    });
    Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>()))
}

/// A column's values as JSON.
enum Values<'a> {
    Numbers(ArrayRef),
    Others(NullableEncoder<'a>),
}

impl Values<'_> {
    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Numbers(numbers) => numbers.is_null(row),
            Self::Others(encoder) => encoder.is_null(row),
        }
    }

    fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Numbers(numbers) => {
                let number = numbers.as_primitive::<Float64Type>().value(row);
                let json = match Value::from(number) {
                    Value::Null => Value::from(number.to_string()),
                    json => json,
                };
                out.extend_from_slice(json.to_string().as_bytes());
            }
            Self::Others(encoder) => encoder.encode(row, out),
        }
    }
}

/// Writes the batch's rows from `next` on, until the text is long enough.
fn lines(batch: &RecordBatch, next: &mut usize, text: &mut Vec<u8>) -> std::result::Result<(), ArrowError> {
    let options = EncoderOptions::default();
    let schema = batch.schema_ref();
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let name = Value::from(field.name().as_str()).to_string() + ":";
        let values = match field.data_type() {
            // Widened as they are: the nearest double of a shorter number's digits is another number.
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Values::Numbers(cast(column, &DataType::Float64)?)
            }
            _ => Values::Others(make_encoder(field, column.as_ref(), &options)?),
        };
        columns.push((name, values));
    }
    while *next < batch.num_rows() && text.len() < TEXT_BYTES {
        text.push(b'{');
        let mut first = true;
        for (name, values) in &mut columns {
            if values.is_null(*next) {
                continue;
            }
            if !std::mem::take(&mut first) {
                text.push(b',');
            }
            text.extend_from_slice(name.as_bytes());
            values.write(*next, text);
        }
        text.extend_from_slice(b"}\n");
        *next += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;
    use datafusion::arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array, ListArray,
        StringArray, TimestampMicrosecondArray, UInt64Array,
    };
    use datafusion::arrow::datatypes::Int32Type;
    use deltalake::parquet::arrow::ArrowWriter;
    use deltalake::parquet::basic::{Compression, ZstdLevel};
    use deltalake::parquet::file::properties::WriterProperties;

    use super::*;
    use crate::bronze::BronzeKey;
    use crate::contract::Contract;
    use crate::decode::{Limits, Parts, weigh};

    fn file(batch: &RecordBatch) -> Vec<u8> {
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn a_bomb_is_known_by_what_it_declares_before_a_page_is_unpacked() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["0".repeat(1 << 20)]));
        let rows = RecordBatch::try_from_iter([("order_id", texts)]).unwrap();
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties.build())).unwrap();
        writer.write(&rows).unwrap();
        let file = Bytes::from(writer.into_inner().unwrap());
        assert!(file.len() < 3_000, "{}", file.len());
        assert_eq!(Lines::new(file.clone(), 1 << 20).err().unwrap().kind(), ErrorKind::FileTooLarge);

        let key = BronzeKey::parse("bronze/orders/a.parquet", |_| true).unwrap();
        let limits = |bytes_max| Limits { bytes_max, ..Limits::default() };
        let mut bomb = Parts::open(&key, file.clone(), limits(1_000));
        assert!(bomb.is_too_heavy());
        let mut said = Vec::new();
        while bomb.fill() {
            let contract = Contract::embedded().remove(1);
            let taken = bomb
                .part()
                .rows(&contract, |_, row| said.push(row.err().map(|fault| fault.rule().to_owned())));
            bomb.pass(&taken);
        }
        assert_eq!(said, [Some("parquet".to_owned())]);
        assert!(!Parts::open(&key, file.clone(), limits(2 << 20)).is_too_heavy());
        assert_eq!(weigh(&key, file, 1_000).bytes, 1_001);
    }

    fn text(file: Vec<u8>) -> Result<String> {
        let mut text = String::new();
        Lines::new(Bytes::from(file), u64::MAX)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn a_row_is_the_line_that_says_the_same() {
        let at = TimestampMicrosecondArray::from(vec![1_767_225_600_500_000, 0]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("text", Arc::new(StringArray::from(vec![Some("a \"b\"\n"), None]))),
            ("whole", Arc::new(Int64Array::from(vec![i64::MIN, 7]))),
            ("large", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
            ("number", Arc::new(Float64Array::from(vec![0.1, f64::NAN]))),
            ("short", Arc::new(Float32Array::from(vec![0.1, f32::INFINITY]))),
            ("is", Arc::new(BooleanArray::from(vec![true, false]))),
            (
                "money",
                Arc::new(Decimal128Array::from(vec![1230, -5]).with_precision_and_scale(18, 2).unwrap()),
            ),
            ("at", Arc::new(at.clone().with_timezone("UTC"))),
            ("local", Arc::new(at)),
            ("day", Arc::new(Date32Array::from(vec![20_454, 0]))),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
                    Some(vec![Some(1), None]),
                    None,
                ])),
            ),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        );
        assert_eq!(
            text(file(&batch.unwrap())).unwrap().lines().collect::<Vec<_>>(),
            [
                "{\"text\":\"a \\\"b\\\"\\n\",\"whole\":-9223372036854775808,\"large\":18446744073709551615,\"number\":0.1,\"short\":0.10000000149011612,\"is\":true,\"money\":12.30,\"at\":\"2026-01-01T00:00:00.500Z\",\"local\":\"2026-01-01T00:00:00.500\",\"day\":\"2026-01-01\",\"list\":[1,null]}",
                "{\"whole\":7,\"large\":0,\"number\":\"NaN\",\"short\":\"inf\",\"is\":false,\"money\":-0.05,\"at\":\"1970-01-01T00:00:00Z\",\"local\":\"1970-01-01T00:00:00\",\"day\":\"1970-01-01\"}",
            ]
        );
    }

    #[test]
    fn no_damage_is_more_than_an_error() {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..2_000).map(|id| format!("o-{id}"))));
        let whole = file(&RecordBatch::try_from_iter([("order_id", ids)]).unwrap());
        let lines = text(whole.clone()).unwrap();
        assert_eq!(lines.lines().count(), 2_000);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut failed = 0;
        for _ in 0..300 {
            let mut bytes = whole.clone();
            let at = rng.usize(..bytes.len());
            bytes[at] ^= 1 << rng.u8(..8);
            if rng.u8(..4) == 0 {
                bytes.truncate(rng.usize(..bytes.len()));
            }
            failed += usize::from(text(bytes).is_err());
        }
        assert!(failed > 50, "{failed} of 300 damaged files were refused");
    }
}
