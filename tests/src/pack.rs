//! How others pack what they put into bronze.

use std::io::Write;
use std::sync::Arc;

use deltalake::arrow::json::ReaderBuilder;
use deltalake::arrow::json::reader::infer_json_schema;
use deltalake::parquet::arrow::ArrowWriter;
use flate2::Compression;
use flate2::write::GzEncoder;

/// gzip, one member.
pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Zstandard, one frame.
pub fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Lines of JSON as a Parquet file, with the columns that they have; a column of mixed values is text.
pub fn parquet(lines: &str) -> Vec<u8> {
    let (schema, _) = infer_json_schema(lines.as_bytes(), None).unwrap();
    let reader = ReaderBuilder::new(Arc::new(schema.clone())).with_coerce_primitive(true);
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::new(schema), None).unwrap();
    for batch in reader.build(lines.as_bytes()).unwrap() {
        writer.write(&batch.unwrap()).unwrap();
    }
    writer.into_inner().unwrap()
}
