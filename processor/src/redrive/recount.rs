//! The ledger's rows of redriven objects, counted anew from what silver and discard have, and what was let go of them.
//!
//! Absolute numbers, so that doing it again changes nothing. The ledger's snapshot is taken before the
//! rows are counted: a count that another redrive has overtaken loses the race and is made again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::logical_expr::{Expr, col, lit};

use super::places::{LOCK, Places, external};
use super::{Judged, Moved, RedriveError, RedriveReport};
use crate::check::Checker;
use crate::discard;
use crate::lake::{BronzeObject, Lake};
use crate::ledger::{self, Entry};
use crate::promote::Candidate;
use crate::retention::expired::{self, Expired};
use crate::session;
use crate::table::{CONFLICTS_MAX, CommitError, Table, after_conflict};

/// Takes out the objects whose rows are cut otherwise than when they were processed: places would not be
/// the same.
pub(super) async fn keep_comparable(
    lake: &Lake,
    examined: &mut Vec<(&Candidate, Judged)>,
    report: &mut RedriveReport,
) -> Result<(), RedriveError> {
    let ledger = ledger::open(lake).await?;
    let known = entries(&ledger, examined.iter().map(|(candidate, _)| &candidate.object)).await?;
    examined.retain(|(candidate, found)| {
        let reason = match known.get(&candidate.object.id()) {
            Some(entry) if entry.rows_in == found.rows_in as i64 => return true,
            Some(entry) => format!(
                "it had {} rows when it was processed and has {} now; run `rebuild`",
                entry.rows_in, found.rows_in
            ),
            None => "the ledger does not have it yet; run the processor first".to_owned(),
        };
        report.failed.insert(candidate.object.key.clone(), reason);
        false
    });
    Ok(())
}

