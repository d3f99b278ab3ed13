//! What goes: the objects that hold rows of the subject, and the places of these rows in them.
//!
//! Found through the tables. Where silver shows the column as it is or by its pseudonym, silver and discard name
//! the objects. Where the column is masked, dropped or scanned, nothing outside bronze knows the value, and every
//! object that the ledger has of the dataset is read. Objects whose discards could not be read as rows are
//! read in any case, and those in quarantine. Bronze is never listed.
//!
//! The plan is stored under the subject's hash until all is done. It holds keys, places and counts, no value.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::DataFusionError;
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::object::{self, has_word};
use super::receipt::Erased;
use super::{ForgetError, Subject};
use crate::bronze::BronzeKey;
use crate::contract::{Contract, Redact};
use crate::decode::FORGOTTEN;
use crate::lake::{BronzeObject, Lake};
use crate::pseudonym::PseudonymKey;
use crate::reading::Reading;
use crate::table::Table;
use crate::{discard, ledger, quarantine, quoted, session, silver};

/// Where plans are, below the lake.
const DIR: &str = "forgetting";
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

/// What goes, by dataset.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Plan {
    /// When it was made: milliseconds since 1970-01-01 UTC.
    pub made_ms: i64,
    pub datasets: BTreeMap<String, Dataset>,
}

/// What goes of one dataset.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Dataset {
    pub objects: Vec<Object>,
    /// Rows of silver, or of versions.
    pub silver: u64,
    pub discard: u64,
    pub mentions: u64,
}

/// An object that holds, or held, rows of the subject.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Object {
    pub key: String,
    pub etag: String,
    /// Whether bronze has it in this state.
    pub in_bronze: bool,
    pub places: Places,
}

/// Places in an object, as runs: the first one and how many.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Places(Vec<(i64, i64)>);

impl Places {
    pub(super) fn all(&self) -> BTreeSet<i64> {
        self.0.iter().flat_map(|(first, count)| *first..first + count).collect()
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count.unsigned_abs()).sum()
    }
}

impl FromIterator<i64> for Places {
    fn from_iter<I: IntoIterator<Item = i64>>(places: I) -> Self {
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for place in places {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == place => *count += 1,
                _ => runs.push((place, 1)),
            }
        }
        Self(runs)
    }
}

impl Dataset {
    pub(super) fn erased(&self) -> Erased {
        let in_bronze = || self.objects.iter().filter(|object| object.in_bronze);
        Erased {
            bronze_objects: in_bronze().count() as u64,
            bronze_rows: in_bronze().map(|object| object.places.count()).sum(),
            silver_rows: self.silver,
            discard_rows: self.discard,
            mentions: self.mentions,
        }
    }
}

impl Plan {
    pub(super) fn objects(&self) -> u64 {
        self.datasets.values().map(|dataset| dataset.objects.len() as u64).sum()
    }

    /// The plan of a run that was cut.
    pub(super) async fn stored(lake: &Lake, mark: &str) -> Result<Option<Self>, ForgetError> {
        let Some((_, bytes)) = lake.newest_document(&dir(mark)).await? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&bytes).map_err(ForgetError::Plan)?))
    }

    pub(super) async fn store(&self, lake: &Lake, mark: &str) -> Result<(), ForgetError> {
        let bytes = serde_json::to_vec(self).map_err(ForgetError::Plan)?;
        // Another run of the same command may have been first; both do the same.
        lake.put_document(&dir(mark), 0, bytes).await?;
        Ok(())
    }

    /// All of it is done.
    pub(super) async fn finish(lake: &Lake, mark: &str) -> Result<(), ForgetError> {
        Ok(lake.drop_documents(&dir(mark), true).await?)
    }

    /// Looks for the subject's rows; nothing is changed.
    pub(super) async fn make(
        lake: &Lake,
        contracts: &[&Contract],
        key: &PseudonymKey,
        subject: &Subject,
        made_ms: i64,
        progress: &impl Fn(u64, u64),
    ) -> Result<Self, ForgetError> {
        let mut plan = Self { made_ms, ..Self::default() };
        for contract in contracts {
            let found = Search::new(lake, contract, key, subject)?.dataset(progress).await?;
            plan.datasets.insert(contract.dataset.clone(), found);
        }
        Ok(plan)
    }
}

