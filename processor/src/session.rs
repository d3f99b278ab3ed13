//! The DataFusion session in which checks, gold and queries run: one dialect everywhere.

use std::sync::{Arc, LazyLock};

use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::quantile::quantile;

/// One for the process, so that the footer of a data file, which never changes, is read once and not by each
/// look-up of keys. Its cache is bounded (50 MB, DataFusion's default).
static RUNTIME: LazyLock<Arc<RuntimeEnv>> = LazyLock::new(Arc::default);

/// A session with Ingot's own functions. Names are taken as written; `count(*)` style SQL is plain.
pub fn context() -> SessionContext {
    let mut config = SessionConfig::new().with_information_schema(true).with_target_partitions(2);
    // Delta's readers know strings, not string views.
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let context = SessionContext::new_with_config_rt(config, Arc::clone(&RUNTIME));
    context.register_udaf(quantile());
    context
}
