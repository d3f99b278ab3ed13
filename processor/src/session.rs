//! The DataFusion session in which checks, gold and queries run: one dialect everywhere.

use std::sync::{Arc, LazyLock};

use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake::delta_datafusion::DeltaSessionContext;

use crate::quantile::quantile;

/// What sorts, groups and joins hold in memory before they go to disk, where they are of whole tables.
const MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One for the process, so that the footer of a data file, which never changes, is read once and not by each
/// look-up of keys. Its cache is bounded (50 MB, DataFusion's default).
static RUNTIME: LazyLock<Arc<RuntimeEnv>> = LazyLock::new(Arc::default);

/// A session with Ingot's own functions. Names are taken as written; `count(*)` style SQL is plain.
pub fn context() -> SessionContext {
    within(Arc::clone(&RUNTIME))
}

/// The same, for questions over whole tables: what is larger than [`MEMORY_BYTES_MAX`] goes to disk.
pub fn bounded() -> Result<SessionContext, DataFusionError> {
    let context = within(spilling()?);
    join_on_disk(context.state_ref().write().config_mut().options_mut());
    Ok(context)
}

/// The same, for answers that Delta writes without holding them: its own session knows the plans it makes of them.
pub(crate) fn writing() -> Result<SessionContext, DataFusionError> {
    let context = DeltaSessionContext::with_runtime_env(spilling()?).into_inner();
    {
        let state = context.state_ref();
        let mut state = state.write();
        let options = state.config_mut().options_mut();
        speak(options);
        join_on_disk(options);
    }
    context.register_udaf(quantile());
    Ok(context)
}

fn within(runtime: Arc<RuntimeEnv>) -> SessionContext {
    let mut config = SessionConfig::new().with_information_schema(true).with_target_partitions(2);
    speak(config.options_mut());
    let context = SessionContext::new_with_config_rt(config, runtime);
    context.register_udaf(quantile());
    context
}

fn spilling() -> Result<Arc<RuntimeEnv>, DataFusionError> {
    let memory = Arc::new(FairSpillPool::new(MEMORY_BYTES_MAX));
    RuntimeEnvBuilder::new().with_memory_pool(memory).build_arc()
}

/// The dialect. Delta's readers know strings, not string views.
fn speak(options: &mut ConfigOptions) {
    options.sql_parser.enable_ident_normalization = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
}

/// A sort-merge join can go to disk, a hash join cannot.
fn join_on_disk(options: &mut ConfigOptions) {
    options.optimizer.prefer_hash_join = false;
}
