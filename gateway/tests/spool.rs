//! The spool against a model: whatever is appended, acknowledged, torn and damaged, in any order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::frame;
use ingot_gateway::spool::{AppendError, Spool, SpoolConfig, SpoolError, WhenFull};
use proptest::prelude::*;

fn config(dir: &Path, when_full: WhenFull) -> SpoolConfig {
    SpoolConfig {
        dir: dir.into(),
        bytes_max: 16_384,
        segment_bytes_max: 2_000,
        fsync_interval_ms: 1_000,
        when_full,
        live_share_percent: 20,
        live_lag_ms_max: 30_000,
    }
}

fn open(dir: &Path, when_full: WhenFull) -> Spool {
    Spool::open(config(dir, when_full)).unwrap().0
}

fn append(spool: &Spool, seq: u64, readings: u32) -> Result<(), AppendError> {
    spool.append(&frame(seq, readings), readings, false)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "ingot")).collect();
    files.sort();
    files
}

/// Takes everything, in order; acknowledges what `ack` wants.
fn take_all(spool: &Spool, ack: impl Fn(u64) -> bool) -> Vec<u64> {
    let mut seqs = Vec::new();
    while let Some(taken) = spool.take(Instant::now(), usize::MAX).unwrap() {
        assert_eq!((taken.identity.gateway.as_str(), taken.identity.boot), ("gw", 1));
        seqs.push(taken.identity.seq);
        if ack(taken.identity.seq) {
            spool.ack(taken.position);
        }
    }
    seqs
}

#[derive(Clone, Debug)]
enum Action {
    Append(u32),
    Take {
        ack: bool,
    },
    GiveBackAll,
    Sync,
    Reopen,
    /// `kill -9` in the middle of an append: some bytes of a frame without its end.
    TearTail(usize),
    LoseCursor,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0_u32..60).prop_map(Action::Append),
        4 => any::<bool>().prop_map(|ack| Action::Take { ack }),
        1 => Just(Action::GiveBackAll),
        1 => Just(Action::Sync),
        1 => Just(Action::Reopen),
        1 => (1_usize..40).prop_map(Action::TearTail),
        1 => Just(Action::LoseCursor),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Every frame that was appended and not acknowledged is there, none is there in damaged form, and an
    /// acknowledged one comes back only after the cursor was lost or not yet written.
    #[test]
    fn nothing_is_lost_by_any_sequence(actions in prop::collection::vec(action(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path(), WhenFull::Refuse);
        let mut next = 0;
        let (mut waiting, mut acked) = (BTreeMap::new(), BTreeSet::new());
        for action in actions {
            match action {
                Action::Append(readings) => {
                    match append(&spool, next, readings) {
                        Ok(()) => { waiting.insert(next, readings); }
                        Err(AppendError::Full { bytes, bytes_max }) => {
                            prop_assert!(bytes + 600 > bytes_max && bytes <= bytes_max);
                        }
                        Err(other) => prop_assert!(false, "{other}"),
                    }
                    next += 1;
                }
                Action::Take { ack } => {
                    if let Some(taken) = spool.take(Instant::now(), usize::MAX).unwrap() {
                        let seq = taken.identity.seq;
                        prop_assert!(waiting.contains_key(&seq) || acked.contains(&seq));
                        if ack {
                            spool.ack(taken.position);
                            waiting.remove(&seq);
                            acked.insert(seq);
                        }
                    }
                }
                Action::GiveBackAll => spool.give_back_all(),
                Action::Sync => spool.sync().unwrap(),
                Action::Reopen => {
                    spool.close().unwrap();
                    drop(spool);
                    spool = open(dir.path(), WhenFull::Refuse);
                }
                Action::TearTail(bytes) => {
                    drop(spool);
                    if let Some(last) = segments(dir.path()).last() {
                        let torn = frame(next, 40);
                        let mut content = fs::read(last).unwrap();
                        content.extend(&torn[..bytes.min(torn.len() - 1)]);
                        fs::write(last, content).unwrap();
                    }
                    let (opened, found) = Spool::open(config(dir.path(), WhenFull::Refuse)).unwrap();
                    prop_assert_eq!(found.damaged_frames, 0);
                    spool = opened;
                }
                Action::LoseCursor => { fs::remove_file(dir.path().join("cursor")).ok(); }
            }
        }
        spool.give_back_all();
        let seen: BTreeSet<_> = take_all(&spool, |_| true).into_iter().collect();
        for seq in waiting.keys() {
            prop_assert!(seen.contains(seq), "frame {seq} is lost");
        }
        prop_assert!(seen.iter().all(|seq| waiting.contains_key(seq) || acked.contains(seq)));
        spool.close().unwrap();
        prop_assert_eq!(spool.state().frames, 0);
        prop_assert_eq!(segments(dir.path()).len(), 0);
    }

    /// A damaged byte costs the frames that it stands in (two, if it is an end or becomes one) and no other.
    #[test]
    fn damage_in_the_middle_costs_its_frame_alone(at in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path(), WhenFull::Refuse);
        for seq in 0..8 {
            append(&spool, seq, 20).unwrap();
        }
        drop(spool);
        let segment = &segments(dir.path())[0];
        let mut content = fs::read(segment).unwrap();
        let frames = content.iter().filter(|byte| **byte == 0).count();
        let at = at.index(content.len() - 1); // the last byte's damage is a torn tail
        content[at] ^= flip;
        fs::write(segment, &content).unwrap();

        let (spool, found) = Spool::open(config(dir.path(), WhenFull::Refuse)).unwrap();
        prop_assert!((1..=2).contains(&found.damaged_frames), "{found:?} of {frames}");
        let seqs = take_all(&spool, |_| true);
        prop_assert!(seqs.len() >= 6 && seqs.len() < 8, "{seqs:?}");
        prop_assert_eq!(found.frames, seqs.len() as u64);
        prop_assert!(spool.state().damaged_frames >= 1);
        spool.close().unwrap();
        prop_assert_eq!(segments(dir.path()).len(), 0);
    }
}

