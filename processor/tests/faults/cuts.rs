//! The program dies at a write: the restart, and a redelivery in another order, come to the same.
//!
//! Every write is a cut point: between two writes nothing changes that a restart could see, so a cut after one is also
//! the cut before the next. `INGOT_FAULT_TRIALS=all` tries both.

use crate::lake::{bronze, contracts, emptied, finish, over, redeliver, rows, rows_in_any_order, work};
use crate::store::{Counted, Fault, Plan};
use crate::tally::Tally;
use crate::{all, each, seed};

/// Of so many cuts after a write one is also restarted as a `run`, which takes
/// what the ledger does not have, in the old order: there, which object a row came from counts too.
const SAME_ORDER_EVERY: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_at_every_write_and_redelivered_in_any_order() {
    let seed = seed();
    let bronze = bronze().await;
    let undisturbed = bronze.fork();
    let (lake, store) = over(&undisturbed, None);
    work(&lake, &contracts()).await.unwrap();
    let (operations, writes) = store.counts();
    println!("the undisturbed run asks the store {operations} times, {writes} of them to write");
    let expected = rows_in_any_order(&lake, &contracts()).await;
    let expected_in_order = rows(&lake, &contracts()).await;

    let before = (0..if all() { writes } else { 1 }).map(|at| (at, Fault::Cut));
    let points = before.chain((0..writes).map(|at| (at, Fault::CutAfter)));
    let found = each(points, move |(at, fault)| {
        let cut = bronze.fork();
        async move {
            let contracts = contracts();
            let (lake, store) = over(&cut, Some(Plan { at, counted: Counted::Writes, fault }));
            // A cut in a step that may fail, as a checkpoint, does not fail the work; the next step does.
            let stopped = work(&lake, &contracts).await;
            assert!(store.has_struck() && (stopped.is_err() || at + 1 == writes), "{fault} {at}");
            let in_order = if fault == Fault::CutAfter && at.is_multiple_of(SAME_ORDER_EVERY) {
                let restarted = cut.fork();
                let (lake, _) = over(&restarted, None);
                finish(&lake, &contracts).await.unwrap();
                let found = rows(&lake, &contracts).await;
                emptied(&restarted).await;
                Some(found)
            } else {
                None
            };
            let (lake, _) = over(&cut, None);
            redeliver(&lake, &contracts, seed ^ at as u64).await.unwrap();
            let found = rows_in_any_order(&lake, &contracts).await;
            emptied(&cut).await;
            (at, fault, found, in_order)
        }
    })
    .await;
    let mut tally = Tally::default();
    for (at, fault, found, in_order) in found {
        let trial = format!("write {at}");
        tally.count(&format!("{fault} a write, shuffled and regrouped"), &trial, &expected, &found);
        if let Some(found) = in_order {
            tally.count(&format!("{fault} a write, run again"), &trial, &expected_in_order, &found);
        }
    }
    tally.done();
}
