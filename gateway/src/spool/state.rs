//! The spool in numbers, read at one moment under its lock; none of them walks the backlog.

use super::Spool;
use super::directory::Directory;

/// What is in the spool now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolState {
    /// Good frames not yet acknowledged.
    pub frames: u64,
    /// Readings in them.
    pub readings: u64,
    /// Bytes of all segment files, the condemned ones left out: they are as good as gone.
    pub bytes: u64,
    /// Damaged frames stepped over while sending.
    pub damaged_frames: u64,
    /// Segments given up for writing after a failed write or fsync.
    pub poisoned_segments: u64,
    /// Of `frames`, those that a failed fsync put in doubt: a power cut may cost them. At most that many.
    pub in_doubt_frames: u64,
    /// Readings in them.
    pub in_doubt_readings: u64,
    /// Frames that were stored, and were damaged when they were to be sent.
    pub lost_frames: u64,
    /// Readings in them.
    pub lost_readings: u64,
    /// Places that could not be read; they wait for the next start.
    pub unreadable_places: u64,
    /// Parts in which the spool is sent: 1 in order, more while a backlog drains beside live frames.
    pub ranges: u64,
    /// Bytes that this run handed to the disk: frames, cursor, counts.
    pub bytes_written: u64,
    /// Fsyncs that it asked for.
    pub fsyncs: u64,
    /// Readings appended by this run.
    pub readings_appended: u64,
}

impl SpoolState {
    pub(super) fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.readings += other.readings;
        self.bytes += other.bytes;
        self.damaged_frames += other.damaged_frames;
        self.poisoned_segments += other.poisoned_segments;
        self.in_doubt_frames += other.in_doubt_frames;
        self.in_doubt_readings += other.in_doubt_readings;
        self.lost_frames += other.lost_frames;
        self.lost_readings += other.lost_readings;
        self.unreadable_places += other.unreadable_places;
        self.ranges += other.ranges;
        self.bytes_written += other.bytes_written;
        self.fsyncs += other.fsyncs;
        self.readings_appended += other.readings_appended;
    }
}

impl<D: Directory> Spool<D> {
    /// What is in it now.
    pub fn state(&self) -> SpoolState {
        let inner = self.lock();
        let sums = inner.segments.sums();
        SpoolState {
            frames: sums.owed.frames,
            readings: sums.owed.readings,
            bytes: sums.bytes,
            damaged_frames: inner.damaged_frames,
            poisoned_segments: inner.poisoned_segments,
            in_doubt_frames: sums.doubt.frames,
            in_doubt_readings: sums.doubt.readings,
            lost_frames: inner.lost.frames,
            lost_readings: inner.lost.readings,
            unreadable_places: inner.aside.len() as u64,
            ranges: inner.owed.ranges().count() as u64,
            bytes_written: self.disk.bytes_written(),
            fsyncs: self.disk.fsyncs(),
            readings_appended: inner.readings_appended,
        }
    }
}
