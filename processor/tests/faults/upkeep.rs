//! Upkeep and redrive die after a write: no row changes by the one, and the other comes to the same in the end.
//!
//! What they leave is what the store held after that write of an undisturbed one.

use chrono::Utc;
use ingot_processor::compact::CompactSettings;
use ingot_processor::contract::Contract;
use ingot_processor::lake::Lake;
use ingot_processor::maintain::{MaintainSettings, maintain, plan};
use ingot_processor::redrive::{Which, redrive};
use object_store::memory::InMemory;

use crate::each;
use crate::lake::{Stopped, bronze, contracts, emptied, keeping_states, over, redeliver, rows, work};
use crate::tally::Tally;

/// Everything is due, and nothing is kept for readers.
const EAGER: MaintainSettings = MaintainSettings {
    compact: CompactSettings {
        closed_after_days: 1,
        small_files_min: 2,
        open_small_files_min: 2,
        small_file_bytes: 16 * 1024 * 1024,
    },
    keep_hours: 0,
    unfinished_hours: 0,
};

async fn upkeep(lake: &Lake) -> Result<(), Stopped> {
    let contracts = contracts();
    // What was replaced a moment ago is unused after it.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let todo = plan(lake, &contracts, EAGER, Utc::now().timestamp_millis()).await?;
    let done = maintain(lake, &todo, EAGER, |_, _| {}).await;
    match done.failed.into_iter().next() {
        Some(failed) => Err(failed.into()),
        None => Ok(()),
    }
}

/// A lake whose objects came one by one, so that every table has many small files and checkpoints.
async fn worn() -> InMemory {
    let store = bronze().await;
    let (lake, _) = over(&store, None);
    redeliver(&lake, &contracts(), 3).await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn upkeep_killed_at_every_write_changes_no_row() {
    let worn = worn().await;
    let (lake, _) = over(&worn, None);
    let expected = rows(&lake, &contracts()).await;
    let (lake, store) = keeping_states(&worn);
    upkeep(&lake).await.unwrap();
    let states = store.states();
    assert!(states.len() > 20, "{}", states.len());

    let found = each(states.into_iter().enumerate(), |(writes, cut)| async move {
        let (lake, _) = over(&cut, None);
        // By turns, what a reader finds now, and what the next upkeep leaves.
        let is_finished = writes.is_multiple_of(2);
        if is_finished {
            upkeep(&lake).await.unwrap();
        }
        let found = rows(&lake, &contracts()).await;
        emptied(&cut).await;
        (writes, is_finished, found)
    })
    .await;
    let mut tally = Tally::default();
    for (writes, is_finished, found) in found {
        let then = if is_finished { ", and once more" } else { "" };
        let trial = format!("after {writes} writes");
        tally.count(&format!("upkeep killed after a write{then}"), &trial, &expected, &found);
    }
    tally.done();
}

/// The contracts after a mistake in them was mended: `lost` is a status.
fn mended() -> Vec<Contract> {
    let mut contracts = contracts();
    let orders = contracts.iter_mut().find(|contract| contract.dataset == "orders").unwrap();
    let check = orders.checks.iter_mut().find(|check| check.id == "bad_status").unwrap();
    check.predicate = check.predicate.replace("('pending'", "('lost', 'pending'");
    contracts
}

async fn redriven(lake: &Lake) -> Result<(), Stopped> {
    let which = Which { rule: "bad_status".to_owned(), since_ms: None, dataset: None };
    let report = redrive(lake, &mended(), &which, |_, _| {}).await?;
    match report.failed.into_iter().next() {
        Some((what, why)) => Err(format!("{what}: {why}").into()),
        None => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redrive_killed_at_every_write_and_done_again_comes_to_the_same() {
    let bronze = bronze().await;
    let (lake, _) = over(&bronze, None);
    work(&lake, &contracts()).await.unwrap();
    let (lake, store) = keeping_states(&bronze);
    redriven(&lake).await.unwrap();
    let expected = rows(&lake, &mended()).await;
    // A1 to A3, B1, C1 to C4: what was discarded, A2, is there; the D are of an object that is set aside.
    assert_eq!(expected["SELECT * FROM silver.orders"].len(), 8);
    let states = store.states();
    assert!(states.len() > 10, "{}", states.len());

    let found = each(states.into_iter().enumerate(), |(writes, cut)| async move {
        let (lake, _) = over(&cut, None);
        redriven(&lake).await.unwrap();
        let found = rows(&lake, &mended()).await;
        emptied(&cut).await;
        (writes, found)
    })
    .await;
    let mut tally = Tally::default();
    for (writes, found) in found {
        let trial = format!("after {writes} writes");
        tally.count("redrive killed after a write, done again", &trial, &expected, &found);
    }
    tally.done();
}
