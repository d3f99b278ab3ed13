//! The store answers wrong once, and the program goes on or fails clean: the next run completes.

use crate::lake::{bronze, contracts, emptied, finish, over, redeliver, rows_in_any_order, work};
use crate::store::{Counted, Fault, Plan};
use crate::tally::Tally;
use crate::{drawn, each, seed};

/// Trials of each fault, unless told otherwise.
const TRIALS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_wrong_answer_anywhere_costs_nothing() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let bronze = bronze().await;
    let undisturbed = bronze.fork();
    let (lake, store) = over(&undisturbed, None);
    work(&lake, &contracts()).await.unwrap();
    let (operations, writes) = store.counts();
    let expected = rows_in_any_order(&lake, &contracts()).await;

    let mut trials = Vec::new();
    for (fault, counted) in [
        (Fault::Cut, Counted::All),
        (Fault::Refused(409), Counted::All),
        (Fault::Refused(412), Counted::All),
        (Fault::Unavailable(500), Counted::All),
        (Fault::Unavailable(503), Counted::All),
        (Fault::Timeout, Counted::All),
        (Fault::Delay, Counted::All),
        (Fault::AnswerLost, Counted::Writes),
        (Fault::RefusedAfter, Counted::Writes),
    ] {
        let count = if counted == Counted::All { operations } else { writes };
        let points = drawn(count, TRIALS, &mut rng);
        trials.extend(points.into_iter().map(|at| (Plan { at, counted, fault }, rng.u64(..))));
    }
    let found = each(trials, move |(plan, seed)| {
        let inner = bronze.fork();
        async move {
            let contracts = contracts();
            let (lake, store) = over(&inner, Some(plan));
            let first = work(&lake, &contracts).await.is_ok();
            // A run asks a little more or less often each time: the last points may not be reached.
            if !store.has_struck() {
                emptied(&inner).await;
                return (plan, first, None);
            }
            let (lake, _) = over(&inner, None);
            if seed.is_multiple_of(2) {
                finish(&lake, &contracts).await.unwrap();
            } else {
                redeliver(&lake, &contracts, seed).await.unwrap();
            }
            let found = rows_in_any_order(&lake, &contracts).await;
            emptied(&inner).await;
            (plan, first, Some(found))
        }
    })
    .await;
    let mut tally = Tally::default();
    let (mut went_on, mut stopped) = (0, 0);
    for (Plan { at, counted, fault }, first, found) in found {
        let Some(found) = found else { continue };
        let place = if counted == Counted::All { "an operation" } else { "a write" };
        tally.count(&format!("{fault} {place}"), &at.to_string(), &expected, &found);
        *(if first { &mut went_on } else { &mut stopped }) += 1;
    }
    println!("{went_on} runs went on, {stopped} stopped with an error, and the next one completed");
    tally.done();
}
