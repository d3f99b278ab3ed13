//! The batcher over a simulated clock: boards that start in 1970, steps, restarts, power cycles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod board;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ingot_agent::{Drop, Frame};
use proptest::prelude::*;

use crate::spool::WhenFull;
use board::{Board, DAY_MS, Event, errors, on_a_board, on_a_board_that_holds, readings};

const READINGS: Event = Event::Readings { count: 50, ago_ms: 0 };
const RESTART: Event = Event::Restart { passing_on: false };

async fn all(board: &mut Board, events: &[Event]) -> (usize, u64) {
    for event in events {
        board.happen(*event).await;
    }
    board.check().await
}

#[test]
fn a_boot_in_1970_costs_nothing_once_the_clock_is_set() {
    on_a_board(async |mut board| {
        let pass = Event::Pass { ms: 3 * DAY_MS };
        let events = [READINGS, pass, READINGS, Event::Sync, READINGS, Event::PassOn];
        assert_eq!(all(&mut board, &events).await, (150, 0));
        assert_eq!(errors(&board), [(0, 0), (0, 16)].into());
    });
}

#[test]
fn a_restart_before_the_clock_is_set_keeps_what_can_be_dated() {
    on_a_board(async |mut board| {
        let passing_on = Event::Restart { passing_on: true };
        let events = [READINGS, RESTART, READINGS, Event::Sync, passing_on, READINGS, Event::PassOn];
        assert_eq!(all(&mut board, &events).await, (150, 0));
        assert_eq!(errors(&board), [(0, 0), (0, 16)].into());
    });
}

#[test]
fn a_power_cut_while_passing_on_does_not_cost_the_dates_that_were_known() {
    on_a_board(async |mut board| {
        let events = [READINGS, Event::Sync, Event::PowerCycle, READINGS, Event::Sync];
        assert_eq!(all(&mut board, &events).await, (100, 0));
        assert_eq!(errors(&board), [(0, 16)].into());
    });
}

#[test]
fn a_boot_that_never_saw_the_time_is_passed_on_without_a_date() {
    on_a_board(async |mut board| {
        let events = [READINGS, Event::PowerCycle, READINGS, Event::Sync];
        assert_eq!(all(&mut board, &events).await, (100, 0));
        let errors = errors(&board);
        assert_eq!(errors.iter().map(|(_, flags)| *flags).collect::<BTreeSet<_>>(), [8, 16].into());
        assert!(errors.iter().all(|(error_ms, flags)| *flags == 8 || *error_ms == 0));
    });
}

#[test]
fn without_a_clock_nothing_leaves() {
    on_a_board(async |mut board| {
        assert_eq!(all(&mut board, &[READINGS, RESTART, READINGS, Event::Stop]).await, (0, 100));
    });
}

#[test]
fn steps_are_counted_and_no_frame_holds_readings_from_both_sides() {
    on_a_board(async |mut board| {
        let (forward, back) = (Event::Step { ms: 3 * DAY_MS }, Event::Step { ms: -600_000 });
        for event in [Event::Sync, READINGS, forward, READINGS, Event::Sync, READINGS, back, READINGS] {
            board.happen(event).await;
        }
        assert_eq!(board.batcher().0.done.clock_steps, 3);
        assert_eq!(board.batcher().0.done.clock_step_ms, -600_000);
        assert_eq!(board.check().await, (200, 0));
        assert_eq!(errors(&board), [(0, 0), (3 * DAY_MS, 0), (-600_000, 0)].into());
    });
}

#[test]
fn at_the_cap_what_waits_longest_goes_and_is_counted_in_a_header() {
    on_a_board_that_holds((1 << 14, WhenFull::DropOldest), async |mut board| {
        for _ in 0..100 {
            board.happen(Event::Readings { count: 500, ago_ms: 0 }).await;
            assert!(board.batcher().0.undated.spool().state().bytes <= 1 << 14);
        }
        board.happen(Event::Sync).await;
        let (batcher, phase) = board.batcher();
        batcher.end(phase).await;
        let spool = Arc::clone(&batcher.spool);
        let (mut found, mut dropped) = (BTreeSet::new(), 0);
        while let Some((_, taken)) = spool.take(std::time::Instant::now(), usize::MAX).unwrap() {
            found.extend(readings(&taken.bytes).1.iter().map(|reading| reading.seq));
            let mut bytes = taken.bytes.to_vec();
            bytes.pop();
            dropped += Frame::open(&mut bytes).unwrap().dropped(Drop::SpoolFull);
        }
        assert!(dropped > 2_000, "{dropped}");
        assert_eq!(found.len() as u64 + dropped, board.truth.len() as u64);
        assert!(found.contains(&49_999), "the newest are kept");
    });
}

#[test]
fn at_the_cap_sources_wait_where_nothing_may_be_dropped_until_the_clock_is_set() {
    on_a_board_that_holds((1 << 14, WhenFull::Refuse), async |mut board| {
        let world = Arc::clone(&board.world);
        let sync = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            world.lock().unwrap().error_ms = 0;
        };
        let feed = async {
            for _ in 0..60 {
                board.happen(Event::Readings { count: 500, ago_ms: 0 }).await;
            }
            board
        };
        // The world stands still while nothing waits: so the cap is met before the clock is set.
        let ((), mut board) = tokio::join!(sync, feed);
        assert_eq!(board.check().await, (30_000, 0));
        assert_eq!(errors(&board), [(0, 0), (0, 16)].into());
    });
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1_u64..120, 0_u64..4_000).prop_map(|(count, ago_ms)| Event::Readings { count, ago_ms }),
        3 => (0_i64..2 * DAY_MS).prop_map(|ms| Event::Pass { ms }),
        2 => Just(Event::Sync),
        1 => prop::sample::select(vec![3 * DAY_MS, -600_000, 200, -DAY_MS]).prop_map(|ms| Event::Step { ms }),
        2 => Just(Event::PassOn),
        1 => any::<bool>().prop_map(|passing_on| Event::Restart { passing_on }),
        1 => Just(Event::Stop),
        1 => Just(Event::PowerCycle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_reading_ends_once_with_its_frames_error_or_flagged(
        events in prop::collection::vec(event(), 1..16),
        synced in prop::bool::weighted(0.8),
    ) {
        on_a_board(async move |mut board| {
            let last = if synced { Event::Sync } else { Event::PassOn };
            for event in events.into_iter().chain([last]) {
                board.happen(event).await;
            }
            let (_, waiting) = board.check().await;
            assert!(!synced || waiting == 0, "{waiting} still wait");
        });
    }
}
