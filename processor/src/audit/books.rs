//! The audit's books as tables of one SQL session: ledger, batches, drops, discard, discarded readings,
//! bronze as it is listed, and silver of each dataset.
//!
//! What is JSON in the lake, or is a listing, is read as a stream and never held as a whole. Sorts and
//! groups larger than [`MEMORY_BYTES_MAX`] go to disk, so the lake's size does not show in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::Value;

use super::AuditError;
use crate::bronze::BronzeKey;
use crate::column::{number, text};
use crate::contract::Contract;
use crate::lake::{BronzeObject, Lake};
use crate::ledger::{self, Batch};
use crate::table::Table;
use crate::{discard, quarantine, retention, session, silver};

/// What the session's sorts and groups hold before they go to disk.
const MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Rows of one batch of a stream.
const STREAM_ROWS: usize = 4_096;

/// The session, and the datasets in it: by name, the table of its silver.
pub(super) struct Books {
    pub session: SessionContext,
    pub silver: BTreeMap<String, String>,
}

impl Books {
    pub(super) async fn open(lake: &Lake, contracts: &[Contract]) -> Result<Self, AuditError> {
        let session = bounded_session()?;
        registered(&session, lake, "ledger", ledger::PATH, &ledger::schema()).await?;
        registered(&session, lake, "quarantine", quarantine::PATH, &quarantine::schema()).await?;
        registered(&session, lake, "expired_rows", retention::PATH, &retention::schema()).await?;
        session.register_table("expired", session.sql(retention::EXPIRED_SQL).await?.into_view())?;
        set_aside(&session, contracts).await?;
        // The batches of an object in quarantine are there, too.
        let batches =
            "SELECT bronze_key, batches FROM ledger UNION ALL SELECT bronze_key, batches FROM set_aside";
        let ledger = session.sql(batches).await?.into_view();
        let discarded = registered(&session, lake, "discard", discard::PATH, &discard::schema()).await?;
        let (session_of, rows) = (session.clone(), Arc::clone(&ledger));
        register_stream(&session, "batches", batch_schema(), move || {
            rewritten(&session_of, &rows, &["bronze_key", "batches"], batch_rows)
        })?;
        let (session_of, rows) = (session.clone(), ledger);
        register_stream(&session, "drops", drop_schema(), move || {
            rewritten(&session_of, &rows, &["bronze_key", "batches"], drop_rows)
        })?;
        let (session_of, rows) = (session.clone(), discarded);
        register_stream(&session, "discarded", reading_schema(), move || {
            rewritten(&session_of, &rows, &["dataset", "bronze_key", "rule", "record"], reading_rows)
        })?;
        let names: Vec<String> = contracts.iter().map(|contract| contract.dataset.clone()).collect();
        let from = lake.clone();
        register_stream(&session, "bronze", listing_schema(), move || listing(&from, names.clone()))?;

        let mut tables = BTreeMap::new();
        for name in datasets(&session, contracts).await? {
            let table = format!("silver_{}", tables.len());
            let schema = match contracts.iter().find(|contract| contract.dataset == name) {
                Some(contract) => silver::schema(contract),
                None => Arc::new(Schema::new(vec![text("bronze_key"), text("bronze_etag")])),
            };
            // Where versions are kept, silver is computed from them, and held against them elsewhere.
            let versions = silver::versions_path(&name);
            let path = if lake.has_table(&versions).await? { versions } else { silver::path(&name) };
            registered(&session, lake, &table, &path, &schema).await?;
            tables.insert(name, table);
        }
        Ok(Self { session, silver: tables })
    }

    /// Runs a query and gives its rows, one at a time, to `each`.
    pub(super) async fn each_row(
        &self,
        sql: &str,
        mut each: impl FnMut(&Row<'_>) -> Result<(), DataFusionError>,
    ) -> Result<(), AuditError> {
        let mut rows = self.session.sql(sql).await?.execute_stream().await?;
        while let Some(batch) = rows.try_next().await? {
            let columns: Vec<ArrayRef> = batch.columns().iter().map(plain).collect::<Result<_, _>>()?;
            for at in 0..batch.num_rows() {
                each(&Row { columns: &columns, at })?;
            }
        }
        Ok(())
    }
}

/// Registers `set_aside`: the objects that a check keeps in quarantine under the contracts as they are now.
async fn set_aside(session: &SessionContext, contracts: &[Contract]) -> Result<(), DataFusionError> {
    let held: Vec<String> =
        contracts.iter().map(|contract| format!("'{}'", contract.fingerprint.replace('\'', "''"))).collect();
    let held = if held.is_empty() { "NULL".to_owned() } else { held.join(", ") };
    let sql = format!(
        "SELECT bronze_key, bronze_etag, batches FROM (
           SELECT *, row_number() OVER (PARTITION BY bronze_key, bronze_etag ORDER BY set_aside_at DESC) AS nth
           FROM quarantine)
         WHERE nth = 1 AND contract_fingerprint IN ({held})"
    );
    session.register_table("set_aside", session.sql(&sql).await?.into_view())?;
    Ok(())
}

