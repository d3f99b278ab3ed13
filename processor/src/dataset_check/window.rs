//! What a dataset check sees: the tables `silver` and `discard`, cut to its window, `batches` (those of the
//! run's objects) and the contract's references by their names.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Days};
use datafusion::arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::prelude::SessionContext;

use super::brought::Brought;
use super::{DAYS_MAX, DatasetCheckError, record};
use crate::column::{number, text, utc};
use crate::contract::{CheckWindow, Contract};
use crate::lake::Lake;
use crate::ledger::Batch;
use crate::table::{Table, TableError};
use crate::{discard, quoted, session, silver};

/// Days back to which one that was never judged is looked for.
const UNJUDGED_DAYS_MAX: u64 = 7;

/// The dataset's tables as they are now.
pub(super) struct Tables<'a> {
    contract: &'a Contract,
    silver: Arc<dyn TableProvider>,
    discard: Option<Arc<dyn TableProvider>>,
}

impl<'a> Tables<'a> {
    pub(super) async fn open(
        lake: &Lake,
        contract: &'a Contract,
        silver: &Table,
    ) -> Result<Self, TableError> {
        let discard = match Table::open(lake, discard::PATH).await? {
            Some(discard) => Some(discard.provider().await?),
            None => None,
        };
        Ok(Self { contract, silver: silver.provider().await?, discard })
    }

    /// The windows of this kind, each with its name and its session.
    pub(super) async fn windows(
        &self,
        record: &Table,
        kind: CheckWindow,
        brought: &Brought,
        now_ms: i64,
    ) -> Result<Vec<(String, SessionContext)>, DatasetCheckError> {
        let own = format!("dataset = '{}'", self.contract.dataset);
        match kind {
            CheckWindow::Run => {
                // The bounds let the scan skip every file whose statistics lie outside.
                let bounds = brought.keys().map_or("FALSE".to_owned(), |(first, last)| {
                    format!("bronze_key BETWEEN {} AND {}", quoted::text(first), quoted::text(last))
                });
                let of_run = "LEFT SEMI JOIN run_objects AS run ON rows.bronze_key = run.bronze_key AND rows.bronze_etag = run.bronze_etag";
                let silver =
                    format!("SELECT rows.* FROM (SELECT * FROM all_silver WHERE {bounds}) AS rows {of_run}");
                let discard = format!(
                    "SELECT rows.* FROM (SELECT * FROM all_discard WHERE {own} AND {bounds}) AS rows {of_run}"
                );
                let session = self.session(brought, &silver, &discard);
                Ok(vec![("run".to_owned(), session.await?)])
            }
            CheckWindow::All => {
                let discard = format!("SELECT * FROM all_discard WHERE {own}");
                let session = self.session(brought, "SELECT * FROM all_silver", &discard);
                Ok(vec![("all".to_owned(), session.await?)])
            }
            CheckWindow::Newest => {
                let newest = self.days(brought, "SELECT max(dt) FROM all_silver").await?;
                let mut windows = Vec::new();
                for day in newest {
                    windows.push(("newest".to_owned(), self.day(brought, &day).await?));
                }
                Ok(windows)
            }
            CheckWindow::Day => {
                let mut windows = Vec::new();
                for day in self.due_days(record, brought, now_ms).await? {
                    windows.push((day.clone(), self.day(brought, &day).await?));
                }
                Ok(windows)
            }
        }
    }

    /// A day of silver, and what was discarded of objects of that day and the next: the last readings of a day are
    /// often sealed after midnight.
    async fn day(&self, brought: &Brought, day: &str) -> Result<SessionContext, DataFusionError> {
        let next = day.parse().ok().and_then(|day: chrono::NaiveDate| day.checked_add_days(Days::new(1)));
        let days: BTreeSet<String> =
            [Some(day.to_owned()), next.map(|day| day.to_string())].into_iter().flatten().collect();
        let this = BTreeSet::from([day.to_owned()]);
        self.session(
            brought,
            &format!("SELECT * FROM all_silver WHERE {}", in_days(&this)),
            &format!(
                "SELECT * FROM all_discard WHERE dataset = '{}' AND {}",
                self.contract.dataset,
                in_days(&days)
            ),
        )
        .await
    }

    /// The days that are over and changed, and those of late that are over and were never judged.
    async fn due_days(
        &self,
        record: &Table,
        brought: &Brought,
        now_ms: i64,
    ) -> Result<Vec<String>, DatasetCheckError> {
        let now = DateTime::from_timestamp_millis(now_ms).unwrap_or_default().date_naive();
        let today = now.to_string();
        let since = now.checked_sub_days(Days::new(UNJUDGED_DAYS_MAX)).unwrap_or(now);
        let lately = format!("SELECT DISTINCT dt FROM all_silver WHERE dt >= '{since}' AND dt < '{today}'");
        let changed = match &brought.days {
            Some(days) => days.clone(),
            None => self.days(brought, "SELECT DISTINCT dt FROM all_silver").await?,
        };
        let judged = record::windows(record, self.contract).await?;
        let lately = self.days(brought, &lately).await?.into_iter().filter(|day| !judged.contains(day));
        let due: BTreeSet<String> = changed.into_iter().chain(lately).filter(|day| *day < today).collect();
        Ok(due.into_iter().rev().take(DAYS_MAX).collect())
    }

