//! Looking for a subject's rows; nothing is changed.
//!
//! Found through the tables. Where silver shows the column as it is or by its pseudonym, silver and discard name
//! the objects, and those of which retention let rows go are read. Where the column is masked, dropped or scanned, nothing
//! outside bronze knows the value, and every object that the ledger has of the dataset is read. Objects whose discards could
//! not be read as rows are read in any case, and those in quarantine. Bronze is never listed.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::DataFusionError;
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use serde_json::Value;

use super::object::{self, has_word};
use super::plan::{Dataset, Object, Plan};
use super::{ForgetError, IN_FLIGHT_MS, Subject};
use crate::bronze::BronzeKey;
use crate::contract::{Contract, Redact};
use crate::decode::FORGOTTEN;
use crate::lake::{BronzeObject, Lake};
use crate::pseudonym::PseudonymKey;
use crate::reading::Reading;
use crate::retention::expired;
use crate::table::Table;
use crate::{discard, ledger, quarantine, quoted, session, silver};

/// Keys of objects in one statement.
const KEYS_AT_ONCE: usize = 1_000;
/// Objects that are looked up at once.
const LOOKED_UP_AT_ONCE: usize = 256;
/// Rules whose rows could not be read, so that nobody knows whose they are.
const UNREADABLE: [&str; 14] = [
    "frame",
    "line_too_long",
    "not_utf8",
    "malformed_json",
    "not_an_object",
    "duplicate_key",
    "ragged_row",
    "open_quote",
    "no_header",
    "gz",
    "zst",
    "parquet",
    "unreadable",
    FORGOTTEN,
];

/// An object's key and tag.
pub(super) type Id = (String, String);

/// A look for a subject in some datasets.
pub(super) struct Look<'a> {
    pub lake: &'a Lake,
    pub contracts: &'a [&'a Contract],
    pub key: &'a PseudonymKey,
    pub subject: &'a Subject,
    /// When it began: milliseconds since 1970-01-01 UTC.
    pub started_ms: i64,
}

impl Look<'_> {
    /// What there is of the subject; `read` learns which objects were read.
    pub(super) async fn first(
        &self,
        read: &mut BTreeSet<Id>,
        progress: impl Fn(u64, u64),
    ) -> Result<Plan, ForgetError> {
        self.plan(0, read, &progress).await
    }

    /// What came since: rows in the tables, and objects that were not read before.
    pub(super) async fn again(&self, read: &mut BTreeSet<Id>) -> Result<Plan, ForgetError> {
        self.plan(self.started_ms - IN_FLIGHT_MS, read, &|_, _| {}).await
    }

    async fn plan(
        &self,
        since_ms: i64,
        read: &mut BTreeSet<Id>,
        progress: &impl Fn(u64, u64),
    ) -> Result<Plan, ForgetError> {
        let mut plan = Plan { made_ms: self.started_ms, ..Plan::default() };
        for contract in self.contracts {
            let found = Search::new(self, contract, since_ms, read)?.dataset(progress).await?;
            plan.datasets.insert(contract.dataset.clone(), found);
        }
        Ok(plan)
    }
}

/// How silver shows the subject; `None` where it does not.
pub(super) fn shown(contract: &Contract, key: &PseudonymKey, subject: &Subject) -> Option<String> {
    let column = contract.columns.iter().find(|column| column.name == subject.column)?;
    match column.redact {
        Redact::None => Some(subject.value.clone()),
        Redact::Pseudonym => Some(key.pseudonym(&subject.value)),
        Redact::Mask | Redact::Drop | Redact::Scan => None,
    }
}

struct Search<'a> {
    lake: &'a Lake,
    contract: &'a Contract,
    subject: &'a Subject,
    column: usize,
    shown: Option<String>,
    /// Of the ledger, only what was processed since.
    since_ms: i64,
    read: &'a mut BTreeSet<Id>,
    places: BTreeMap<Id, BTreeSet<i64>>,
    /// Keys of objects that are read.
    candidates: BTreeSet<String>,
    mentions: BTreeMap<String, u64>,
}

impl<'a> Search<'a> {
    fn new(
        look: &Look<'a>,
        contract: &'a Contract,
        since_ms: i64,
        read: &'a mut BTreeSet<Id>,
    ) -> Result<Self, ForgetError> {
        let column = contract.column_index(&look.subject.column).ok_or(ForgetError::Subject)?;
        Ok(Self {
            lake: look.lake,
            contract,
            subject: look.subject,
            column,
            shown: shown(contract, look.key, look.subject),
            since_ms,
            read,
            places: BTreeMap::new(),
            candidates: BTreeSet::new(),
            mentions: BTreeMap::new(),
        })
    }

