//! The table of what was let go: how many rows of which object, by tier, day and step.
//!
//! A step is noted before it is done. One that was cut is noted again under the same number, and counts once; rows that
//! come to a day that went already go in a step of their own, and are added.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::Utc;
use datafusion::arrow::array::{AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::lit;
use datafusion::prelude::SessionContext;

use super::RetentionError;
use crate::column::{number, text, utc};
use crate::contract::Contract;
use crate::discard::DUPLICATE;
use crate::lake::{BronzeObject, Lake};
use crate::ledger::Entry;
use crate::table::{CONFLICTS_MAX, CommitError, Partition, Table, TableError, after_conflict};
use crate::{discard, quoted, session, silver};

/// Where the table is, below the lake.
pub const PATH: &str = "expired";
/// What went, by object and tier.
const EXPIRED_SQL: &str = "SELECT dataset, tier, bronze_key, bronze_etag, sum(rows) AS rows FROM (
     SELECT dataset, tier, dt, step, bronze_key, bronze_etag, max(rows) AS rows FROM expired_rows
     GROUP BY dataset, tier, dt, step, bronze_key, bronze_etag)
   GROUP BY dataset, tier, bronze_key, bronze_etag";

/// The table's columns. `tier` is `bronze`, `silver`, `discard` or, of discard, `duplicate`.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("dataset"),
        text("tier"),
        text("dt"),
        text("bronze_key"),
        text("bronze_etag"),
        number("rows"),
        utc("expired_at"),
        number("step"),
    ]))
}

/// Rows of an object that go.
pub(super) struct Noted {
    pub tier: &'static str,
    pub key: String,
    pub etag: String,
    pub rows: i64,
}

/// Notes what goes of a day, as that day's step of this number.
pub(super) async fn note(
    lake: &Lake,
    dataset: &str,
    dt: &str,
    step: i64,
    noted: &[Noted],
) -> Result<(), RetentionError> {
    if noted.is_empty() {
        return Ok(());
    }
    let texts = |of: &dyn Fn(&Noted) -> String| Arc::new(StringArray::from_iter_values(noted.iter().map(of)));
    let now = TimestampMicrosecondArray::from_value(Utc::now().timestamp_micros(), noted.len());
    let rows = RecordBatch::try_new(
        schema(),
        vec![
            texts(&|_| dataset.to_owned()),
            texts(&|noted| noted.tier.to_owned()),
            texts(&|_| dt.to_owned()),
            texts(&|noted| noted.key.clone()),
            texts(&|noted| noted.etag.clone()),
            Arc::new(Int64Array::from_iter_values(noted.iter().map(|noted| noted.rows))),
            Arc::new(now.with_timezone("UTC")),
            Arc::new(Int64Array::from_value(step, noted.len())),
        ],
    )?;
    let mut table = Table::open_widened(lake, PATH, &schema(), &["dataset"]).await?;
    for conflicts in 0..CONFLICTS_MAX {
        match table.append(rows.clone(), &[]).await {
            Err(CommitError::Conflict { .. }) => after_conflict(conflicts).await,
            done => return Ok(done?),
        }
        table.refresh().await?;
    }
    Err(CommitError::Conflict { table: PATH.to_owned() }.into())
}

/// Registers `expired`: what went, by object and tier.
pub(crate) async fn register(session: &SessionContext, lake: &Lake) -> Result<(), DataFusionError> {
    let rows = match Table::open(lake, PATH).await.map_err(external)? {
        Some(table) => session.read_table(table.provider().await.map_err(external)?)?,
        None => session.read_batch(RecordBatch::new_empty(schema()))?,
    };
    // What was noted before steps had numbers was done before all others.
    let rows = match rows.schema().has_column_with_unqualified_name("step") {
        true => rows.fill_null(&ScalarValue::from(-1_i64), &["step"])?,
        false => rows.with_column("step", lit(-1_i64))?,
    };
    session.register_table("expired_rows", rows.into_view())?;
    session.register_table("expired", session.sql(EXPIRED_SQL).await?.into_view())?;
    Ok(())
}

/// Rows of an object that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expired {
    silver: i64,
    discarded: i64,
    duplicates: i64,
}

