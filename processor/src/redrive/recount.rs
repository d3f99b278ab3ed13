//! The ledger's rows of redriven objects: whether they can be compared, and counted anew.

use std::collections::{BTreeMap, HashMap};

use super::places::Places;
use super::{Judged, Moved, RedriveError, RedriveReport};
use crate::check::Checker;
use crate::lake::Lake;
use crate::ledger::recount::{Counts, Replaced, recount};
use crate::ledger::{self, Entry};
use crate::promote::Candidate;

/// Takes out the objects whose rows are cut otherwise than when they were processed: places would not be
/// the same.
pub(super) async fn keep_comparable(
    lake: &Lake,
    checker: &Checker,
    examined: &mut Vec<(&Candidate, Judged)>,
    report: &mut RedriveReport,
) -> Result<(), RedriveError> {
    let ledger = ledger::open(lake).await?;
    let ids = examined.iter().map(|(candidate, _)| candidate.object.id()).collect();
    let entries = ledger::entries_with(&ledger, &checker.contract().dataset, &ids).await?;
    let known: HashMap<String, Entry> = entries.into_iter().map(|entry| (entry.id(), entry)).collect();
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
    let replaced = replaced.map(|places| as_it_will_be(places, moved)).transpose()?;
    let moved: BTreeMap<String, &Moved<'_>> =
        moved.iter().map(|moved| (moved.object().id(), *moved)).collect();
    // When it was processed stays as it was.
    let as_judged = |id: &str, entry: &mut Entry| {
        if let Some(moved) = moved.get(id) {
            entry.warnings.clone_from(&moved.found.warnings);
            entry.contract_version.clone_from(&checker.contract().version);
        }
    };
    let ids = moved.keys().cloned().collect();
    Ok(recount(lake, checker.contract(), &ids, replaced.as_ref(), as_judged).await?)
}

fn as_it_will_be(places: &Places, moved: &[&Moved<'_>]) -> Result<Replaced, RedriveError> {
    let mut coming = Counts::new();
    for moved in moved {
        let rules = coming.entry(moved.object().id()).or_default();
        for row in &moved.discards {
            *rules.entry(row.rules.first().cloned().unwrap_or_default()).or_default() += 1;
        }
    }
    Ok(Replaced { leaving: places.leaving(moved)?, coming })
}