#[test]
fn order_and_cursor_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path(), WhenFull::Refuse);
    for seq in 0..10 {
        append(&spool, seq, 10).unwrap();
    }
    assert_eq!(take_all(&spool, |seq| seq < 4), (0..10).collect::<Vec<_>>());
    spool.close().unwrap();
    drop(spool);
    let (spool, found) = Spool::open(config(dir.path(), WhenFull::Refuse)).unwrap();
    assert_eq!((found.frames, found.readings), (6, 60));
    append(&spool, 10, 10).unwrap();
    assert_eq!(take_all(&spool, |_| true), (4..=10).collect::<Vec<_>>());
}

#[test]
fn a_senseless_cursor_costs_re_sends_only() {
    for cursor in ["", "0", "0 7\n", "x y\n", "-1 -1\n", "0 99999999999999999999\n"] {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path(), WhenFull::Refuse);
        for seq in 0..3 {
            append(&spool, seq, 10).unwrap();
        }
        drop(spool);
        fs::write(dir.path().join("cursor"), cursor).unwrap();
        assert_eq!(take_all(&open(dir.path(), WhenFull::Refuse), |_| true), [0, 1, 2], "{cursor:?}");
    }
}

#[test]
fn a_full_spool_refuses_until_acknowledgements_free_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path(), WhenFull::Refuse);
    let stored = (0..).take_while(|seq| append(&spool, *seq, 60).is_ok()).count() as u64;
    assert!(spool.state().bytes <= 16_384 && spool.state().frames == stored);
    assert_eq!(spool.condemn_oldest(60_000).frames, 0);
    assert!(spool.append(&frame(99, 60), 60, true).is_ok(), "at the end it is written above the cap");
    assert_eq!(take_all(&spool, |seq| seq < stored / 2).len() as u64, stored + 1);
    append(&spool, 100, 60).unwrap();
}

#[test]
fn at_the_cap_the_oldest_unsent_frames_go_and_are_counted_to_the_reading() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path(), WhenFull::DropOldest);
    let first = {
        append(&spool, 0, 60).unwrap();
        spool.take(Instant::now(), 9).unwrap().unwrap()
    };
    let (mut dropped_frames, mut dropped_readings) = (0, 0);
    for seq in 1..200 {
        let room = spool.condemn_oldest(600);
        dropped_frames += room.frames;
        dropped_readings += room.readings;
        append(&spool, seq, 60).unwrap();
        let on_disk: u64 = segments(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(on_disk <= 16_384, "{on_disk}");
    }
    assert!(dropped_frames > 50 && dropped_readings == dropped_frames * 60);
    let left = take_all(&spool, |_| false);
    assert_eq!(left.len() as u64 + 1 + dropped_frames, 200, "kept and dropped are all that there was");
    assert_eq!(left.last(), Some(&199));
    // What was being sent is never dropped: the far end may have it already.
    spool.ack(first.position);
    assert_eq!(spool.state().frames, left.len() as u64);
}