impl Expired {
    /// The object's row of the ledger counted anew: of what silver and discard, by first rule, have of it, and of what went.
    pub(crate) fn counted(self, before: &Entry, silver: i64, mut rules: BTreeMap<String, u64>) -> Entry {
        let duplicates = rules.remove(DUPLICATE).unwrap_or_default().cast_signed();
        // The rules of rows that went are those that the ledger named and discard has no more.
        let mut went = self.discarded.unsigned_abs();
        for (rule, rows) in &before.rules {
            let more = rows.saturating_sub(rules.get(rule).copied().unwrap_or_default()).min(went);
            if more > 0 {
                *rules.entry(rule.clone()).or_default() += more;
                went -= more;
            }
        }
        Entry {
            silver: silver + self.silver,
            discarded: (rules.values().sum::<u64>() + went).cast_signed(),
            duplicates: duplicates + self.duplicates,
            rules,
            ..before.clone()
        }
    }
}

/// What went of the rows of these objects, by their ids: steps that were noted and not done are not in it.
pub(crate) async fn of(
    lake: &Lake,
    contract: &Contract,
    keys: &BTreeSet<&str>,
) -> Result<HashMap<String, Expired>, DataFusionError> {
    let session = session::context();
    register(&session, lake).await?;
    let noted = format!(
        "SELECT bronze_key, bronze_etag, tier, dt, step, max(rows) FROM expired_rows
         WHERE tier <> 'bronze' AND dataset = {} AND bronze_key IN ({})
         GROUP BY bronze_key, bronze_etag, tier, dt, step",
        quoted::text(&contract.dataset),
        quoted::texts(keys)
    );
    let mut times: HashMap<(bool, String), i64> = HashMap::new();
    let mut found: HashMap<String, Expired> = HashMap::new();
    for batch in session.sql(&noted).await?.collect().await? {
        let texts: Vec<_> =
            (0..4).map(|at| cast(batch.column(at), &DataType::Utf8)).collect::<Result<_, _>>()?;
        let text = |at: usize, row: usize| texts[at].as_string::<i32>().value(row);
        let [steps, rows] = [4, 5].map(|at| batch.column(at).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            let (tier, dt) = (text(2, row), text(3, row));
            let done = match times.entry((tier == "silver", dt.to_owned())) {
                MapEntry::Occupied(known) => *known.get(),
                MapEntry::Vacant(new) => *new.insert(times_gone(lake, contract, tier, dt).await?),
            };
            if steps.value(row) >= done {
                continue;
            }
            let expired = found.entry(BronzeObject::id_of(text(0, row), text(1, row))).or_default();
            match tier {
                "silver" => expired.silver += rows.value(row),
                "duplicate" => expired.duplicates += rows.value(row),
                _ => expired.discarded += rows.value(row),
            }
        }
    }
    Ok(found)
}

/// How often the tier's day went.
async fn times_gone(lake: &Lake, contract: &Contract, tier: &str, dt: &str) -> Result<i64, DataFusionError> {
    let (path, partition) = match tier {
        "silver" => (silver::rows_path(contract), Partition::from([("dt".to_owned(), Some(dt.to_owned()))])),
        _ => (discard::PATH.to_owned(), discard::partition(&contract.dataset, dt)),
    };
    let times = async {
        match Table::open(lake, &path).await? {
            Some(table) => table.times_expired(&partition).await,
            None => Ok(0),
        }
    };
    times.await.map_err(external)
}

fn external(error: TableError) -> DataFusionError {
    DataFusionError::External(error.into())
}

/// The days of silver that went. What comes to them later is not all of them.
pub(crate) async fn days_of_silver(lake: &Lake, dataset: &str) -> Result<BTreeSet<String>, DataFusionError> {
    let session = session::context();
    register(&session, lake).await?;
    let sql = format!(
        "SELECT DISTINCT dt FROM expired_rows WHERE tier = 'silver' AND dataset = {}",
        quoted::text(dataset)
    );
    let mut days = BTreeSet::new();
    for batch in session.sql(&sql).await?.collect().await? {
        let column = cast(batch.column(0), &DataType::Utf8)?;
        days.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    Ok(days)
}