    async fn dataset(mut self, progress: &impl Fn(u64, u64)) -> Result<Dataset, ForgetError> {
        self.in_silver().await?;
        self.in_discard().await?;
        self.in_books().await?;
        let candidates = std::mem::take(&mut self.candidates);
        let candidates: Vec<String> = candidates.into_iter().collect();
        let found = candidates.len() as u64;
        let mut in_bronze = BTreeSet::new();
        let mut done = 0;
        for keys in candidates.chunks(LOOKED_UP_AT_ONCE) {
            for object in self.lake.bronze_objects(keys).await? {
                in_bronze.extend(self.in_bronze(object).await?);
                done += 1;
                progress(done, found);
            }
        }
        let mut objects = self.booked().await?;
        for object in &mut objects {
            object.in_bronze = in_bronze.contains(&(object.key.clone(), object.etag.clone()));
        }
        Ok(Dataset { objects, mentions: self.mentions })
    }

    /// The rows that silver, or versions, show under the subject's name.
    async fn in_silver(&mut self) -> Result<(), ForgetError> {
        let Some(shown) = self.shown.clone() else { return Ok(()) };
        let Some(table) = Table::open(self.lake, &silver::rows_path(self.contract)).await? else {
            return Ok(());
        };
        let context = session::context();
        context.register_table("silver", table.provider().await?)?;
        let sql = format!(
            "SELECT bronze_key, bronze_etag, ordinal FROM silver WHERE CAST({} AS VARCHAR) = {}",
            quoted::name(&self.subject.column),
            quoted::text(&shown)
        );
        let mut named = Vec::new();
        each(context.sql(&sql).await?, |texts, ordinal| named.push((id(texts), ordinal))).await?;
        named.into_iter().for_each(|(id, ordinal)| self.place(id, ordinal));
        Ok(())
    }

    /// The discard rows whose record names the subject, and those of which nobody can say.
    async fn in_discard(&mut self) -> Result<(), ForgetError> {
        let Some(table) = Table::open(self.lake, discard::PATH).await? else { return Ok(()) };
        let context = session::context();
        context.register_table("discard", table.provider().await?)?;
        let unreadable = quoted::texts(UNREADABLE);
        let named = match &self.shown {
            Some(shown) => {
                let written = Value::from(shown.as_str()).to_string();
                format!(" OR strpos(record, {}) > 0", quoted::text(&written[1..written.len() - 1]))
            }
            None => String::new(),
        };
        let sql = format!(
            "SELECT bronze_key, bronze_etag, ordinal, rule, record FROM discard
             WHERE dataset = {} AND (rule IN ({unreadable}) OR record LIKE '%[cut]'{named})",
            quoted::text(&self.contract.dataset)
        );
        let (shown, column) = (self.shown.clone(), &self.subject.column);
        let (mut named, mut unreadable) = (Vec::new(), BTreeSet::new());
        each(context.sql(&sql).await?, |texts, ordinal| {
            let record: Value = serde_json::from_str(&texts[3]).unwrap_or_default();
            let is_named = match (&shown, &record[column]) {
                (Some(shown), Value::String(text)) => text == shown,
                (Some(shown), Value::Null) => {
                    record.is_null() && has_word(texts[3].as_bytes(), shown.as_bytes())
                }
                (Some(shown), other) => *other.to_string() == **shown,
                (None, _) => false,
            };
            if is_named {
                named.push((id(texts), ordinal));
            } else {
                unreadable.insert(id(texts));
            }
        })
        .await?;
        unreadable.iter().for_each(|id| self.candidate(id));
        named.into_iter().for_each(|(id, ordinal)| self.place(id, ordinal));
        Ok(())
    }

    /// A row of the subject's; its object may hold more.
    fn place(&mut self, id: Id, ordinal: i64) {
        self.candidate(&id);
        self.places.entry(id).or_default().insert(ordinal);
    }

    /// An object that is to be read, unless it was.
    fn candidate(&mut self, id: &Id) {
        if !self.read.contains(id) {
            self.candidates.insert(id.0.clone());
        }
    }

    /// Objects that no row points to: in quarantine, without the rows that retention let go, or of a column that
    /// nothing but bronze shows.
    async fn in_books(&mut self) -> Result<(), ForgetError> {
        let mut books = vec![(quarantine::PATH, String::new())];
        match self.shown {
            Some(_) => books.push((expired::PATH, " AND tier <> 'bronze'".to_owned())),
            None => {
                let since = format!(" AND processed_at >= to_timestamp_millis({})", self.since_ms);
                books.push((ledger::PATH, since));
            }
        }
        for (path, which) in books {
            let Some(table) = Table::open(self.lake, path).await? else { continue };
            let context = session::context();
            context.register_table("books", table.provider().await?)?;
            let sql = format!(
                "SELECT DISTINCT bronze_key, bronze_etag, CAST(0 AS BIGINT) AS ordinal FROM books WHERE dataset = {}{which}",
                quoted::text(&self.contract.dataset)
            );
            let mut found = Vec::new();
            each(context.sql(&sql).await?, |texts, _| found.push(id(texts))).await?;
            found.iter().for_each(|id| self.candidate(id));
        }
        Ok(())
    }

