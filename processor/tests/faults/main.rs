//! Promotion over an object store that dies, refuses, delays and forgets to answer.
//!
//! The claim: whatever operation fails, and in whatever order and grouping the objects come again, silver, versions,
//! discard, gold, ledger and quarantine are row for row those of the undisturbed run; but for when a row was
//! written, and, where two objects hold an equal row, which of them silver names.
//! `cargo test --workspace --all-features --test faults -- --nocapture` prints the table of docs/reliability.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod lake;
mod store;

use lake::{bronze, contracts, over, rows, rows_in_any_order, work};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn probe() {
    let contracts = contracts();
    let base = bronze().await;
    for _ in 0..2 {
        let inner = base.fork();
        let start = std::time::Instant::now();
        let (lake, store) = over(&inner, None);
        work(&lake, &contracts).await.unwrap();
        println!("work {:?} {:?}", store.counts(), start.elapsed());
        let start = std::time::Instant::now();
        let all = rows(&lake, &contracts).await;
        println!("rows {:?}", start.elapsed());
        let _ = rows_in_any_order(&lake, &contracts).await;
        for (question, rows) in all {
            println!("{question}\n  {}", rows.join("\n  "));
        }
    }
}
