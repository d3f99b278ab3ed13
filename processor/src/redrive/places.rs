//! Where a rule discarded rows: which objects, which places in them, and what stands there.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::record_batch::RecordBatch;

use super::{Moved, RedriveError, Which};
use crate::contract::Contract;
use crate::discard;
use crate::lake::{BronzeObject, Lake};
use crate::quoted;
use crate::session;
use crate::table::{CommitError, Table, after_conflict, place};

/// An object that the work list names.
pub(super) struct Listed {
    pub dataset: String,
    pub key: String,
    pub etag: String,
    /// The day under which its discards are filed.
    pub day: String,
    /// Its rows on the work list.
    pub rows: u64,
}

/// The objects of which the rule discarded rows, by dataset and day.
pub(super) async fn work(lake: &Lake, which: &Which) -> Result<Vec<Listed>, RedriveError> {
    let sql = format!(
        "SELECT dataset, dt, bronze_key, bronze_etag, count(*) FROM discard WHERE {} AND {}
         GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
        named_by(which),
        of(which.dataset.as_deref())
    );
    let mut listed = Vec::new();
    for batch in in_discard(lake, &sql).await? {
        let cells: Vec<_> = batch.columns()[..4]
            .iter()
            .map(|column| cast(column, &DataType::Utf8))
            .collect::<Result<_, _>>()?;
        let text = |column: usize, row: usize| cells[column].as_string::<i32>().value(row).to_owned();
        let rows = batch.column(4).as_primitive::<Int64Type>();
        listed.extend((0..batch.num_rows()).map(|row| Listed {
            dataset: text(0, row),
            day: text(1, row),
            key: text(2, row),
            etag: text(3, row),
            rows: rows.value(row).unsigned_abs(),
        }));
    }
    Ok(listed)
}

/// The rules that discard rows name, and how many do.
pub(super) async fn rules(lake: &Lake, dataset: Option<&str>) -> Result<BTreeMap<String, u64>, RedriveError> {
    let sql = format!(
        "SELECT rule, count(*) FROM (SELECT unnest(string_to_array(rules, ',')) AS rule FROM discard WHERE {})
         GROUP BY rule",
        of(dataset)
    );
    let mut rules = BTreeMap::new();
    for batch in in_discard(lake, &sql).await? {
        let names = cast(batch.column(0), &DataType::Utf8)?;
        let rows = batch.column(1).as_primitive::<Int64Type>();
        let named = names.as_string::<i32>().iter().flatten().zip(rows.values());
        rules.extend(named.map(|(rule, rows)| (rule.to_owned(), rows.unsigned_abs())));
    }
    Ok(rules)
}

/// What the lake's discard table answers; nothing where there is none.
async fn in_discard(lake: &Lake, sql: &str) -> Result<Vec<RecordBatch>, RedriveError> {
    match Table::open(lake, discard::PATH).await? {
        Some(table) => answer(&table, sql).await,
        None => Ok(Vec::new()),
    }
}

/// What this version of the discard table answers.
async fn answer(discard: &Table, sql: &str) -> Result<Vec<RecordBatch>, RedriveError> {
    let context = session::context();
    context.register_table("discard", discard.provider().await?)?;
    Ok(context.sql(sql).await?.collect().await?)
}

/// Whether a discard row is of the dataset, in SQL.
fn of(dataset: Option<&str>) -> String {
    dataset.map_or("TRUE".to_owned(), |dataset| format!("dataset = {}", quoted::text(dataset)))
}

/// Whether a discard row is on the work list, in SQL.
fn named_by(which: &Which) -> String {
    // Not LIKE: `_` in a rule's name would match any letter.
    let rule = quoted::text(&format!(",{},", which.rule));
    let since = which.since_ms.map(|ms| format!(" AND discarded_at >= to_timestamp_millis({ms})"));
    format!("strpos(concat(',', rules, ','), {rule}) > 0{}", since.unwrap_or_default())
}

/// What stands at a place: its rules and its record.
type Standing = BTreeMap<i64, (String, String)>;

/// A group's places on the work list, of one dataset and day, in one snapshot of discard at a time. A later one has no
/// places beyond the first's: what another redrive put on the list meanwhile was not judged by this one, and waits for
/// the next.
pub(super) struct Places {
    which: Which,
    dataset: String,
    day: String,
    table: Table,
    objects: BTreeSet<(String, String)>,
    standing: BTreeMap<(String, String), (BTreeSet<i64>, Standing)>,
    /// The first snapshot's places, once it is read.
    first: Option<BTreeMap<(String, String), BTreeSet<i64>>>,
    conflicts: u32,
}

