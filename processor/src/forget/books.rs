//! Discard, silver and ledger without the rows: discard counts each as `forgotten`, silver has it no more, the
//! ledger says both.
//!
//! From the plan's places alone, and in absolute numbers, so that doing it again changes nothing. What is told of
//! other rows stays, but where a frame was encoded anew their discard rows name its bytes as they lie now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::record_batch::RecordBatch;

use super::ForgetError;
use super::plan::{self, Dataset};
use crate::bronze::{BronzeKey, Format};
use crate::check::Checker;
use crate::decode::{FORGOTTEN, Fault};
use crate::discard::{self, DUPLICATE};
use crate::examine::DiscardRow;
use crate::lake::{BronzeObject, Lake};
use crate::ledger::recount::recount;
use crate::ledger::{self, Entry};
use crate::promote::{Candidate, ObjectError, day_of};
use crate::reading::Reading;
use crate::table::{CONFLICTS_MAX, CommitError, Partition, Table, after_conflict, place};
use crate::{quoted, session, silver};

/// Objects whose rows are taken out in one go.
const OBJECTS_MAX: usize = 512;

/// Takes the planned rows of a dataset out of the tables.
pub(super) async fn erase(lake: &Lake, checker: &Checker, planned: &Dataset) -> Result<(), ForgetError> {
    for objects in planned.objects.chunks(OBJECTS_MAX) {
        let keys: BTreeSet<&str> = objects.iter().map(|object| object.key.as_str()).collect();
        let entries = ledger::entries_of(&ledger::open(lake).await?, &keys).await?;
        let entries: HashMap<String, Entry> = entries.into_iter().map(|entry| (entry.id(), entry)).collect();
        let mut gone = Vec::with_capacity(objects.len());
        for object in objects {
            gone.push(Gone::of(lake, checker, object, &entries).await);
        }
        in_discard(lake, checker, &gone).await?;
        let places: Vec<_> = gone.iter().map(|gone| (gone.object, gone.object.places.all())).collect();
        if let Some(mut table) = Table::open(lake, &silver::rows_path(checker.contract())).await? {
            let places = batch(&places)?;
            for partition in table.partitions_at(&places).await? {
                rewrite(&mut table, &partition, &places, None).await?;
            }
        }
        in_ledger(lake, checker, &gone).await?;
    }
    Ok(())
}

/// An object of the plan, as it is known and as bronze has it now.
struct Gone<'a> {
    object: &'a plan::Object,
    entry: Option<Entry>,
    now: Option<(Candidate, Now)>,
}

/// What bronze has of an object now, as far as it is asked for.
#[derive(Default)]
struct Now {
    warnings: BTreeMap<String, u64>,
    /// Of an object of frames all, of others those at the plan's places, in order.
    discards: Vec<DiscardRow>,
}

impl Now {
    async fn of(
        lake: &Lake,
        checker: &Checker,
        candidate: &Candidate,
        places: &BTreeSet<i64>,
    ) -> Result<Self, ObjectError> {
        let mut now = Self::default();
        let mut reading = Reading::open(lake, &candidate.object, &candidate.key).await?;
        while let Some(part) = reading.next(checker).await? {
            for (check, rows) in part.warnings {
                *now.warnings.entry(check).or_default() += rows;
            }
            let is_asked_for =
                |row: &DiscardRow| candidate.key.format == Format::Frames || places.contains(&row.ordinal);
            now.discards.extend(part.discards.into_iter().filter(is_asked_for));
        }
        reading.verdict(checker)?;
        Ok(now)
    }
}