/// Writes the ledger's rows of the objects: as they will be once the discard rows at `replaced` places
/// are the moved ones, or (without) as they are.
pub(super) async fn ledger(
    lake: &Lake,
    checker: &Checker,
    moved: &[&Moved<'_>],
    replaced: Option<&Places>,
) -> Result<(), RedriveError> {
    for conflicts in 0..CONFLICTS_MAX {
        let mut ledger = ledger::open(lake).await?;
        let known = entries(&ledger, moved.iter().map(|moved| moved.object())).await?;
        let counted = Counted::of(lake, checker, moved, replaced).await?;
        let (mut rows, mut is_even) = (Vec::new(), true);
        let mut these: Option<Expr> = None;
        for object in moved {
            let Some(before) = known.get(&object.object().id()) else { continue };
            let after = counted.entry(before, object, checker);
            is_even &= after.is_even();
            if after == *before {
                continue;
            }
            rows.push(after.row()?);
            let here = col("bronze_key")
                .eq(lit(object.object().key.as_str()))
                .and(col("bronze_etag").eq(lit(object.object().etag.as_str())));
            these = Some(these.map_or(here.clone(), |before| before.or(here)));
        }
        let Some(these) = these else { return Ok(()) };
        if !is_even && conflicts + 1 < CONFLICTS_MAX {
            // Rows went or came while they were counted.
            after_conflict(conflicts).await;
            continue;
        }
        let predicate = col("dataset").eq(lit(checker.contract().dataset.as_str())).and(these);
        let rows = concat_batches(&ledger::schema(), &rows)?;
        let next = ledger.next_version();
        match ledger.replace_where(rows, predicate, &[(LOCK.to_owned(), next)]).await {
            Ok(()) => return Ok(()),
            Err(CommitError::Conflict { .. }) => after_conflict(conflicts).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(CommitError::Conflict { table: ledger::PATH.to_owned() }.into())
}

async fn entries(
    ledger: &Table,
    objects: impl Iterator<Item = &BronzeObject>,
) -> Result<HashMap<String, Entry>, RedriveError> {
    let keys: BTreeSet<&str> = objects.map(|object| object.key.as_str()).collect();
    let found = ledger::entries_of(ledger, &keys).await?;
    let id = |entry: &Entry| BronzeObject::id_of(&entry.bronze_key, &entry.bronze_etag);
    Ok(found.into_iter().map(|entry| (id(&entry), entry)).collect())
}

/// Rows by object: in silver, and in discard by first rule.
struct Counted {
    silver: HashMap<String, i64>,
    rules: HashMap<String, BTreeMap<String, u64>>,
    expired: HashMap<String, Expired>,
}

impl Counted {
    async fn of(
        lake: &Lake,
        checker: &Checker,
        moved: &[&Moved<'_>],
        replaced: Option<&Places>,
    ) -> Result<Self, RedriveError> {
        let keys: BTreeSet<&str> = moved.iter().map(|moved| moved.object().key.as_str()).collect();
        let expired = expired::of(lake, checker.contract(), &keys).await?;
        let mut counted = Self { silver: HashMap::new(), rules: HashMap::new(), expired };
        let ours = col("bronze_key").in_list(keys.into_iter().map(lit).collect(), false);
        let context = session::context();

        let silver = crate::silver::open(lake, checker.contract()).await?;
        let rows = context
            .read_table(silver.provider().await.map_err(external)?)?
            .filter(ours.clone())?
            .select_columns(&["bronze_key", "bronze_etag"])?
            .collect()
            .await?;
        for batch in rows {
            let [keys, etags] = [0, 1].map(|column| cast(batch.column(column), &DataType::Utf8));
            let (keys, etags) = (keys?, etags?);
            for row in 0..batch.num_rows() {
                let id = BronzeObject::id_of(
                    keys.as_string::<i32>().value(row),
                    etags.as_string::<i32>().value(row),
                );
                *counted.silver.entry(id).or_default() += 1;
            }
        }

        let discard = discard::open(lake).await?;
        let rows = context
            .read_table(discard.provider().await.map_err(external)?)?
            .filter(ours.and(col("dataset").eq(lit(checker.contract().dataset.as_str()))))?
            .select_columns(&["bronze_key", "bronze_etag", "rule", "ordinal"])?
            .collect()
            .await?;
        let moving: HashMap<String, &Moved<'_>> =
            moved.iter().map(|moved| (moved.object().id(), *moved)).collect();
        for batch in rows {
            let cells: Vec<_> = batch.columns()[..3]
                .iter()
                .map(|column| cast(column, &DataType::Utf8))
                .collect::<Result<_, _>>()?;
            let text = |column: usize, row: usize| cells[column].as_string::<i32>().value(row);
            let ordinals = batch.column(3).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let id = BronzeObject::id_of(text(0, row), text(1, row));
                let leaves = replaced
                    .zip(moving.get(&id))
                    .and_then(|(places, moved)| places.of(moved.object()))
                    .is_some_and(|places| places.contains(&ordinals.value(row)));
                if !leaves {
                    *counted.rules.entry(id).or_default().entry(text(2, row).to_owned()).or_default() += 1;
                }
            }
        }
        if replaced.is_some() {
            for object in moved {
                let rules = counted.rules.entry(object.object().id()).or_default();
                for row in &object.discards {
                    *rules.entry(row.rules.first().cloned().unwrap_or_default()).or_default() += 1;
                }
            }
        }
        Ok(counted)
    }

    /// The object's row; when it was processed stays as it was.
    fn entry(&self, before: &Entry, moved: &Moved<'_>, checker: &Checker) -> Entry {
        let id = moved.object().id();
        let silver = self.silver.get(&id).copied().unwrap_or_default();
        let rules = self.rules.get(&id).cloned().unwrap_or_default();
        Entry {
            warnings: moved.found.warnings.clone(),
            contract_version: checker.contract().version.clone(),
            ..self.expired.get(&id).copied().unwrap_or_default().counted(before, silver, rules)
        }
    }
}
