//! Promotion over an object store that dies, refuses, delays and forgets to answer.
//!
//! The claim: whatever operation fails, and in whatever order and grouping the objects come again, silver, versions,
//! discard, gold, ledger and quarantine are row for row those of the undisturbed run; but for when a row was
//! written, and, where two objects hold an equal row, which of them silver names.
//!
//! `cargo test --workspace --all-features --test faults -- --nocapture` prints the tables of docs/reliability.md. Every
//! write is a cut point each time; of the other faults a seed draws some. `INGOT_FAULT_TRIALS` says how many of
//! each, or `all`; `INGOT_FAULT_SEED` draws others. Where an upload fails, delta-rs panics in a task of its own and
//! catches that: `Already shut down` on stderr is no failure of these tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod answers;
mod cuts;
mod events;
mod lake;
mod processors;
mod store;
mod tally;
mod upkeep;

use std::future::Future;

use futures::StreamExt;

/// Trials at a time.
const AT_ONCE: usize = 4;

/// Does every trial, several at a time; their answers in order.
async fn each<P: Send + 'static, T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    trials: impl IntoIterator<Item = P>,
    trial: impl Fn(P) -> F,
) -> Vec<T> {
    let trials = trials.into_iter().map(|point| tokio::spawn(trial(point)));
    // Spawned only when they are polled: the iterator is lazy.
    futures::stream::iter(trials).buffered(AT_ONCE).map(Result::unwrap).collect().await
}

fn seed() -> u64 {
    let seed = std::env::var("INGOT_FAULT_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("INGOT_FAULT_SEED={seed}");
    seed
}

/// Some of the points `0..count`, or all of them.
fn drawn(count: usize, usually: usize, rng: &mut fastrand::Rng) -> Vec<usize> {
    let wanted = match std::env::var("INGOT_FAULT_TRIALS") {
        Ok(wanted) if wanted == "all" => count,
        Ok(wanted) => wanted.parse().unwrap(),
        Err(_) => usually,
    };
    let mut points = rng.choose_multiple(0..count, wanted.min(count));
    points.sort_unstable();
    points
}