/// Contracts' datasets and those of the ledger that no contract speaks for any more.
async fn datasets(session: &SessionContext, contracts: &[Contract]) -> Result<Vec<String>, DataFusionError> {
    let mut names: Vec<String> = contracts.iter().map(|contract| contract.dataset.clone()).collect();
    for batch in session.sql("SELECT DISTINCT dataset FROM ledger").await?.collect().await? {
        let column = plain(batch.column(0))?;
        names.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// One row of an answer.
pub(super) struct Row<'a> {
    columns: &'a [ArrayRef],
    at: usize,
}

impl Row<'_> {
    /// A text cell; null is empty.
    pub(super) fn text(&self, column: usize) -> &str {
        match self.columns[column].as_string_opt::<i32>() {
            Some(texts) if !self.columns[column].is_null(self.at) => texts.value(self.at),
            _ => "",
        }
    }

    /// A whole number; null is 0.
    pub(super) fn number(&self, column: usize) -> i64 {
        match self.columns[column].as_any().downcast_ref::<Int64Array>() {
            Some(numbers) if !self.columns[column].is_null(self.at) => numbers.value(self.at),
            _ => 0,
        }
    }

    /// A number of things.
    pub(super) fn count(&self, column: usize) -> u64 {
        u64::try_from(self.number(column)).unwrap_or_default()
    }
}

/// Texts and whole numbers in one representation, whatever the engine chose.
fn plain(column: &ArrayRef) -> Result<ArrayRef, DataFusionError> {
    let to = match column.data_type() {
        kind if kind.is_integer() => DataType::Int64,
        _ => DataType::Utf8,
    };
    Ok(cast(column, &to)?)
}

fn bounded_session() -> Result<SessionContext, DataFusionError> {
    let plain = session::context();
    let mut config = plain.copied_config();
    // A sort-merge join can go to disk, a hash join cannot.
    config.options_mut().optimizer.prefer_hash_join = false;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(MEMORY_BYTES_MAX)))
        .build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// Registers a table of the lake, or an empty one where there is none.
async fn registered(
    session: &SessionContext,
    lake: &Lake,
    name: &str,
    path: &str,
    schema: &SchemaRef,
) -> Result<Arc<dyn TableProvider>, AuditError> {
    let provider = match Table::open(lake, path).await? {
        Some(table) => table.provider().await?,
        None => session.read_batch(RecordBatch::new_empty(Arc::clone(schema)))?.into_view(),
    };
    session.register_table(name, Arc::clone(&provider))?;
    Ok(provider)
}

fn register_stream(
    session: &SessionContext,
    name: &str,
    schema: SchemaRef,
    start: impl Fn() -> SendableRecordBatchStream + Send + Sync + 'static,
) -> Result<(), DataFusionError> {
    let partition = Partition { schema: Arc::clone(&schema), start: Box::new(start) };
    let table = StreamingTable::try_new(schema, vec![Arc::new(partition)])?;
    session.register_table(name, Arc::new(table))?;
    Ok(())
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
fn rewritten(
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

fn texts(batch: &RecordBatch, column: usize) -> Result<StringArray, DataFusionError> {
    Ok(cast(batch.column(column), &DataType::Utf8)?.as_string::<i32>().clone())
}

fn batch_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("bronze_key"),
        text("gateway"),
        text("boot"),
        number("seq"),
        number("readings"),
    ]))
}

/// The ledger's batches, a row each.
fn batch_rows(entries: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
    let (mut keys, mut gateways, mut boots) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seqs, mut readings) = (Vec::new(), Vec::new());
    for (key, batch) in batches(entries)? {
        keys.push(key);
        gateways.push(batch.gateway);
        boots.push(format!("{:016x}", batch.boot));
        seqs.push(signed(batch.seq));
        readings.push(i64::from(batch.readings));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(keys)),
        Arc::new(StringArray::from(gateways)),
        Arc::new(StringArray::from(boots)),
        Arc::new(Int64Array::from(seqs)),
        Arc::new(Int64Array::from(readings)),
    ];
    Ok(RecordBatch::try_new(batch_schema(), columns)?)
}

fn drop_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("gateway"),
        text("boot"),
        number("seq"),
        text("cause"),
        number("readings"),
    ]))
}

/// What the ledger's batches say was given up, a row for each cause.
fn drop_rows(entries: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
    let (mut gateways, mut boots, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut causes, mut readings) = (Vec::new(), Vec::new());
    for (_, batch) in batches(entries)? {
        for (cause, count) in batch.dropped {
            gateways.push(batch.gateway.clone());
            boots.push(format!("{:016x}", batch.boot));
            seqs.push(signed(batch.seq));
            causes.push(cause);
            readings.push(signed(count));
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(gateways)),
        Arc::new(StringArray::from(boots)),
        Arc::new(Int64Array::from(seqs)),
        Arc::new(StringArray::from(causes)),
        Arc::new(Int64Array::from(readings)),
    ];
    Ok(RecordBatch::try_new(drop_schema(), columns)?)
}