impl Places {
    pub(super) async fn open(
        lake: &Lake,
        which: &Which,
        (dataset, day): (&str, &str),
        objects: impl Iterator<Item = &BronzeObject>,
    ) -> Result<Self, RedriveError> {
        let mut places = Self {
            which: which.clone(),
            dataset: dataset.to_owned(),
            day: day.to_owned(),
            table: discard::open(lake).await?,
            objects: objects.map(id).collect(),
            standing: BTreeMap::new(),
            first: None,
            conflicts: 0,
        };
        places.read().await?;
        let first = places.standing.iter().map(|(id, (ordinals, _))| (id.clone(), ordinals.clone()));
        places.first = Some(first.collect());
        Ok(places)
    }

    async fn read(&mut self) -> Result<(), RedriveError> {
        self.standing.clear();
        let keys: BTreeSet<&String> = self.objects.iter().map(|(key, _)| key).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "SELECT bronze_key, bronze_etag, rules, record, ordinal FROM discard
             WHERE dataset = {} AND dt = {} AND bronze_key IN ({}) AND {}",
            quoted::text(&self.dataset),
            quoted::text(&self.day),
            quoted::texts(keys),
            named_by(&self.which)
        );
        for batch in answer(&self.table, &sql).await? {
            let cells: Vec<_> = batch.columns()[..4]
                .iter()
                .map(|column| cast(column, &DataType::Utf8))
                .collect::<Result<_, _>>()?;
            let text = |column: usize, row: usize| cells[column].as_string::<i32>().value(row).to_owned();
            let ordinals = batch.column(4).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let (id, ordinal) = ((text(0, row), text(1, row)), ordinals.value(row));
                let is_first = |first: &BTreeMap<_, BTreeSet<i64>>| {
                    first.get(&id).is_some_and(|ordinals| ordinals.contains(&ordinal))
                };
                if self.objects.contains(&id) && self.first.as_ref().is_none_or(is_first) {
                    let (places, standing) = self.standing.entry(id).or_default();
                    places.insert(ordinal);
                    standing.insert(ordinal, (text(2, row), text(3, row)));
                }
            }
        }
        Ok(())
    }

    /// The object's places on the work list, if it has any.
    pub(super) fn of(&self, object: &BronzeObject) -> Option<&BTreeSet<i64>> {
        self.standing.get(&id(object)).map(|(places, _)| places)
    }

    /// The objects' places on the work list, in a table of their own.
    pub(super) fn leaving(&self, moved: &[&Moved<'_>]) -> Result<RecordBatch, RedriveError> {
        let places = moved.iter().flat_map(|moved| {
            let BronzeObject { key, etag, .. } = moved.object();
            let ordinals = self.of(moved.object()).into_iter().flatten();
            ordinals.map(|ordinal| (key.as_str(), etag.as_str(), *ordinal))
        });
        Ok(place::places(places)?)
    }

    /// Whether anything at the object's places is not what it would be now.
    pub(super) fn differ(&self, moved: &Moved<'_>) -> bool {
        let now: Standing = moved
            .discards
            .iter()
            .map(|row| (row.ordinal, (row.rules.join(","), row.record.clone())))
            .collect();
        self.standing.get(&id(moved.object())).is_some_and(|(_, standing)| *standing != now)
    }

    /// Replaces what stands at the objects' places. `false`: another writer was first, and the places
    /// were read anew.
    pub(super) async fn replace(
        &mut self,
        lake: &Lake,
        contract: &Contract,
        moved: &[&Moved<'_>],
    ) -> Result<bool, RedriveError> {
        let now_ms = Utc::now().timestamp_millis();
        let mut batches = vec![RecordBatch::new_empty(discard::schema())];
        for object in moved {
            batches.push(discard::rows(contract, object.object(), &self.day, &object.discards, now_ms)?);
        }
        let rows = concat_batches(&discard::schema(), &batches)?;
        let leaving = self.leaving(moved)?;
        let partition = discard::partition(&self.dataset, &self.day);
        match self.table.rewrite_without(&partition, &leaving, Some(rows)).await {
            Ok(()) => Ok(true),
            Err(CommitError::Conflict { .. }) if self.conflicts < crate::table::CONFLICTS_MAX => {
                after_conflict(self.conflicts).await;
                self.conflicts += 1;
                self.table = discard::open(lake).await?;
                self.read().await?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn id(object: &BronzeObject) -> (String, String) {
    (object.key.clone(), object.etag.clone())
}