impl<'a> Gone<'a> {
    async fn of(
        lake: &Lake,
        checker: &Checker,
        object: &'a plan::Object,
        entries: &HashMap<String, Entry>,
    ) -> Self {
        let entry = entries.get(&BronzeObject::id_of(&object.key, &object.etag)).cloned();
        let mut gone = Self { object, entry, now: None };
        let there = lake.bronze_object_as(&object.key, &object.etag).await.ok().flatten();
        let there = there.filter(|_| gone.entry.is_some());
        let dataset = &checker.contract().dataset;
        if let Some(there) = there
            && let Ok(key) = BronzeKey::parse(&object.key, |name| name == dataset)
        {
            let candidate = Candidate { object: there, key };
            // One that a changed contract would not take any more keeps what the books say of its other rows.
            let found = Now::of(lake, checker, &candidate, &object.places.all()).await;
            gone.now = found.ok().map(|found| (candidate, found));
        }
        gone
    }

    fn day(&self) -> String {
        match (&self.now, &self.entry) {
            (Some((candidate, _)), _) => day_of(candidate),
            (None, Some(entry)) => {
                let key = BronzeKey::parse(&entry.bronze_key, |_| true).ok();
                let processed = DateTime::from_timestamp_millis(entry.processed_ms).unwrap_or_default();
                key.and_then(|key| key.dt).unwrap_or_else(|| processed.format("%Y-%m-%d").to_string())
            }
            (None, None) => String::new(),
        }
    }

    /// How the object's row at this place is discarded now.
    fn discarded(&self, place: i64) -> Option<&DiscardRow> {
        let discards = &self.now.as_ref()?.1.discards;
        discards.binary_search_by_key(&place, |row| row.ordinal).ok().map(|at| &discards[at])
    }

    fn rows(&self) -> Vec<DiscardRow> {
        let row = |place: i64| {
            let now = self.discarded(place);
            DiscardRow {
                ordinal: place,
                rules: vec![FORGOTTEN.to_owned()],
                record: Fault::Forgotten.to_string(),
                byte_offset: now.map_or(0, |row| row.byte_offset),
                byte_len: now.map_or(0, |row| row.byte_len),
            }
        };
        self.object.in_books().into_iter().map(row).collect()
    }
}

