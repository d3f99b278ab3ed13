//! Who is forgotten: the table by which a row that comes back is known, without saying whose it is.
//!
//! A subject is a column's name and a value. The table holds a keyed hash of it (HMAC-SHA256 under the key of
//! pseudonyms), so nobody without the key can try values. Rows of a forgotten subject, and the gaps that erasure
//! left in bronze, are discarded by the rule [`FORGOTTEN`](crate::decode::FORGOTTEN) before anything else is judged.
//!
//! A lake that has forgotten somebody is only processed with the same key: without it a redelivery would come back.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::Utc;
use datafusion::arrow::array::{AsArray, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;

use crate::bronze::Format;
use crate::column::{text, utc};
use crate::contract::{Column, Contract, LogicalType, Redact};
use crate::decode::{Fault, Field};
use crate::erased::is_erased;
use crate::lake::Lake;
use crate::pseudonym::PseudonymKey;
use crate::session;
use crate::table::{CommitError, Table, TableError};

/// Where the table is, below the lake.
pub const PATH: &str = "forgotten";
/// What the hash of a subject is for.
const PURPOSE: &str = "forgotten";
/// What the hash that tells keys apart is for.
const KEY_PURPOSE: &str = "key";
/// Values of a column whose answer is remembered within an object.
const VALUES_MAX: usize = 4_096;

/// The table could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ForgottenError {
    /// Subjects were forgotten, and there is no key to know them by.
    #[error(
        "the lake has forgotten subjects: give the key under which they were, --pseudonym-key-file FILE or INGOT_PSEUDONYM_KEY; without it their rows would come back"
    )]
    NoKey,
    /// The key is another.
    #[error("the lake's subjects were forgotten under another key than the one given; give that key")]
    OtherKey,
    /// The table failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// It could not be read.
    #[error("reading who is forgotten: {0}")]
    Query(#[from] DataFusionError),
}

impl From<TableError> for ForgottenError {
    fn from(error: TableError) -> Self {
        Self::Commit(error.into())
    }
}

/// Whether people or devices can be told by the column: it is declared personal, or a text of the key.
pub fn names_subjects(contract: &Contract, column: &Column) -> bool {
    let is_key = contract.key.contains(&column.name) && column.logical_type == LogicalType::String;
    column.personal || column.redact != Redact::None || is_key
}

/// The hash of a subject.
pub(crate) fn mark(key: &PseudonymKey, column: &str, value: &str) -> String {
    key.tag(PURPOSE, &[column.as_bytes(), b"\0", value.as_bytes()].concat())
}

/// The table's columns.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![text("column"), text("mark"), text("key_mark"), utc("forgotten_at")]))
}

/// Notes the subject; once, however often it is asked for.
pub(crate) async fn remember(
    lake: &Lake,
    key: &PseudonymKey,
    column: &str,
    mark: &str,
) -> Result<(), ForgottenError> {
    let mut table = Table::open_or_create(lake, PATH, &schema(), &[]).await?;
    for known in rows(&table).await? {
        if known.key_mark != key.tag(KEY_PURPOSE, b"") {
            return Err(ForgottenError::OtherKey);
        }
    }
    let same = |text: &str| Arc::new(StringArray::from(vec![text]));
    let now = TimestampMicrosecondArray::from_value(Utc::now().timestamp_micros(), 1).with_timezone("UTC");
    let row = RecordBatch::try_new(
        schema(),
        vec![same(column), same(mark), same(&key.tag(KEY_PURPOSE, b"")), Arc::new(now)],
    );
    let row = row.map_err(DataFusionError::from)?;
    Ok(table.append_once(&[(mark.to_owned(), row)]).await?)
}

/// Takes over whom another lake has forgotten.
pub(crate) async fn adopt(from: &Lake, into: &Lake) -> Result<(), ForgottenError> {
    let Some(table) = Table::open(from, PATH).await? else { return Ok(()) };
    let found = session::context().read_table(table.provider().await?)?.collect().await?;
    let mut there = Table::open_or_create(into, PATH, &schema(), &[]).await?;
    for batch in found {
        let schema = schema();
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()));
        let columns: Vec<_> = columns.collect::<Result<_, _>>().map_err(DataFusionError::from)?;
        let batch = RecordBatch::try_new(schema.clone(), columns).map_err(DataFusionError::from)?;
        let marks = batch.column(1).as_string::<i32>().clone();
        let rows: Vec<_> =
            (0..batch.num_rows()).map(|row| (marks.value(row).to_owned(), batch.slice(row, 1))).collect();
        there.append_once(&rows).await?;
    }
    Ok(())
}