#[test]
fn a_spool_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path(), WhenFull::Refuse);
    let second = Spool::open(config(dir.path(), WhenFull::Refuse));
    let error = second.err().unwrap();
    assert!(matches!(error, SpoolError::Locked { .. }) && error.to_string().contains("--spool"), "{error}");
    drop(spool);
    open(dir.path(), WhenFull::Refuse);
}

#[test]
fn only_frames_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path(), WhenFull::Refuse);
    for bytes in [&b""[..], b"no end", b"two\0ends\0", &[1; 200_000]] {
        assert!(matches!(spool.append(bytes, 1, false), Err(AppendError::NotAFrame { .. })));
    }
    assert_eq!(spool.state().bytes, 0);
}

#[test]
fn refused_frames_do_not_pull_the_whole_backlog_into_memory() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path(), WhenFull::Refuse);
    for seq in 0..10 {
        append(&spool, seq, 10).unwrap();
    }
    let later = Instant::now() + std::time::Duration::from_secs(3_600);
    let mut taken = 0;
    while let Some(frame) = spool.take(Instant::now(), 3).unwrap() {
        spool.give_back(frame.position, later);
        taken += 1;
    }
    assert_eq!(taken, 3);
    assert_eq!(spool.retry_at(), Some(later));
    assert_eq!(spool.take(later, 3).unwrap().unwrap().identity.seq, 0);
}

/// A backlog of any size is opened by reading its end, and costs no memory but its list of segments.
#[test]
fn a_start_does_not_read_the_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let large = SpoolConfig { bytes_max: 1 << 30, ..config(dir.path(), WhenFull::Refuse) };
    let spool = Spool::open(large.clone()).unwrap().0;
    let frames: Vec<_> = (0..4).map(|seq| frame(seq, 60)).collect();
    for index in 0..800 {
        spool.append(&frames[index % 4], 60, false).unwrap();
    }
    spool.sync().unwrap();
    drop(spool);
    let (spool, found) = Spool::open(large.clone()).unwrap();
    assert!(found.segments >= 100 && found.segments_read <= 1, "{found:?}");
    assert_eq!((found.frames, found.readings), (800, 48_000));
    spool.close().unwrap();
    drop(spool);
    // The counts are advice: without them everything is read, and the answer is the same.
    fs::write(dir.path().join("counts"), "0 1 1 1 0\nrubbish").unwrap();
    let (_, again) = Spool::open(large).unwrap();
    assert_eq!((again.frames, again.readings), (800, 48_000));
    assert_eq!(again.segments_read, again.segments);
}

#[test]
fn what_is_written_to_flash_is_counted_and_the_cursor_is_a_small_part() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path(), WhenFull::Refuse);
    let before = spool.state();
    let frame = frame(0, 50);
    for _ in 0..30 {
        spool.append(&frame, 50, false).unwrap();
        spool.ack(spool.take(Instant::now(), 9).unwrap().unwrap().position);
        spool.sync().unwrap();
    }
    let state = spool.state();
    assert_eq!(state.readings_appended, 1_500);
    let written = state.bytes_written - before.bytes_written;
    let frames = 30 * frame.len() as u64;
    assert!(written >= frames && written < frames + frames / 20, "{written} for {frames}");
    // One a sync, three a closed segment: its end, its counts, the next one's name.
    let segments = frames.div_ceil(2_000);
    assert!(state.fsyncs - before.fsyncs <= 30 + 5 * segments, "{state:?}");
}

/// After an outage the newest frames go at once, and the backlog goes on beside them, across a restart too.
#[test]
fn while_a_backlog_drains_new_frames_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let live = SpoolConfig { live_lag_ms_max: 1_000, ..config(dir.path(), WhenFull::Refuse) };
    let spool = Spool::open(live.clone()).unwrap().0;
    for seq in 0..10 {
        append(&spool, seq, 30).unwrap();
    }
    let take_at = |spool: &Spool, now: Instant| {
        let taken = spool.take(now, 9).unwrap().unwrap();
        spool.ack(taken.position);
        taken.identity.seq
    };
    let take = |spool: &Spool| take_at(spool, Instant::now());
    assert_eq!(take_at(&spool, Instant::now() + std::time::Duration::from_secs(60)), 0);
    append(&spool, 10, 30).unwrap();
    assert_eq!([take(&spool), take(&spool)], [10, 1]);
    assert_eq!(spool.state().ranges, 2);
    spool.close().unwrap();
    drop(spool);
    let spool = Spool::open(live).unwrap().0;
    append(&spool, 11, 30).unwrap();
    assert_eq!([take(&spool), take(&spool), take(&spool)], [11, 2, 3]);
    assert_eq!(take_all(&spool, |_| true), [4, 5, 6, 7, 8, 9]);
}