fn dir(mark: &str) -> String {
    format!("{DIR}/{mark}")
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

/// An object's key and tag.
type Id = (String, String);

struct Search<'a> {
    lake: &'a Lake,
    contract: &'a Contract,
    subject: &'a Subject,
    column: usize,
    shown: Option<String>,
    places: BTreeMap<Id, BTreeSet<i64>>,
    /// Keys of objects that are read.
    candidates: BTreeSet<String>,
    found: Dataset,
}

impl<'a> Search<'a> {
    fn new(
        lake: &'a Lake,
        contract: &'a Contract,
        key: &PseudonymKey,
        subject: &'a Subject,
    ) -> Result<Self, ForgetError> {
        let column = contract.column_index(&subject.column).ok_or(ForgetError::Subject)?;
        Ok(Self {
            lake,
            contract,
            subject,
            column,
            shown: shown(contract, key, subject),
            places: BTreeMap::new(),
            candidates: BTreeSet::new(),
            found: Dataset::default(),
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
        self.count().await?;
        let objects = self.places.into_iter().map(|((key, etag), places)| {
            let in_bronze = in_bronze.contains(&(key.clone(), etag.clone()));
            Object { key, etag, in_bronze, places: places.into_iter().collect() }
        });
        Ok(Dataset { objects: objects.collect(), ..self.found })
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
        let (places, candidates) = (&mut self.places, &mut self.candidates);
        each(context.sql(&sql).await?, |texts, ordinal| {
            candidates.insert(texts[0].clone());
            places.entry((texts[0].clone(), texts[1].clone())).or_default().insert(ordinal);
        })
        .await
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
        let (places, candidates) = (&mut self.places, &mut self.candidates);
        let (shown, column) = (self.shown.clone(), &self.subject.column);
        each(context.sql(&sql).await?, |texts, ordinal| {
            candidates.insert(texts[0].clone());
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
                places.entry((texts[0].clone(), texts[1].clone())).or_default().insert(ordinal);
            }
        })
        .await
    }

    /// Objects that no row points to.
    async fn in_books(&mut self) -> Result<(), ForgetError> {
        let mut paths = vec![quarantine::PATH];
        if self.shown.is_none() {
            paths.push(ledger::PATH);
        }
        for path in paths {
            let Some(table) = Table::open(self.lake, path).await? else { continue };
            let context = session::context();
            context.register_table("books", table.provider().await?)?;
            let sql = format!(
                "SELECT DISTINCT bronze_key, bronze_etag, CAST(0 AS BIGINT) AS ordinal FROM books WHERE dataset = {}",
                quoted::text(&self.contract.dataset)
            );
            let candidates = &mut self.candidates;
            each(context.sql(&sql).await?, |texts, _| {
                candidates.insert(texts[0].clone());
            })
            .await?;
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
        self.found.mentions += found.mentions;
        let id = (object.key, object.etag);
        if !found.places.is_empty() {
            self.places.entry(id.clone()).or_default().extend(found.places);
        }
        Ok(self.places.contains_key(&id).then_some(id))
    }

    /// How many rows of silver and discard are at the places.
    async fn count(&mut self) -> Result<(), ForgetError> {
        let dataset = quoted::text(&self.contract.dataset);
        for (path, of) in [
            (silver::rows_path(self.contract), String::new()),
            (discard::PATH.to_owned(), format!(" AND dataset = {dataset} AND rule <> '{FORGOTTEN}'")),
        ] {
            let Some(table) = Table::open(self.lake, &path).await? else { continue };
            let context = session::context();
            context.register_table("rows", table.provider().await?)?;
            let mut rows = 0;
            let keys: Vec<&String> = self.places.keys().map(|(key, _)| key).collect();
            // So many names at once as a statement bears.
            for keys in keys.chunks(1_000) {
                let sql = format!(
                    "SELECT bronze_key, bronze_etag, ordinal FROM rows WHERE bronze_key IN ({}){of}",
                    quoted::texts(keys)
                );
                let places = &self.places;
                each(context.sql(&sql).await?, |texts, ordinal| {
                    let id = (texts[0].clone(), texts[1].clone());
                    rows += u64::from(places.get(&id).is_some_and(|places| places.contains(&ordinal)));
                })
                .await?;
            }
            if path == discard::PATH { self.found.discard = rows } else { self.found.silver = rows }
        }
        Ok(())
    }
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
