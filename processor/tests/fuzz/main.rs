//! Seeded mutations of good input: nothing panics, and every row that went in comes out.
//!
//! Bounded in time: each test takes [`SECONDS`], or `INGOT_FUZZ_SECONDS`. `INGOT_FUZZ_SEED` tries other mutations; the
//! seed is printed, and a failing input with the number of its trial.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod contracts;
mod decode;
mod mutate;

use std::time::{Duration, Instant};

/// How long a test tries, unless told otherwise.
const SECONDS: u64 = 10;
/// Bytes of a failing input that are shown.
const SHOWN_MAX: usize = 4_096;

/// Tries what `input` makes of a random number generator until the time is over.
fn fuzz(mut input: impl FnMut(&mut fastrand::Rng) -> Vec<u8>, mut test: impl FnMut(&[u8], u64)) {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |number| number.parse().unwrap());
    let (seconds, seed) = (number("INGOT_FUZZ_SECONDS", SECONDS), number("INGOT_FUZZ_SEED", 1));
    let mut rng = fastrand::Rng::with_seed(seed);
    let start = Instant::now();
    let mut trials = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        let bytes = input(&mut rng);
        let shown = Shown { seed, trial: trials, bytes: &bytes };
        test(&bytes, trials);
        drop(shown);
        trials += 1;
    }
    println!("INGOT_FUZZ_SEED={seed}: {trials} inputs in {:?}", start.elapsed());
    assert!(trials > 20, "{trials} inputs are too few to say anything");
}

/// Shows the input at which a test fails.
struct Shown<'a> {
    seed: u64,
    trial: u64,
    bytes: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shown = &self.bytes[..self.bytes.len().min(SHOWN_MAX)];
            let (seed, trial, bytes) = (self.seed, self.trial, self.bytes.len());
            eprintln!("INGOT_FUZZ_SEED={seed}, input {trial}, {bytes} bytes: {}", shown.escape_ascii());
        }
    }
}
