//! Rows become data files, one partition after the other.
//!
//! Rows come sorted by partition; a partition's file is closed when the next one's begins, and a few closed files are on
//! their way to the store at once. So a table of any number of days takes the memory of a few of them: delta-rs's own
//! write keeps the files of all open until the last row has come, at half a megabyte and more each.

use std::iter;
use std::num::NonZeroU64;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, UInt32Array};
use datafusion::arrow::compute::{
    CastOptions, can_cast_types, cast_with_options, partition, take_record_batch,
};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::execution::SendableRecordBatchStream;
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::Add;
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::table::config::TablePropertiesExt;
use deltalake::{DeltaResult, DeltaTable, DeltaTableError};
use futures::TryStreamExt;
use tokio::task::JoinSet;

/// A data file is closed at this size; delta-rs's own figure.
const FILE_BYTES_MAX: NonZeroU64 = NonZeroU64::new(100 * 1024 * 1024).expect("it is not zero");
/// So much of a file is held until it is written down, encoded.
const ROW_GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Closed files on their way to the store.
const CLOSING_MAX: usize = 4;

/// A table's writer of data files.
pub(super) struct Partitioned {
    table: DeltaTable,
    schema: SchemaRef,
    config: WriterConfig,
    columns: Vec<String>,
    open: Option<(Vec<Option<String>>, DeltaWriter)>,
    closing: JoinSet<DeltaResult<Vec<Add>>>,
    written: Vec<Add>,
}

impl Partitioned {
    /// For the snapshot of the table.
    pub(super) fn new(table: &DeltaTable) -> DeltaResult<Self> {
        let state = table.snapshot()?;
        let schema = state.snapshot().arrow_schema();
        let columns = state.metadata().partition_columns().to_vec();
        let config = WriterConfig::new(
            Arc::clone(&schema),
            columns.clone(),
            Some(properties()?),
            Some(FILE_BYTES_MAX),
            None,
            state.table_config().num_indexed_cols(),
            None,
        );
        let (open, closing, written) = (None, JoinSet::new(), Vec::new());
        Ok(Self { table: table.clone(), schema, config, columns, open, closing, written })
    }

    /// Writes the rows, which are sorted by partition; the files, which no version has yet. After an error those that are
    /// there belong to none, and vacuum removes them.
    pub(super) async fn write(mut self, mut rows: SendableRecordBatchStream) -> DeltaResult<Vec<Add>> {
        let done = async {
            while let Some(batch) = rows.try_next().await? {
                self.take(&batch).await?;
            }
            self.close().await?;
            while self.has_closed_one().await? {}
            DeltaResult::Ok(())
        };
        match done.await {
            Ok(()) => Ok(self.written),
            Err(error) => {
                if let Some((_, writer)) = self.open.take() {
                    // What failed first is the error to tell.
                    let _ = writer.abort().await;
                }
                // Ended, not dropped: parts of an upload that is cut off are seen by no vacuum.
                while self.closing.join_next().await.is_some() {}
                Err(error)
            }
        }
    }

    async fn take(&mut self, batch: &RecordBatch) -> DeltaResult<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = fitted(batch, &self.schema)?;
        let columns = columns_of(&batch, &self.columns);
        let ranges = match columns.is_empty() {
            true => iter::once(0..batch.num_rows()).collect(),
            false => partition(&columns)?.ranges(),
        };
        for range in ranges {
            let value = |column: &ArrayRef| match column.is_null(range.start) {
                true => Ok(None),
                false => array_value_to_string(column, range.start).map(Some),
            };
            let values: Vec<_> = columns.iter().map(value).collect::<Result<_, ArrowError>>()?;
            if self.open.as_ref().is_none_or(|(open, _)| *open != values) {
                self.close().await?;
                let store = self.table.log_store().object_store(None);
                self.open = Some((values, DeltaWriter::new(store, self.config.clone())));
            }
            if let Some((_, writer)) = &mut self.open {
                writer.write(&batch.slice(range.start, range.len())).await?;
            }
        }
        Ok(())
    }

    /// Closes the open file, and waits where too many are on their way.
    async fn close(&mut self) -> DeltaResult<()> {
        if let Some((_, writer)) = self.open.take() {
            self.closing.spawn(writer.close());
        }
        if self.closing.len() >= CLOSING_MAX {
            self.has_closed_one().await?;
        }
        Ok(())
    }

    async fn has_closed_one(&mut self) -> DeltaResult<bool> {
        let Some(closed) = self.closing.join_next().await else { return Ok(false) };
        self.written.extend(closed.map_err(|error| DeltaTableError::generic(error.to_string()))??);
        Ok(true)
    }
}

/// How all data files are encoded.
pub(super) fn properties() -> DeltaResult<WriterProperties> {
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
        .build())
}

/// The rows in the table's types and order of columns; rows of other columns, or of values that these types cannot keep,
/// are refused.
fn fitted(rows: &RecordBatch, schema: &SchemaRef) -> DeltaResult<RecordBatch> {
    let refused = |msg| Err(DeltaTableError::SchemaMismatch { msg });
    if let Some(field) = rows.schema().fields().iter().find(|field| schema.index_of(field.name()).is_err()) {
        return refused(format!("the rows have a column {}, the table has not", field.name()));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let (name, to) = (field.name(), field.data_type());
        let Some(column) = rows.column_by_name(name) else {
            return refused(format!("the table has a column {name}, the rows have not"));
        };
        if !keeps(column.data_type(), to) {
            return refused(format!("the column {name} is {to} in the table and {} now", column.data_type()));
        }
        columns.push(cast_with_options(column, to, &strict)?);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Whether a value of one type is the same in another, or an error.
fn keeps(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Decimal128(digits, scale), DataType::Decimal128(digits_max, scale_max)) => {
            digits <= digits_max && scale <= scale_max
        }
        (from, to) => can_cast_types(from, to) && !(from.is_floating() && to.is_integer()),
    }
}

fn columns_of(rows: &RecordBatch, names: &[String]) -> Vec<ArrayRef> {
    names.iter().filter_map(|name| rows.column_by_name(name)).map(Arc::clone).collect()
}

/// The rows sorted by these columns, and as they were where these are the same.
pub(super) fn sorted_by(rows: &RecordBatch, columns: &[String]) -> Result<RecordBatch, ArrowError> {
    let columns = columns_of(rows, columns);
    if columns.is_empty() || partition(&columns)?.len() <= 1 {
        return Ok(rows.clone());
    }
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let keys = RowConverter::new(fields)?.convert_columns(&columns)?;
    let count = u32::try_from(rows.num_rows())
        .map_err(|_| ArrowError::InvalidArgumentError(format!("{} rows at once", rows.num_rows())))?;
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
    take_record_batch(rows, &UInt32Array::from(order))
}