struct Known {
    column: String,
    mark: String,
    key_mark: String,
}

async fn rows(table: &Table) -> Result<Vec<Known>, ForgottenError> {
    let found = session::context()
        .read_table(table.provider().await?)?
        .select_columns(&["column", "mark", "key_mark"])?
        .collect()
        .await?;
    let mut known = Vec::new();
    for batch in found {
        let columns: Vec<_> = batch.columns().iter().map(|column| cast(column, &DataType::Utf8)).collect();
        let columns: Vec<_> = columns.into_iter().collect::<Result<_, _>>().map_err(DataFusionError::from)?;
        let text = |column: usize, row: usize| columns[column].as_string::<i32>().value(row).to_owned();
        known.extend((0..batch.num_rows()).map(|row| Known {
            column: text(0, row),
            mark: text(1, row),
            key_mark: text(2, row),
        }));
    }
    Ok(known)
}

/// The forgotten subjects that a contract's columns can name.
#[derive(Clone, Debug, Default)]
pub struct Forgotten {
    key: Option<PseudonymKey>,
    marks: HashMap<String, HashSet<String>>,
}

impl Forgotten {
    /// Whom this lake has forgotten, for rows of this contract; its key is the contract's.
    pub async fn load(lake: &Lake, contract: &Contract) -> Result<Self, ForgottenError> {
        let Some(table) = Table::open(lake, PATH).await? else { return Ok(Self::default()) };
        let known = rows(&table).await?;
        if known.is_empty() {
            return Ok(Self::default());
        }
        let key = contract.pseudonym_key.clone().ok_or(ForgottenError::NoKey)?;
        let key_mark = key.tag(KEY_PURPOSE, b"");
        let mut marks: HashMap<String, HashSet<String>> = HashMap::new();
        for Known { column, mark, key_mark: known_by } in known {
            if known_by != key_mark {
                return Err(ForgottenError::OtherKey);
            }
            marks.entry(column).or_default().insert(mark);
        }
        Ok(Self { key: Some(key), marks })
    }

    /// What tells the rows of one object that are to be discarded.
    pub(crate) fn recall(&self, contract: &Contract) -> Recall<'_> {
        let mut columns = Vec::new();
        if let Some(key) = &self.key {
            for (place, column) in contract.columns.iter().enumerate() {
                if let Some(marks) = self.marks.get(&column.name).filter(|_| names_subjects(contract, column))
                {
                    let name = column.name.clone();
                    columns.push(Watched { place, name, key, marks, answers: HashMap::new() });
                }
            }
        }
        Recall { columns, device: contract.column_index("device") }
    }
}

/// Knows the forgotten rows of one object.
pub(crate) struct Recall<'a> {
    columns: Vec<Watched<'a>>,
    device: Option<usize>,
}

struct Watched<'a> {
    place: usize,
    name: String,
    key: &'a PseudonymKey,
    marks: &'a HashSet<String>,
    answers: HashMap<String, bool>,
}

impl Recall<'_> {
    /// Whether the row was erased from its object, or is a forgotten subject's.
    pub(crate) fn is_gone(
        &mut self,
        format: Format,
        bytes: &[u8],
        row: &Result<&[Field<'_>], Fault>,
    ) -> bool {
        let fields = row.as_ref().ok();
        let device = self.device.and_then(|device| fields.map(|fields| &fields[device]));
        is_erased(format, bytes, device)
            || fields.is_some_and(|fields| {
                self.columns.iter_mut().any(|column| column.holds(&fields[column.place]))
            })
    }
}

impl Watched<'_> {
    fn holds(&mut self, field: &Field<'_>) -> bool {
        let Some(value) = value(field) else { return false };
        if let Some(answer) = self.answers.get(value.as_ref()) {
            return *answer;
        }
        let answer = self.marks.contains(&mark(self.key, &self.name, &value));
        if self.answers.len() < VALUES_MAX {
            self.answers.insert(value.into_owned(), answer);
        }
        answer
    }
}

/// A field's value as text, as a subject is named.
pub(crate) fn value<'a>(field: &Field<'a>) -> Option<Cow<'a, str>> {
    match field {
        Field::Missing => None,
        Field::Text(text) => Some(Cow::Borrowed(text)),
        Field::Json(json) if json.starts_with('"') => {
            Some(serde_json::from_str::<String>(json).map_or(Cow::Borrowed(*json), Cow::Owned))
        }
        Field::Json(json) => Some(Cow::Borrowed(json)),
        Field::Integer(number) => Some(Cow::Owned(number.to_string())),
        Field::Number(number) => Some(Cow::Owned(number.to_string())),
    }
}
