//! The spool on a disk that fails and loses power at every step.
//!
//! The claim: what was synced before the cut and not acknowledged is delivered afterwards, byte for byte
//! and in the order of appending within a lane; nothing is invented; what was dropped at the cap is
//! counted; what a failed fsync put in doubt stays counted; and no start needs a person.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
#[path = "../common/mod.rs"]
mod common;
mod disk;
mod run;

use std::collections::BTreeMap;
use std::io::ErrorKind;

use disk::{CrashDisk, Fault};
use ingot_gateway::spool::WhenFull;
use proptest::prelude::*;
use run::Action::{self, *};
use run::{Run, config, frames, is_in_lanes};

/// Segments roll, frames are acknowledged out of order, the spool is closed, killed, and opened again.
const TRACE: &[Action] = &[
    Append,
    Append,
    Sync,
    Take,
    Append,
    Take,
    AckOldest,
    Append,
    Append,
    Sync,
    Take,
    Take,
    AckNewest,
    Append,
    GiveBackAll,
    Take,
    Append,
    Reopen,
    Append,
    Take,
    Append,
    Sync,
    AckOldest,
    Append,
    Take,
    AckOldest,
    Take,
    AckOldest,
    Append,
    Append,
    Append,
    KillAndReopen,
    Take,
    Append,
    Sync,
    Take,
    AckNewest,
    Append,
    Append,
    Append,
    Append,
    Take,
    Take,
    AckOldest,
    Sync,
    AckOldest,
    Take,
    AckOldest,
    Append,
    Reopen,
    Append,
    Sync,
];

/// Runs the trace with a fault at one step; the steps that the whole trace makes are the answer.
fn run_with<'a>(
    frames: &'a [Vec<u8>],
    when_full: WhenFull,
    share: u8,
    seed: u64,
    fault: Option<(u64, Fault)>,
) -> Run<'a> {
    let disk = CrashDisk::new(seed);
    if let Some((step, fault)) = fault {
        disk.fail(step, fault);
    }
    let mut run = Run::new(disk, config(when_full, share), frames);
    run.kills_cost_doubt = matches!(fault, Some((_, Fault::Error(_))));
    for action in TRACE {
        run.step(*action);
    }
    run
}

/// What a table of trials says: frames synced before the cut, and what became of them.
#[derive(Default)]
struct Tally {
    trials: u64,
    synced: u64,
    delivered: u64,
    twice: u64,
}

impl Tally {
    fn add(&mut self, run: &Run<'_>, delivered: &[u64]) {
        let mut times = BTreeMap::new();
        for seq in run.acked.iter().chain(delivered) {
            *times.entry(*seq).or_insert(0_u64) += 1;
        }
        self.trials += 1;
        self.synced += run.durable.union(&run.acked).count() as u64;
        self.delivered += run.durable.union(&run.acked).filter(|seq| times.contains_key(seq)).count() as u64;
        self.twice += times.values().map(|times| times - 1).sum::<u64>();
    }

    fn print(&self, fault: &str, dropped: bool) {
        let Self { trials, synced, delivered, twice } = self;
        let missing = synced - delivered;
        println!(
            "| {fault}{} | {trials} | {synced} | {delivered} | {missing} | {twice} |",
            if dropped { ", at the cap (missing: dropped and counted)" } else { "" }
        );
        assert!(dropped || missing == 0);
    }
}

fn check_after_power_cut(run: &mut Run<'_>, share: u8, seed: u64, what: &str, tally: &mut Tally) {
    let delivered = run.after_power_cut(seed);
    let missing = run.missing(&run.durable, &delivered);
    assert!(missing.len() as u64 <= run.dropped, "{what}: {missing:?} are lost of {delivered:?}");
    tally.add(run, &delivered);
    let lanes = if share == 0 { 1 } else { 2 };
    assert!(is_in_lanes(&delivered, lanes), "{what}: {delivered:?} is out of order");
    let spool = run.spool.as_ref().unwrap();
    spool.close().unwrap();
    assert_eq!(spool.state().frames, 0, "{what}");
    let left = run.disk.names_now().into_iter().filter(|name| name.ends_with(".ingot")).count();
    assert_eq!(left, 0, "{what}: segments without frames are left");
}

#[test]
fn the_power_goes_at_every_step() {
    let frames = frames(40);
    for (when_full, share) in [(WhenFull::Refuse, 0), (WhenFull::Refuse, 20), (WhenFull::DropOldest, 0)] {
        let whole = run_with(&frames, when_full, share, 0, None);
        let steps = whole.disk.steps();
        assert!(steps > 100 && !whole.durable.is_empty(), "{steps}");
        assert_eq!(whole.dropped > 0, when_full == WhenFull::DropOldest, "the cap is met");
        let mut tally = Tally::default();
        for step in 0..steps {
            for seed in 0..8 {
                let mut run = run_with(&frames, when_full, share, seed, Some((step, Fault::PowerCut)));
                check_after_power_cut(
                    &mut run,
                    share,
                    seed,
                    &format!("{when_full:?} {share} step {step}, seed {seed}"),
                    &mut tally,
                );
            }
        }
        tally.print(
            &format!("power cut at each of {steps} steps, live share {share} %"),
            when_full == WhenFull::DropOldest,
        );
    }
}

