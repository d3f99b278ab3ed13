//! The program dies at a write: the restart, and a redelivery in another order, come to the same.
//!
//! What it leaves is what the store held after that write of an undisturbed run; between two writes nothing changes
//! that a restart could see. Some are killed for real, too: a program whose store is gone says so and ends.

use object_store::memory::InMemory;

use crate::lake::{
    bronze, contracts, emptied, finish, keeping_states, over, redeliver, rows, rows_in_any_order, work,
};
use crate::store::{Counted, Fault, Plan};
use crate::tally::Tally;
use crate::{each, seed};

/// One cut of so many is made for real, and restarted as a `run`, which takes what the ledger does not have, in the old
/// order: there, which object a row came from counts too.
const KILLED_EVERY: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_at_every_write_and_redelivered_in_any_order() {
    let seed = seed();
    let (lake, store) = keeping_states(&bronze().await);
    work(&lake, &contracts()).await.unwrap();
    let (operations, writes) = store.counts();
    println!("the undisturbed run asks the store {operations} times, {writes} of them to write");
    let expected = rows_in_any_order(&lake, &contracts()).await;
    let expected_in_order = rows(&lake, &contracts()).await;
    let states = store.states();
    assert!(states.len() > writes && writes > 50, "{} states, {writes} writes", states.len());

    let found = each(states.into_iter().enumerate(), move |(cut_after, cut)| async move {
        let contracts = contracts();
        let in_order = if cut_after.is_multiple_of(KILLED_EVERY) {
            let restarted = killed(cut_after, writes).await;
            let (lake, _) = over(&restarted, None);
            finish(&lake, &contracts).await.unwrap();
            let found = rows(&lake, &contracts).await;
            emptied(&restarted).await;
            Some(found)
        } else {
            None
        };
        let (lake, _) = over(&cut, None);
        redeliver(&lake, &contracts, seed ^ cut_after as u64).await.unwrap();
        let found = rows_in_any_order(&lake, &contracts).await;
        emptied(&cut).await;
        (cut_after, found, in_order)
    })
    .await;
    let mut tally = Tally::default();
    for (cut_after, found, in_order) in found {
        let trial = format!("after {cut_after} writes");
        tally.count("killed after a write, shuffled and regrouped", &trial, &expected, &found);
        if let Some(found) = in_order {
            tally.count("killed after a write for real, run again", &trial, &expected_in_order, &found);
        }
    }
    tally.done();
}

/// What a program leaves whose store was gone after so many of its `writes`.
async fn killed(cut_after: usize, writes: usize) -> InMemory {
    let store = bronze().await;
    let Some(at) = cut_after.checked_sub(1) else { return store };
    let (lake, dying) = over(&store, Some(Plan { at, counted: Counted::Writes, fault: Fault::CutAfter }));
    let stopped = work(&lake, &contracts()).await;
    assert!(dying.has_struck(), "it wrote fewer than {cut_after} times");
    assert!(stopped.is_err() || cut_after == writes, "it went on without its store after {cut_after} writes");
    store
}
