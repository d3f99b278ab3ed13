//! A queue tells of an object twice, in one group: it counts once.

use ingot_processor::check::Checker;
use ingot_processor::promote::promote;

use crate::lake::{bronze, candidates, contracts, difference, over, rows_in_any_order, work};

#[tokio::test(flavor = "multi_thread")]
async fn an_object_twice_in_a_group_counts_once() {
    let told_once = bronze().await;
    let told_twice = told_once.fork();
    let (lake, _) = over(&told_once, None);
    work(&lake, &contracts()).await.unwrap();
    let expected = rows_in_any_order(&lake, &contracts()).await;

    let (lake, _) = over(&told_twice, None);
    for contract in contracts() {
        let told = candidates(&lake, &contract).await.unwrap();
        let group: Vec<_> = told.iter().chain(&told).cloned().collect();
        let promoted = promote(&lake, &Checker::new(&contract).unwrap(), &group, 0).await.unwrap();
        assert_eq!(promoted.entries.len() + promoted.set_aside.len(), told.len());
    }
    work(&lake, &contracts()).await.unwrap();
    let found = rows_in_any_order(&lake, &contracts()).await;
    assert_eq!(difference(&expected, &found), (Vec::new(), Vec::new()));
}