#[test]
fn the_disk_fails_at_every_step_and_then_the_power_goes() {
    let frames = frames(40);
    for (when_full, share) in [(WhenFull::Refuse, 20), (WhenFull::DropOldest, 0)] {
        let steps = run_with(&frames, when_full, share, 0, None).disk.steps();
        let mut tally = Tally::default();
        for step in 0..steps {
            for (seed, kind) in
                [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::Other].iter().enumerate()
            {
                let seed = seed as u64;
                let mut run = run_with(&frames, when_full, share, seed, Some((step, Fault::Error(*kind))));
                assert!(run.spool.is_some(), "step {step}: it does not start again");
                check_after_power_cut(
                    &mut run,
                    share,
                    seed,
                    &format!("{when_full:?} {share} step {step}, seed {seed}"),
                    &mut tally,
                );
            }
        }
        tally.print(
            &format!("disk error at each of {steps} steps, then a power cut, live share {share} %"),
            when_full == WhenFull::DropOldest,
        );
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => Just(Append),
        2 => Just(Sync),
        5 => Just(Take),
        3 => Just(AckOldest),
        2 => Just(AckNewest),
        1 => Just(GiveBackAll),
    ]
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![8 => action(), 1 => Just(Reopen), 1 => Just(KillAndReopen)]
}

/// Faults by the number of steps since the one before.
fn faults() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0_u64..60, 0..6)
}

fn plan(disk: &CrashDisk, faults: &[u64]) {
    let mut step = 0;
    for (index, after) in faults.iter().enumerate() {
        step += after + 1;
        let kind = if index % 2 == 0 { ErrorKind::Other } else { ErrorKind::StorageFull };
        disk.fail(step, Fault::Error(kind));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(250) })]

    #[test]
    fn nothing_synced_is_lost_by_any_sequence(
        actions in prop::collection::vec(any_action(), 1..120),
        faults in faults(),
        cut in 0_u64..400,
        seed in any::<u64>(),
        share in prop_oneof![Just(0_u8), Just(20), Just(90)],
        drops in any::<bool>(),
    ) {
        let frames = frames(60);
        let when_full = if drops { WhenFull::DropOldest } else { WhenFull::Refuse };
        let disk = CrashDisk::new(seed);
        plan(&disk, &faults);
        disk.fail(cut, Fault::PowerCut);
        let mut run = Run::new(disk, config(when_full, share), &frames);
        run.kills_cost_doubt = !faults.is_empty();
        for action in actions {
            run.step(action);
        }
        check_after_power_cut(&mut run, share, seed, "at the end", &mut Tally::default());
    }

    /// While the power stays on, every frame is delivered, or counted as dropped or as lost.
    #[test]
    fn nothing_goes_uncounted(
        actions in prop::collection::vec(action(), 1..120),
        faults in faults(),
        seed in any::<u64>(),
        share in prop_oneof![Just(0_u8), Just(20)],
        drops in any::<bool>(),
    ) {
        let frames = frames(60);
        let when_full = if drops { WhenFull::DropOldest } else { WhenFull::Refuse };
        let disk = CrashDisk::new(seed);
        plan(&disk, &faults);
        let mut run = Run::new(disk, config(when_full, share), &frames);
        for action in actions {
            run.step(action);
        }
        let state = run.spool.as_ref().unwrap().state();
        let in_doubt = run.doubted.iter().filter(|seq| !run.acked.contains(seq)).count() as u64;
        prop_assert!(state.in_doubt_frames <= in_doubt + run.unsynced.len() as u64);
        let delivered = run.drain();
        let appended = &(&run.durable | &run.doubted) | &run.unsynced;
        let missing = run.missing(&appended, &delivered).len() as u64;
        let state = run.spool.as_ref().unwrap().state();
        let counted = run.dropped + run.condemned + state.lost_frames + state.frames;
        prop_assert_eq!(missing, counted, "{:?}, {} dropped", state, run.dropped);
    }

    /// After a power cut no more is missing than was counted as in doubt or not yet synced.
    #[test]
    fn what_a_failed_fsync_costs_was_in_doubt(
        actions in prop::collection::vec(action(), 1..120), faults in faults(), seed in any::<u64>(),
    ) {
        let frames = frames(60);
        let disk = CrashDisk::new(seed);
        plan(&disk, &faults);
        let mut run = Run::new(disk, config(WhenFull::Refuse, 20), &frames);
        for action in actions {
            run.step(action);
        }
        let state = run.spool.as_ref().unwrap().state();
        let delivered = run.after_power_cut(seed);
        let appended = &(&run.durable | &run.doubted) | &run.unsynced;
        let missing = run.missing(&appended, &delivered).len() as u64;
        let counted = state.in_doubt_frames + state.lost_frames + run.unsynced.len() as u64;
        prop_assert!(missing <= counted, "{missing} missing, {state:?}");
    }
}