async fn in_discard(lake: &Lake, checker: &Checker, gone: &[Gone<'_>]) -> Result<(), ForgetError> {
    let contract = checker.contract();
    let now_ms = Utc::now().timestamp_millis();
    let mut added: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
    let mut places: Vec<(&plan::Object, BTreeSet<i64>)> = Vec::new();
    let mut table = discard::open(lake).await?;
    for gone in gone.iter().filter(|gone| gone.entry.is_some()) {
        let object = BronzeObject {
            key: gone.object.key.clone(),
            etag: gone.object.etag.clone(),
            bytes: 0,
            modified_ms: 0,
        };
        let rows = discard::rows(contract, &object, &gone.day(), &gone.rows(), now_ms)?;
        added.entry(gone.day()).or_default().push(rows);
        let mut here = gone.object.places.all();
        let is_framed = |(candidate, _): &(Candidate, Now)| candidate.key.format == Format::Frames;
        if gone.now.as_ref().is_some_and(is_framed) {
            for (day, rows) in lying_now(&table, contract.dataset.as_str(), gone, &here).await? {
                here.extend(rows.column(7).as_primitive::<Int64Type>().values());
                added.entry(day).or_default().push(rows);
            }
        }
        places.push((gone.object, here));
    }
    let places = batch(&places)?;
    let mut partitions: BTreeSet<Partition> = table.partitions_at(&places).await?.into_iter().collect();
    partitions.extend(added.keys().map(|day| discard::partition(&contract.dataset, day)));
    for partition in partitions {
        let day = partition.get("dt").cloned().flatten().unwrap_or_default();
        let rows = match added.get(&day) {
            Some(rows) => Some(concat_batches(&discard::schema(), rows)?),
            None => None,
        };
        rewrite(&mut table, &partition, &places, rows).await?;
    }
    Ok(())
}

/// The object's other discard rows, by day, with the bytes at which their frames lie now.
async fn lying_now(
    table: &Table,
    dataset: &str,
    gone: &Gone<'_>,
    erased: &BTreeSet<i64>,
) -> Result<Vec<(String, RecordBatch)>, ForgetError> {
    let context = session::context();
    context.register_table("discard", table.provider().await?)?;
    let names: Vec<String> = discard::schema().fields().iter().map(|field| field.name().clone()).collect();
    let sql = format!(
        "SELECT {} FROM discard WHERE dataset = {} AND bronze_key = {} AND bronze_etag = {} AND rule NOT IN ('{DUPLICATE}', '{FORGOTTEN}')",
        names.join(", "),
        quoted::text(dataset),
        quoted::text(&gone.object.key),
        quoted::text(&gone.object.etag),
    );
    let mut found = Vec::new();
    for batch in context.sql(&sql).await?.collect().await? {
        let schema = discard::schema();
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()));
        let mut columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let places = columns[7].as_primitive::<Int64Type>().clone();
        let now = |place: i64| gone.discarded(place);
        let numbers = |at: usize, of: fn(&DiscardRow) -> i64| -> ArrayRef {
            let before = columns[at].as_primitive::<Int64Type>();
            let numbers = places.values().iter().zip(before.values());
            Arc::new(Int64Array::from_iter_values(
                numbers.map(|(place, before)| now(*place).map_or(*before, of)),
            ))
        };
        let (offsets, lens) = (numbers(8, |row| row.byte_offset), numbers(9, |row| row.byte_len));
        let records = columns[10].as_string::<i32>();
        let records = places.values().iter().zip(records.iter()).map(|(place, before)| {
            now(*place).map_or_else(|| before.unwrap_or_default().to_owned(), |row| row.record.clone())
        });
        columns[10] = Arc::new(StringArray::from_iter_values(records.collect::<Vec<_>>()));
        (columns[8], columns[9]) = (offsets, lens);
        let batch = RecordBatch::try_new(discard::schema(), columns)?;
        for row in (0..batch.num_rows()).filter(|row| !erased.contains(&places.value(*row))) {
            found.push((batch.column(1).as_string::<i32>().value(row).to_owned(), batch.slice(row, 1)));
        }
    }
    Ok(found)
}

/// The ledger's rows of the objects, counted anew.
async fn in_ledger(lake: &Lake, checker: &Checker, gone: &[Gone<'_>]) -> Result<(), ForgetError> {
    let known = gone.iter().filter(|gone| gone.entry.is_some());
    let known: BTreeMap<String, &Gone<'_>> =
        known.map(|gone| (BronzeObject::id_of(&gone.object.key, &gone.object.etag), gone)).collect();
    let ids = known.keys().cloned().collect();
    let as_bronze_has_it = |id: &str, entry: &mut Entry| {
        if let Some((candidate, found)) = known.get(id).and_then(|gone| gone.now.as_ref()) {
            entry.bytes = candidate.object.bytes.cast_signed();
            entry.warnings.clone_from(&found.warnings);
        }
    };
    Ok(recount(lake, checker.contract(), &ids, None, as_bronze_has_it).await?)
}

/// The objects' places in a table of their own.
fn batch(objects: &[(&plan::Object, BTreeSet<i64>)]) -> Result<RecordBatch, ForgetError> {
    let places = objects.iter().flat_map(|(object, ordinals)| {
        ordinals.iter().map(|ordinal| (object.key.as_str(), object.etag.as_str(), *ordinal))
    });
    Ok(place::places(places)?)
}

async fn rewrite(
    table: &mut Table,
    partition: &Partition,
    places: &RecordBatch,
    added: Option<RecordBatch>,
) -> Result<(), ForgetError> {
    for conflicts in 0..CONFLICTS_MAX {
        match table.rewrite_without(partition, places, added.clone()).await {
            Err(CommitError::Conflict { .. }) if conflicts + 1 < CONFLICTS_MAX => {
                after_conflict(conflicts).await;
                table.refresh().await?;
            }
            done => return Ok(done?),
        }
    }
    Ok(())
}
