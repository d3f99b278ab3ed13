//! The DataFusion session in which checks, gold and queries run: one dialect everywhere.

use std::sync::{Arc, LazyLock};

use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::quantile::quantile;

/// Memory for a dataset check's sorts and joins; beyond it they go to disk, or the check fails.
const CHECK_MEMORY_BYTES: usize = 256 * 1024 * 1024;

/// One for the process, so that the footer of a data file, which never changes, is read once and not by each
/// look-up of keys. Its cache is bounded (50 MB, DataFusion's default).
static RUNTIME: LazyLock<Arc<RuntimeEnv>> = LazyLock::new(Arc::default);

/// A session with Ingot's own functions. Names are taken as written; `count(*)` style SQL is plain.
pub fn context() -> SessionContext {
    within(Arc::clone(&RUNTIME))
}

/// The same within [`CHECK_MEMORY_BYTES`].
pub fn bounded() -> Result<SessionContext, DataFusionError> {
    Ok(within(RuntimeEnvBuilder::new().with_memory_limit(CHECK_MEMORY_BYTES, 1.0).build_arc()?))
}

fn within(runtime: Arc<RuntimeEnv>) -> SessionContext {
    let mut config = SessionConfig::new().with_information_schema(true).with_target_partitions(2);
    // Delta's readers know strings, not string views.
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let context = SessionContext::new_with_config_rt(config, runtime);
    context.register_udaf(quantile());
    context
}
