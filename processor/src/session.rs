//! The DataFusion session in which checks, gold and queries run: one dialect everywhere.

pub(crate) mod stream;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::config::{ConfigOptions, SpillCompression};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::Expr;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::quantile::quantile;

/// How far sorts, groups and joins go in memory; the rest goes to disk.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// What they hold.
    bytes_max: usize,
    /// Of that, what each sort leaves free for merging: as much as keys of what it holds.
    merge_bytes: usize,
    /// Most rows at a time: what went to disk comes back with so many of each run at once.
    pub(crate) rows: usize,
    /// Sorts of one table at a time.
    partitions: usize,
}

impl Memory {
    /// For this table, whose rows may be wide, going by the first of those that the filter selects: of wide rows there are
    /// fewer at a time, as a sort holds a batch of each of its runs.
    pub(crate) async fn fitted(
        self,
        table: &Arc<dyn TableProvider>,
        filter: Option<Expr>,
    ) -> Result<Self, DataFusionError> {
        let sampling = Self { rows: SAMPLE_ROWS, ..self };
        let rows = bounded(&sampling)?.read_table(Arc::clone(table))?;
        let rows = filter.map_or(Ok(rows.clone()), |filter| rows.filter(filter))?;
        let sample = rows.limit(0, Some(SAMPLE_ROWS))?.collect().await?;
        let count = sample.iter().map(RecordBatch::num_rows).sum::<usize>().max(1);
        let row_bytes = sample.iter().map(stream::bytes).sum::<usize>() / count;
        Ok(self.at_most(stream::PIECE_BYTES / row_bytes.max(1)))
    }

    /// The same with no more rows at a time than these.
    pub(crate) fn at_most(self, rows: usize) -> Self {
        Self { rows: rows.clamp(1, self.rows), ..self }
    }
}

/// For questions over whole tables, sorted by few columns; DataFusion's usual rows and room for merging.
pub(crate) const BY_FEW_COLUMNS: Memory =
    Memory { bytes_max: 256 * 1024 * 1024, merge_bytes: 10 * 1024 * 1024, rows: 8_192, partitions: 2 };
/// For one sort of a partition's rows by few columns.
pub(crate) const BY_FEW_COLUMNS_AT_ONCE: Memory = Memory { partitions: 1, ..BY_FEW_COLUMNS };
/// For one sort of whole rows by all of their columns: keys are as large as what they are keys of, and more than half is for merging.
pub(crate) const BY_ALL_COLUMNS: Memory =
    Memory { bytes_max: 128 * 1024 * 1024, merge_bytes: 72 * 1024 * 1024, rows: 512, partitions: 1 };

/// For one sort of whole rows by their day.
pub(crate) const BY_DAY: Memory =
    Memory { bytes_max: 64 * 1024 * 1024, merge_bytes: 10 * 1024 * 1024, rows: 512, partitions: 1 };

/// Rows that are looked at to know how wide a table's rows are.
const SAMPLE_ROWS: usize = 64;

/// One for the process, so that the footer of a data file, which never changes, is read once and not by each
/// look-up of keys. Its cache is bounded (50 MB, DataFusion's default).
static RUNTIME: LazyLock<Arc<RuntimeEnv>> = LazyLock::new(Arc::default);

/// A session with Ingot's own functions. Names are taken as written; `count(*)` style SQL is plain.
pub fn context() -> SessionContext {
    within(Arc::clone(&RUNTIME))
}

/// The same, for questions over whole tables: what is large goes to disk.
pub(crate) fn bounded(memory: &Memory) -> Result<SessionContext, DataFusionError> {
    let context = within(spilling(memory)?);
    bound(memory, context.state_ref().write().config_mut().options_mut())?;
    Ok(context)
}

fn within(runtime: Arc<RuntimeEnv>) -> SessionContext {
    let mut config = SessionConfig::new().with_information_schema(true).with_target_partitions(2);
    speak(config.options_mut());
    let context = SessionContext::new_with_config_rt(config, runtime);
    context.register_udaf(quantile());
    context
}

fn spilling(memory: &Memory) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    let pool = Arc::new(FairSpillPool::new(memory.bytes_max));
    RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()
}

/// The dialect. Delta's readers know strings, not string views.
fn speak(options: &mut ConfigOptions) {
    options.sql_parser.enable_ident_normalization = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
}

fn bound(memory: &Memory, options: &mut ConfigOptions) -> Result<(), DataFusionError> {
    // A sort-merge join can go to disk, a hash join cannot.
    options.optimizer.prefer_hash_join = false;
    // A function has 2 GB of disk.
    options.execution.spill_compression = SpillCompression::Zstd;
    options.execution.sort_spill_reservation_bytes = memory.merge_bytes;
    options.set("datafusion.execution.target_partitions", &memory.partitions.to_string())?;
    options.set("datafusion.execution.batch_size", &memory.rows.to_string())
}
