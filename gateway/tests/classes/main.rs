//! The two spools under one cap, whatever happens in which order: no frame lost, none sent twice, what is
//! dropped is counted, and priority frames are sent first and given up last.
//!
//! (No program is started in this one: a child would hold the spools' locks for a moment.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod model;

use std::fs;
use std::path::Path;

use common::frame;
use ingot_gateway::spool::classes::DIR;
use ingot_gateway::spool::{Class, Classes, ORDINARY_SHARE_PERCENT, WhenFull};
use model::{BYTES_MAX, Model, config, directory};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Action {
    Append(Class, u32),
    Take,
    Ack(usize),
    Refuse(usize),
    Lose,
    Restart,
    Kill,
}

fn action() -> impl Strategy<Value = Action> {
    let class = prop::sample::select(Class::BOTH.to_vec());
    prop_oneof![
        12 => (class, 1_u32..400).prop_map(|(class, readings)| Action::Append(class, readings)),
        6 => Just(Action::Take),
        4 => (0_usize..8).prop_map(Action::Ack),
        1 => (0_usize..8).prop_map(Action::Refuse),
        1 => Just(Action::Lose),
        1 => Just(Action::Restart),
        1 => Just(Action::Kill),
    ]
}

fn run(model: &mut Model, action: Action) {
    match action {
        Action::Append(class, readings) => drop(model.append(class, readings)),
        Action::Take => drop(model.take()),
        Action::Ack(index) => model.ack(index),
        Action::Refuse(index) => model.refuse(index),
        Action::Lose => model.give_back_all(),
        Action::Restart => model.restart(true),
        Action::Kill => model.restart(false),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each frame arrives once, or its readings are in the count of a header that arrives.
    #[test]
    fn whatever_the_interleaving_the_counts_balance(actions in prop::collection::vec(action(), 1..150)) {
        let mut model = Model::new(WhenFull::DropOldest);
        let killed = actions.iter().any(|action| matches!(action, Action::Kill));
        for action in actions {
            run(&mut model, action);
        }
        model.drain();
        let (stored, arrived, dropped) = model.balance();
        if killed {
            // What was acknowledged since the cursor was written comes again, or is counted as dropped too.
            prop_assert!(arrived + dropped >= stored, "{arrived} + {dropped} of {stored}");
        } else {
            prop_assert_eq!(arrived + dropped, stored);
            prop_assert!(model.acked.values().all(|times| *times == 1), "none comes twice");
        }
    }

    #[test]
    fn where_nothing_may_be_dropped_every_frame_arrives(actions in prop::collection::vec(action(), 1..150)) {
        let mut model = Model::new(WhenFull::Refuse);
        for action in actions {
            run(&mut model, action);
        }
        model.drain();
        let (stored, arrived, dropped) = model.balance();
        prop_assert_eq!((arrived, dropped), (stored, 0));
    }
}

#[test]
fn at_the_cap_all_that_is_ordinary_goes_before_the_first_priority_frame() {
    let mut model = Model::new(WhenFull::DropOldest);
    // More ordinary readings than there is room, then priority readings up to the cap.
    while model.priority_dropped == 0 && model.classes().priority_state().unwrap().bytes < BYTES_MAX - 3_000 {
        for _ in 0..10 {
            assert!(model.append(Class::Ordinary, 50));
        }
        assert!(model.append(Class::Priority, 50));
    }
    let kept: u64 = model.stored.iter().filter(|((boot, _), _)| *boot == 1).map(|(_, of)| of.readings).sum();
    assert_eq!(model.priority_dropped, 0);
    assert!(kept > 2_000, "{kept}");
    while model.priority_dropped == 0 {
        assert!(model.append(Class::Priority, 50));
    }
    assert_eq!(model.ordinary_bytes(), 0);
    model.drain();
    let (stored, arrived, dropped) = model.balance();
    assert_eq!(arrived + dropped, stored);
}

/// Its acknowledgement may have been lost with the connection: given up and counted, it would count twice.
#[test]
fn what_was_sent_and_came_back_is_kept_at_the_cap_as_what_is_in_flight_is() {
    let mut model = Model::new(WhenFull::DropOldest);
    assert!(model.append(Class::Ordinary, 50));
    assert_eq!(model.take(), Some(Class::Ordinary));
    model.give_back_all();
    let kept = model.ordinary_bytes();
    assert!(kept > 0);
    while model.priority_dropped == 0 {
        assert!(model.append(Class::Priority, 50));
    }
    assert_eq!(model.ordinary_bytes(), kept);
    model.drain();
    let (stored, arrived, dropped) = model.balance();
    assert_eq!(arrived + dropped, stored);
}

#[test]
fn on_a_full_disk_the_ordinary_ones_go_first_too() {
    let mut model = Model::new(WhenFull::DropOldest);
    for _ in 0..8 {
        assert!(model.append(Class::Priority, 200) && model.append(Class::Ordinary, 200));
    }
    let mut freed = Vec::new();
    while let Some(condemned) = model.classes().free_oldest() {
        freed.push((condemned.readings, condemned.priority_readings));
    }
    let first_priority = freed.iter().position(|(_, priority)| *priority > 0).unwrap();
    assert!(first_priority > 0 && freed[first_priority..].iter().all(|(all, priority)| all == priority));
    assert_eq!(freed[..first_priority].iter().map(|(all, _)| all).sum::<u64>(), 1_600);
    assert_eq!(model.ordinary_bytes(), 0);
    assert!(Model::new(WhenFull::Refuse).classes().free_oldest().is_none());
}

#[test]
fn priority_frames_go_first_and_a_flood_of_them_leaves_the_others_their_share() {
    let mut model = Model::new(WhenFull::Refuse);
    for _ in 0..5 {
        assert!(model.append(Class::Ordinary, 50) && model.append(Class::Priority, 50));
    }
    for _ in 0..5 {
        assert_eq!(model.take(), Some(Class::Priority));
    }
    assert_eq!(model.take(), Some(Class::Ordinary));
    while model.take().is_some() {}
    while model.classes().state().frames > 0 {
        model.ack(0);
    }
    // Both always wait. The share is held by bytes once the longest frame's worth is saved up.
    let mut ordinary = 0;
    for round in 0..6_000 {
        for class in Class::BOTH {
            while class_bytes(&model, class) < 6_000 {
                assert!(model.append(class, 400));
            }
        }
        let class = model.take().unwrap();
        model.ack(0);
        ordinary += u32::from(round >= 3_000 && class == Class::Ordinary);
    }
    let percent = f64::from(ordinary) * 100.0 / 3_000.0;
    assert!((percent - ORDINARY_SHARE_PERCENT as f64).abs() < 1.0, "{percent}");
}

fn class_bytes(model: &Model, class: Class) -> u64 {
    match class {
        Class::Priority => model.classes().priority_state().unwrap().bytes,
        Class::Ordinary => model.ordinary_bytes(),
    }
}

#[test]
fn the_count_of_what_goes_is_on_disk_before_it_is_gone_whichever_class_brings_it() {
    let dir = directory();
    let (classes, _) = Classes::open(config(dir.path(), WhenFull::DropOldest), true).unwrap();
    let files =
        |dir: &Path| fs::read_dir(dir).unwrap().filter(|entry| is_segment(entry.as_ref().unwrap())).count();
    for seq in 0..30 {
        classes.append(Class::Ordinary, &frame(seq, 100), 100, true).unwrap();
    }
    let before = files(dir.path());
    let condemned = classes.condemn_oldest(BYTES_MAX - classes.state().bytes + 1);
    assert!(condemned.readings > 0 && condemned.priority_readings == 0);
    assert_eq!(files(dir.path()), before, "nothing has gone yet");
    let fsyncs = classes.state().fsyncs;
    classes.append(Class::Priority, &frame(1_000, 1), 1, false).unwrap();
    assert!(classes.state().fsyncs > fsyncs && files(dir.path()) < before);
}

fn is_segment(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_str().unwrap().ends_with(".ingot")
}

#[test]
fn the_second_spool_is_there_when_it_is_wanted_or_holds_something() {
    let dir = directory();
    let open = |wanted| Classes::open(config(dir.path(), WhenFull::Refuse), wanted).unwrap();
    let (classes, _) = open(false);
    classes.append(Class::Priority, &frame(0, 10), 10, false).unwrap();
    assert!(classes.priority_state().is_none() && !dir.path().join(DIR).exists());
    classes.close().unwrap();
    drop(classes);

    let (classes, _) = open(true);
    classes.append(Class::Priority, &frame(1, 20), 20, false).unwrap();
    drop(classes);
    // The settings have changed, and what the former run left still goes first.
    let (classes, found) = open(false);
    assert_eq!((found.frames, found.readings), (2, 30));
    assert_eq!(classes.priority_state().unwrap().readings, 20);
    let now = std::time::Instant::now();
    for (class, readings) in [(Class::Priority, 20), (Class::Ordinary, 10)] {
        let (place, frame) = classes.take(now, 10).unwrap().unwrap();
        assert_eq!((place.class, frame.readings), (class, readings));
        classes.ack(place);
    }
    classes.close().unwrap();
    drop(classes);
    assert!(open(false).0.priority_state().is_none());
}