fn batches(entries: &RecordBatch) -> Result<Vec<(String, Batch)>, DataFusionError> {
    let (keys, cells) = (texts(entries, 0)?, texts(entries, 1)?);
    let mut found = Vec::new();
    for (key, cell) in keys.iter().zip(&cells) {
        let key = key.unwrap_or_default();
        let batches: Vec<Batch> = serde_json::from_str(cell.unwrap_or("[]")).map_err(|error| {
            DataFusionError::Execution(format!("the ledger's row of {key} is damaged: {error}"))
        })?;
        found.extend(batches.into_iter().map(|batch| (key.to_owned(), batch)));
    }
    Ok(found)
}

fn reading_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("dataset"),
        text("gateway"),
        text("rule"),
        text("device"),
        number("boot"),
        number("seq"),
    ]))
}

/// Discard rows with the reading that their record names, where it names one.
fn reading_rows(rows: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
    let (datasets, keys, rules, records) =
        (texts(rows, 0)?, texts(rows, 1)?, texts(rows, 2)?, texts(rows, 3)?);
    let gateways: StringArray = keys.iter().map(|key| key.map(|key| gateway_of(key).to_owned())).collect();
    let (mut devices, mut boots, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    for record in &records {
        let record: Value = record.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let reading = (
            record["device"].as_str().map(str::to_owned),
            record["boot"].as_i64(),
            record["seq"].as_i64().filter(|seq| *seq >= 0),
        );
        let (device, boot, seq) = match reading {
            (Some(device), Some(boot), Some(seq)) => (Some(device), Some(boot), Some(seq)),
            _ => (None, None, None),
        };
        devices.push(device);
        boots.push(boot);
        seqs.push(seq);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(datasets),
        Arc::new(gateways),
        Arc::new(rules),
        Arc::new(StringArray::from(devices)),
        Arc::new(Int64Array::from(boots)),
        Arc::new(Int64Array::from(seqs)),
    ];
    Ok(RecordBatch::try_new(reading_schema(), columns)?)
}

/// The gateway that a key names, or nothing; in SQL it is [`GATEWAY_SQL`].
fn gateway_of(key: &str) -> &str {
    key.split_once("/gateway=").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
}

/// The gateway of `bronze_key`.
pub(super) const GATEWAY_SQL: &str = "split_part(split_part(bronze_key, '/gateway=', 2), '/', 1)";

fn listing_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("bronze_key"),
        text("bronze_etag"),
        number("bytes"),
        number("modified_ms"),
        text("dataset"),
        text("gateway"),
        text("boot"),
        number("seq"),
    ]))
}

/// Bronze as it is listed; `dataset` is null where no contract speaks for the object.
fn listing(lake: &Lake, datasets: Vec<String>) -> SendableRecordBatchStream {
    let objects = lake.bronze_stream().map_err(|error| DataFusionError::External(error.into()));
    let rows = chunks(objects).map(move |objects| listing_rows(&objects?, &datasets));
    Box::pin(RecordBatchStreamAdapter::new(listing_schema(), rows))
}

fn chunks<E>(
    objects: impl Stream<Item = Result<BronzeObject, E>>,
) -> impl Stream<Item = Result<Vec<BronzeObject>, E>> {
    objects.chunks(STREAM_ROWS).map(|objects| objects.into_iter().collect())
}

fn listing_rows(objects: &[BronzeObject], datasets: &[String]) -> Result<RecordBatch, DataFusionError> {
    let keys: Vec<Option<BronzeKey>> = objects
        .iter()
        .map(|object| BronzeKey::parse(&object.key, |name| datasets.iter().any(|known| known == name)).ok())
        .collect();
    let key_text = |of: fn(&BronzeKey) -> Option<String>| -> ArrayRef {
        Arc::new(keys.iter().map(|key| key.as_ref().and_then(of)).collect::<StringArray>())
    };
    let number = |of: fn(&BronzeObject) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(objects.iter().map(of)))
    };
    let seqs: Int64Array = keys.iter().map(|key| key.as_ref()?.batch.map(|(_, seq)| signed(seq))).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(objects.iter().map(|object| &object.key))),
        Arc::new(StringArray::from_iter_values(objects.iter().map(|object| &object.etag))),
        number(|object| signed(object.bytes)),
        number(|object| object.modified_ms),
        key_text(|key| Some(key.dataset.clone())),
        key_text(|key| Some(key.gateway.clone().unwrap_or_default())),
        key_text(|key| key.batch.map(|(boot, _)| format!("{boot:016x}"))),
        Arc::new(seqs),
    ];
    Ok(RecordBatch::try_new(listing_schema(), columns)?)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
