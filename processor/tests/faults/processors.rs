//! Two to eight processors at once, over the same and overlapping objects: the same as one alone.
//!
//! So too if one of them is killed, and if every one meets a storm of faults and starts again until it is through.

use object_store::memory::InMemory;

use crate::lake::{Rows, bronze, contracts, emptied, over, paced_over, redeliver, rows_in_any_order, work};
use crate::seed;
use crate::store::{Counted, Fault, Harm, Plan};
use crate::tally::Tally;

/// In a storm one of so many operations fails; a run asks some hundred.
const STORM_ONE_IN: u32 = 250;
/// So often a processor starts again in a storm.
const STARTS_MAX: u64 = 100;

/// What one processor alone comes to, and how often it writes.
async fn alone(bronze: &InMemory) -> (Rows, usize) {
    let undisturbed = bronze.fork();
    let (lake, store) = over(&undisturbed, None);
    work(&lake, &contracts()).await.unwrap();
    (rows_in_any_order(&lake, &contracts()).await, store.counts().1)
}

/// One processor's part. Every second one takes the objects in order, as a `run` does; so they meet at each of them.
async fn process(inner: InMemory, harm: Harm, seed: u64) -> bool {
    let (lake, contracts) = (paced_over(&inner, harm, seed), contracts());
    let done = if seed.is_multiple_of(2) {
        work(&lake, &contracts).await
    } else {
        redeliver(&lake, &contracts, seed).await
    };
    done.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_to_eight_processors_do_the_work_of_one() {
    let seed = seed() << 8;
    let bronze = bronze().await;
    let (expected, writes) = alone(&bronze).await;
    let mut tally = Tally::default();
    for processors in [2, 3, 5, 8] {
        let is_killed = processors % 2 == 1;
        let inner = bronze.fork();
        let mut running = tokio::task::JoinSet::new();
        for processor in 0..processors {
            let seed = seed + processors * 16 + processor;
            let at = fastrand::Rng::with_seed(seed).usize(..writes / 2);
            let dies = is_killed && processor == 0;
            let cut = Plan { at, counted: Counted::Writes, fault: Fault::CutAfter };
            let harm = if dies { Harm::Once(cut) } else { Harm::None };
            let inner = inner.clone();
            running.spawn(async move { assert!(process(inner, harm, seed).await || dies) });
        }
        while let Some(done) = running.join_next().await {
            done.unwrap();
        }
        let (lake, _) = over(&inner, None);
        let found = rows_in_any_order(&lake, &contracts()).await;
        let fault = if is_killed { "3, 5 processors at once, one killed" } else { "2, 8 processors at once" };
        tally.count(fault, &format!("{processors} processors"), &expected, &found);
        emptied(&inner).await;
    }
    tally.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_faults_is_worked_through() {
    let seed = seed() << 16;
    let bronze = bronze().await;
    let (expected, _) = alone(&bronze).await;
    let mut tally = Tally::default();
    let mut starts = 0;
    for processors in [1, 2, 3] {
        let inner = bronze.fork();
        let mut running = tokio::task::JoinSet::new();
        for processor in 0..processors {
            let (inner, seed) = (inner.clone(), seed + (processors * 16 + processor) * 256);
            running.spawn(async move {
                for start in 0..STARTS_MAX {
                    let harm = Harm::Storm { one_in: STORM_ONE_IN, seed: seed + start };
                    if process(inner.clone(), harm, seed + start).await {
                        return start + 1;
                    }
                }
                panic!("not through after {STARTS_MAX} starts");
            });
        }
        while let Some(through) = running.join_next().await {
            starts += through.unwrap();
        }
        let (lake, _) = over(&inner, None);
        let found = rows_in_any_order(&lake, &contracts()).await;
        tally.count(
            "a storm over 1, 2, 3 processors",
            &format!("{processors} processors"),
            &expected,
            &found,
        );
        emptied(&inner).await;
    }
    println!("in the storms there were {starts} starts until 6 processors were through");
    tally.done();
}