    /// Reads an object; its identity, if it holds rows that go.
    async fn in_bronze(&mut self, object: BronzeObject) -> Result<Option<Id>, ForgetError> {
        let parsed = BronzeKey::parse(&object.key, |name| name == self.contract.dataset);
        let Ok(parsed) = parsed else { return Ok(None) };
        let mut found = object::Found::default();
        let mut reading = Reading::open(self.lake, &object, &parsed).await?;
        while reading.fill().await? {
            let Some(part) = reading.part() else { break };
            let taken = object::find(self.contract, &part, self.column, &self.subject.value, &mut found);
            reading.pass(&taken);
        }
        drop(reading);
        if found.mentions > 0 {
            self.mentions.insert(object.key.clone(), found.mentions);
        }
        let id = (object.key, object.etag);
        self.read.insert(id.clone());
        if !found.places.is_empty() {
            self.places.entry(id.clone()).or_default().extend(found.places);
        }
        Ok(self.places.contains_key(&id).then_some(id))
    }

    /// The objects, with what the tables have at their places.
    async fn booked(&mut self) -> Result<Vec<Object>, ForgetError> {
        let places = std::mem::take(&mut self.places);
        let keys: BTreeSet<&str> = places.keys().map(|(key, _)| key.as_str()).collect();
        let keys: Vec<&str> = keys.into_iter().collect();
        let mut objects = Vec::with_capacity(places.len());
        // So many names at once as a statement bears.
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let keys: BTreeSet<&str> = keys.iter().copied().collect();
            // First, as it is written last: of an object that it has, the tables have had every row.
            let entries = ledger::entries_of(&ledger::open(self.lake).await?, &keys).await?;
            let entries: BTreeSet<String> = entries.iter().map(ledger::Entry::id).collect();
            let gone = expired::of(self.lake, self.contract, &keys).await?;
            let silver = self.at(&silver::rows_path(self.contract), "'' AS rule", "", &keys, &places).await?;
            let dataset = format!(" AND dataset = {}", quoted::text(&self.contract.dataset));
            let discard = self.at(discard::PATH, "rule", &dataset, &keys, &places).await?;
            for (id, places) in places.iter().filter(|((key, _), _)| keys.contains(key.as_str())) {
                let none = BTreeMap::new();
                let (silver, discard) = (silver.get(id).unwrap_or(&none), discard.get(id).unwrap_or(&none));
                let known = BronzeObject::id_of(&id.0, &id.1);
                let may_be_gone = entries.contains(&known) && gone.contains_key(&known);
                let is_gone =
                    |at: &&i64| may_be_gone && !silver.contains_key(at) && !discard.contains_key(at);
                objects.push(Object {
                    key: id.0.clone(),
                    etag: id.1.clone(),
                    in_bronze: false,
                    silver: silver.keys().copied().collect(),
                    discard: discard
                        .iter()
                        .filter(|(_, rule)| *rule != FORGOTTEN)
                        .map(|(at, _)| *at)
                        .collect(),
                    expired: places.iter().filter(is_gone).copied().collect(),
                    places: places.iter().copied().collect(),
                });
            }
        }
        Ok(objects)
    }

    /// The rows that a table has at these places, by object, with their rules.
    async fn at(
        &self,
        path: &str,
        rule: &str,
        which: &str,
        keys: &BTreeSet<&str>,
        places: &BTreeMap<Id, BTreeSet<i64>>,
    ) -> Result<BTreeMap<Id, BTreeMap<i64, String>>, ForgetError> {
        let mut found: BTreeMap<Id, BTreeMap<i64, String>> = BTreeMap::new();
        let Some(table) = Table::open(self.lake, path).await? else { return Ok(found) };
        let context = session::context();
        context.register_table("rows", table.provider().await?)?;
        let sql = format!(
            "SELECT bronze_key, bronze_etag, ordinal, {rule} FROM rows WHERE bronze_key IN ({}){which}",
            quoted::texts(keys)
        );
        each(context.sql(&sql).await?, |texts, ordinal| {
            let id = id(texts);
            if places.get(&id).is_some_and(|places| places.contains(&ordinal)) {
                found.entry(id).or_default().insert(ordinal, texts[2].clone());
            }
        })
        .await?;
        Ok(found)
    }
}

fn id(texts: &[String]) -> Id {
    (texts[0].clone(), texts[1].clone())
}

/// Gives every row to `of`: its texts, and the number that is its third column.
async fn each(rows: DataFrame, mut of: impl FnMut(&[String], i64)) -> Result<(), ForgetError> {
    let mut rows = rows.execute_stream().await?;
    while let Some(batch) = rows.try_next().await? {
        let texts = |at: usize| cast(batch.column(at), &DataType::Utf8).map_err(DataFusionError::from);
        let columns = (0..batch.num_columns()).filter(|at| *at != 2).map(texts);
        let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
        let ordinals = batch.column(2).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let texts: Vec<String> =
                columns.iter().map(|column| column.as_string::<i32>().value(row).to_owned()).collect();
            of(&texts, ordinals.value(row));
        }
    }
    Ok(())
}