    async fn days(&self, brought: &Brought, sql: &str) -> Result<BTreeSet<String>, DataFusionError> {
        let session = self.session(brought, "SELECT * FROM all_silver", "SELECT * FROM all_discard").await?;
        let mut days = BTreeSet::new();
        for batch in session.sql(sql).await?.collect().await? {
            let column = cast(batch.column(0), &DataType::Utf8)?;
            days.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
        }
        Ok(days)
    }

    async fn session(
        &self,
        brought: &Brought,
        silver: &str,
        discard: &str,
    ) -> Result<SessionContext, DataFusionError> {
        let session = session::bounded(&session::BY_FEW_COLUMNS)?;
        session.register_table("all_silver", Arc::clone(&self.silver))?;
        match &self.discard {
            Some(discard) => session.register_table("all_discard", Arc::clone(discard))?,
            None => session.register_batch("all_discard", RecordBatch::new_empty(discard::schema()))?,
        };
        session.register_batch("run_objects", objects(brought)?)?;
        session.register_batch("batches", batches(brought)?)?;
        for reference in &self.contract.references {
            session.register_batch(&reference.name, reference.rows.clone())?;
        }
        for (name, sql) in [("silver", silver), ("discard", discard)] {
            let view = session.sql(sql).await?.into_view();
            session.register_table(name, view)?;
        }
        Ok(session)
    }
}

/// The same tables without rows.
pub(super) fn empty(contract: &Contract) -> Result<SessionContext, DataFusionError> {
    let session = session::context();
    session.register_batch("silver", RecordBatch::new_empty(silver::schema(contract)))?;
    session.register_batch("discard", RecordBatch::new_empty(discard::schema()))?;
    session.register_batch("batches", batches(&Brought::default())?)?;
    for reference in &contract.references {
        session.register_batch(&reference.name, reference.rows.clone())?;
    }
    Ok(session)
}

fn in_days(days: &BTreeSet<String>) -> String {
    if days.is_empty() { "FALSE".to_owned() } else { format!("dt IN ({})", quoted::texts(days)) }
}

fn objects(brought: &Brought) -> Result<RecordBatch, DataFusionError> {
    let schema = Arc::new(Schema::new(vec![text("bronze_key"), text("bronze_etag")]));
    let column = |of: fn(&(String, String)) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(brought.objects.iter().map(of)))
    };
    Ok(RecordBatch::try_new(schema, vec![column(|(key, _)| key), column(|(_, etag)| etag)])?)
}

/// The run's batches; a batch's readings have the ordinals from `first_ordinal` to `last_ordinal` in an object that
/// is whole.
fn batches(brought: &Brought) -> Result<RecordBatch, DataFusionError> {
    let rows = &brought.batches;
    let mut first = Vec::with_capacity(rows.len());
    let mut next: HashMap<&str, i64> = HashMap::new();
    for (key, batch) in rows {
        let place = next.entry(key).or_default();
        first.push(*place);
        *place += i64::from(batch.readings);
    }
    let last = first.iter().zip(rows).map(|(first, (_, batch))| first + i64::from(batch.readings) - 1);
    let last: ArrayRef = Arc::new(Int64Array::from_iter_values(last));
    let text_of = |of: fn(&(String, Batch)) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
    };
    let number_of = |of: fn(&Batch) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, batch)| of(batch))))
    };
    let sealed = rows.iter().map(|(_, batch)| batch.sealed_ms.saturating_mul(1_000));
    let sealed = TimestampMicrosecondArray::from_iter_values(sealed).with_timezone("UTC");
    Ok(RecordBatch::try_new(
        batches_schema(),
        vec![
            text_of(|(key, _)| key),
            text_of(|(_, batch)| &batch.gateway),
            number_of(|batch| batch.boot.cast_signed()),
            number_of(|batch| batch.seq.cast_signed()),
            Arc::new(sealed),
            number_of(|batch| i64::from(batch.readings)),
            Arc::new(Int64Array::from(first)),
            last,
        ],
    )?)
}

fn batches_schema() -> SchemaRef {
    let columns: Vec<Field> = vec![
        text("bronze_key"),
        text("gateway"),
        number("boot"),
        number("seq"),
        utc("sealed_at"),
        number("readings"),
        number("first_ordinal"),
        number("last_ordinal"),
    ];
    Arc::new(Schema::new(columns))
}
