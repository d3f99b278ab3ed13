//! A full disk, a read-only one, bad sectors, and directories that others have been at.

use std::io::ErrorKind;
use std::time::Instant;

use ingot_gateway::spool::{AppendError, Spool, SpoolError, WhenFull};

use crate::disk::CrashDisk;
use crate::run::{READINGS, config, frames};

fn open(disk: &CrashDisk) -> Spool<CrashDisk> {
    Spool::open_in(disk.clone(), config(WhenFull::DropOldest, 20)).unwrap().0
}

fn take_all(spool: &Spool<CrashDisk>) -> Vec<u64> {
    let taken = std::iter::from_fn(|| spool.take(Instant::now(), 99).unwrap());
    taken.map(|frame| (frame.identity.seq, spool.ack(frame.position)).0).collect()
}

#[test]
fn a_full_disk_frees_the_oldest_segment_and_counts_it() {
    let (disk, frames) = (CrashDisk::new(1), frames(8));
    let spool = open(&disk);
    for frame in &frames[..6] {
        spool.append(frame, READINGS, false).unwrap();
    }
    disk.refuse(Some(ErrorKind::StorageFull));
    let error = spool.append(&frames[6], READINGS, false).unwrap_err();
    assert!(
        matches!(&error, AppendError::Write { source } if source.kind() == ErrorKind::StorageFull),
        "{error}"
    );
    disk.refuse(None); // as if the segment's room were enough
    let freed = spool.free_oldest().unwrap();
    assert!(freed.frames > 0 && freed.readings == freed.frames * u64::from(READINGS));
    spool.append(&frames[7], READINGS, false).unwrap();
    let delivered = take_all(&spool);
    assert_eq!(delivered.len() as u64 + freed.frames, 7, "{delivered:?}");
    assert_eq!(delivered.last(), Some(&7));
}

#[test]
fn a_disk_that_turns_read_only_still_sends_what_it_has() {
    let (disk, frames) = (CrashDisk::new(1), frames(4));
    let spool = open(&disk);
    for frame in &frames[..3] {
        spool.append(frame, READINGS, false).unwrap();
    }
    disk.refuse(Some(ErrorKind::ReadOnlyFilesystem));
    assert!(spool.append(&frames[3], READINGS, false).is_err());
    assert_eq!(take_all(&spool), [0, 1, 2]);
    drop(spool);
    // A start on it works too: frames are there, and sent again without a cursor.
    assert_eq!(take_all(&open(&disk)), [0, 1, 2]);
}

#[test]
fn a_spool_of_a_newer_version_is_refused_untouched_and_told_what_to_do() {
    let (disk, frames) = (CrashDisk::new(1), frames(1));
    open(&disk).append(&frames[0], READINGS, false).unwrap();
    disk.put("version", b"2\n");
    let before = disk.names_now();
    let error = Spool::open_in(disk.clone(), config(WhenFull::Refuse, 20)).err().unwrap();
    assert!(matches!(error, SpoolError::Newer { format: 2, .. }));
    let told = error.to_string();
    assert!(told.contains("format 2") && told.contains("--spool DIR") && told.contains("safe"), "{told}");
    assert_eq!(disk.names_now(), before);
}

#[test]
fn a_version_that_is_no_number_is_written_again() {
    for content in [&b""[..], b"\0\0", b"one\n", b"\xff"] {
        let (disk, frames) = (CrashDisk::new(1), frames(1));
        open(&disk).append(&frames[0], READINGS, false).unwrap();
        disk.put("version", content);
        assert_eq!(take_all(&open(&disk)), [0]);
        assert_eq!(disk.content("version").unwrap(), b"1\n");
    }
}

#[test]
fn foreign_and_half_written_files_cost_nothing() {
    let frames = frames(9);
    for name in ["notes.txt", "cursor.tmp", "counts.tmp", "version.tmp", "12.ingot", "0000000009.ingot.gz"] {
        let disk = CrashDisk::new(1);
        disk.put(name, b"1 2 3\nwhatever\0");
        let spool = open(&disk);
        for frame in &frames {
            spool.append(frame, READINGS, false).unwrap();
        }
        spool.close().unwrap();
        drop(spool);
        assert_eq!(take_all(&open(&disk)), (0..9).collect::<Vec<_>>(), "{name}");
    }
    for (name, content) in [
        ("cursor", "0 100\n0 4"),
        ("cursor", "0 3 0 7\n1 0\n"),
        ("cursor", "\0\0\0\0\0\n"),
        ("counts", "0 1 1 1 0\n1 18446744073709551615 9 9 1\n"),
        ("counts", "\u{0}\n\n7\n"),
    ] {
        let disk = CrashDisk::new(1);
        let spool = open(&disk);
        for frame in &frames {
            spool.append(frame, READINGS, false).unwrap();
        }
        drop(spool);
        disk.put(name, content.as_bytes());
        assert_eq!(take_all(&open(&disk)), (0..9).collect::<Vec<_>>(), "{name} {content:?}");
    }
}

#[test]
fn a_bad_sector_costs_its_own_segment_until_it_can_be_read() {
    let (disk, frames) = (CrashDisk::new(1), frames(9));
    let spool = open(&disk);
    for frame in &frames {
        spool.append(frame, READINGS, false).unwrap();
    }
    disk.make_unreadable("0000000000.ingot");
    let (mut delivered, mut failures) = (Vec::new(), 0);
    loop {
        match spool.take(Instant::now(), 99) {
            Ok(Some(frame)) => {
                delivered.push(frame.identity.seq);
                spool.ack(frame.position);
            }
            Ok(None) => break,
            Err(_) => failures += 1,
        }
    }
    let state = spool.state();
    assert_eq!((failures, state.unreadable_places, state.frames), (2, 1, 9 - delivered.len() as u64));
    assert!(!delivered.is_empty() && delivered[0] > 0);
    spool.close().unwrap();
    drop(spool);
    disk.make_readable();
    delivered.extend(take_all(&open(&disk)));
    delivered.sort_unstable();
    assert_eq!(delivered, (0..9).collect::<Vec<_>>(), "nothing twice, nothing lost");
}

#[test]
fn a_number_that_is_taken_is_passed_over() {
    let (disk, frames) = (CrashDisk::new(1), frames(9));
    let spool = open(&disk);
    disk.put("0000000000.ingot", b"not ours");
    for frame in &frames {
        spool.append(frame, READINGS, false).unwrap();
    }
    assert_eq!(take_all(&spool), (0..9).collect::<Vec<_>>());
    assert_eq!(disk.content("0000000000.ingot").unwrap(), b"not ours");
}
