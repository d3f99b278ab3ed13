//! Two to eight processors at once, over the same and overlapping objects, one of them killed: the same as one alone.

use crate::lake::{bronze, contracts, emptied, over, paced_over, redeliver, rows_in_any_order, work};
use crate::store::{Counted, Fault, Plan};
use crate::tally::Tally;
use crate::seed;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_to_eight_processors_do_the_work_of_one() {
    let seed = seed();
    let bronze = bronze().await;
    let undisturbed = bronze.fork();
    let (lake, store) = over(&undisturbed, None);
    work(&lake, &contracts()).await.unwrap();
    let (_, writes) = store.counts();
    let expected = rows_in_any_order(&lake, &contracts()).await;

    let mut tally = Tally::default();
    for processors in 2..=8 {
        {
            let is_killed = processors % 2 == 1;
            let inner = bronze.fork();
            let mut running = tokio::task::JoinSet::new();
            for processor in 0..processors {
                let seed = seed ^ (processors * 100 + processor);
                let at = fastrand::Rng::with_seed(seed).usize(..writes / 2);
                let cut = Plan { at, counted: Counted::Writes, fault: Fault::CutAfter };
                let dies = is_killed && processor == 0;
                let (lake, _) = paced_over(&inner, dies.then_some(cut), seed);
                running.spawn(async move {
                    let contracts = contracts();
                    // Every second one takes the objects in order, as a `run` does; they meet at each of them.
                    let done = if processor % 2 == 0 {
                        work(&lake, &contracts).await
                    } else {
                        redeliver(&lake, &contracts, seed).await
                    };
                    assert!(dies || done.is_ok(), "{done:?}");
                });
            }
            while let Some(done) = running.join_next().await {
                done.unwrap();
            }
            let (lake, _) = over(&inner, None);
            if is_killed {
                work(&lake, &contracts()).await.unwrap();
            }
            let found = rows_in_any_order(&lake, &contracts()).await;
            let fault = if is_killed { "2 to 8 processors at once, one killed" } else { "2 to 8 processors at once" };
            tally.count(fault, &format!("{processors} processors"), &expected, &found);
            emptied(&inner).await;
        }
    }
    tally.done();
}
