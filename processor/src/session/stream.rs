//! Tables that are streams: started as often as DataFusion wants, never held as a whole.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, cast, ident};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::{StreamExt, TryStreamExt};

use crate::column::text;

/// About so many bytes are in a piece that goes into another session; one row alone may be more.
pub(super) const PIECE_BYTES: usize = 2 * 1024 * 1024;

/// A table whose rows are made when they are asked for.
pub(crate) fn table(
    schema: SchemaRef,
    start: impl Fn() -> SendableRecordBatchStream + Send + Sync + 'static,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let partition = Partition { schema: Arc::clone(&schema), start: Box::new(start) };
    Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(partition)])?))
}

/// The rows of a session as a table for another one, at most so many at a time. They have memory of their own, and texts: a sort
/// knows how large those are, and not what it holds of a file's page with the views of it.
pub(crate) fn rows_of(rows: DataFrame, rows_max: usize) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let views = rows.schema().fields().iter().filter(|field| *field.data_type() == DataType::Utf8View);
    let views: Vec<String> = views.map(|field| field.name().clone()).collect();
    let columns = rows.schema().fields().iter().map(|field| match views.contains(field.name()) {
        true => cast(ident(field.name()), DataType::Utf8).alias(field.name()),
        false => ident(field.name()),
    });
    let columns: Vec<Expr> = columns.collect();
    let rows = if views.is_empty() { rows } else { rows.select(columns)? };
    let schema = Arc::clone(rows.schema().inner());
    table(Arc::clone(&schema), move || {
        let rows = rows.clone();
        let started = async move { rows.execute_stream().await };
        let cut = move |batch| {
            futures::stream::iter(
                cut(batch, rows_max).into_iter().map(|batch| batch.map_err(DataFusionError::from)),
            )
        };
        let rows = futures::stream::once(started).try_flatten().map_ok(cut).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows))
    })
}

/// Bytes of the rows, of whatever they are a slice.
pub(super) fn bytes(batch: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| match column.data_type() {
        // What a view shows lies elsewhere, and is no part of the slice.
        DataType::Utf8View => column.as_string_view().iter().flatten().map(str::len).sum(),
        _ => column.to_data().get_slice_memory_size().unwrap_or_default(),
    };
    batch.columns().iter().map(bytes).sum()
}

/// Pieces that a sort with little memory can take one by one. Each has memory of its own: a slice counts as all of what it
/// is a slice of.
fn cut(batch: RecordBatch, rows_max: usize) -> Vec<Result<RecordBatch, ArrowError>> {
    let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
    let row_bytes = bytes(&batch) / batch.num_rows().max(1);
    let step = (PIECE_BYTES / row_bytes.max(1)).clamp(1, rows_max);
    let piece = |first: u32| {
        let last = rows.min(first.saturating_add(u32::try_from(step).unwrap_or(u32::MAX)));
        take_record_batch(&batch, &UInt32Array::from_iter_values(first..last))
    };
    (0..rows).step_by(step).map(piece).collect()
}

/// A stream that DataFusion can start as often as it wants.
struct Partition {
    schema: SchemaRef,
    start: Box<dyn Fn() -> SendableRecordBatchStream + Send + Sync>,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        (self.start)()
    }
}

/// A table's columns, batch by batch in another form.
pub(crate) fn rewritten(
    session: &SessionContext,
    table: &Arc<dyn TableProvider>,
    columns: &'static [&'static str],
    rewrite: fn(&RecordBatch) -> Result<RecordBatch, DataFusionError>,
) -> SendableRecordBatchStream {
    let (session, table) = (session.clone(), Arc::clone(table));
    let schema = match rewrite(&RecordBatch::new_empty(Arc::new(Schema::new(
        columns.iter().map(|name| text(name)).collect::<Vec<_>>(),
    )))) {
        Ok(empty) => empty.schema(),
        Err(_) => Arc::new(Schema::empty()),
    };
    let rows = async move {
        let rows = session.read_table(table)?.select_columns(columns)?.execute_stream().await?;
        Ok::<_, DataFusionError>(rows.map(move |batch| rewrite(&batch?)))
    };
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::once(rows).try_flatten()))
}
