//! The program dies at a write: the restart, and a redelivery in another order, come to the same.
//!
//! What it leaves is what the store held after that write of an undisturbed run; between two writes nothing changes
//! that a restart could see.

use crate::lake::{
    bronze, contracts, emptied, finish, keeping_states, over, redeliver, rows, rows_in_any_order, work,
};
use crate::tally::Tally;
use crate::{each, seed};

/// Of so many cuts one is also restarted as a `run`, which takes what the ledger does not have, in the old order:
/// there, which object a row came from counts too.
const SAME_ORDER_EVERY: usize = 8;

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

    let found = each(states.into_iter().enumerate(), move |(writes, cut)| async move {
        let contracts = contracts();
        let in_order = if writes.is_multiple_of(SAME_ORDER_EVERY) {
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
        redeliver(&lake, &contracts, seed ^ writes as u64).await.unwrap();
        let found = rows_in_any_order(&lake, &contracts).await;
        emptied(&cut).await;
        (writes, found, in_order)
    })
    .await;
    let mut tally = Tally::default();
    for (writes, found, in_order) in found {
        let trial = format!("after {writes} writes");
        tally.count("killed after a write, shuffled and regrouped", &trial, &expected, &found);
        if let Some(found) = in_order {
            tally.count("killed after a write, run again", &trial, &expected_in_order, &found);
        }
    }
    tally.done();
}
