//! The open batches: which of them a reading goes into, and which of them is due.
//!
//! There is one for readings on the wall clock; a second one for channels with priority, which is a run of
//! its own; and while the clock is not set one for all of them in place of both.

use std::collections::HashSet;
use std::path::Path;

use ingot_agent::DeclareError;
use tokio::time::Instant;

use super::open::Open;
use crate::clock;
use crate::spool::Class;

pub(super) struct Batches {
    ordinary: Open,
    /// Readings of `priority_channels`; `None` when there are none.
    priority: Option<Open>,
    priority_channels: HashSet<Box<str>>,
    /// Readings taken while the clock is not set, for `undated`; `None` while it is.
    pub(super) unset: Option<Open>,
}

impl Batches {
    pub(super) fn new(gateway: &str, boot: u64) -> Result<Self, DeclareError> {
        let ordinary = Open::new(gateway, boot)?;
        Ok(Self { ordinary, priority: None, priority_channels: HashSet::new(), unset: None })
    }

    /// From now on these channels have a batch of their own.
    pub(super) fn prefer(&mut self, channels: &[String], run: impl FnOnce() -> Option<Open>) {
        if !channels.is_empty() {
            self.priority = run();
            self.priority_channels = channels.iter().map(|channel| channel.as_str().into()).collect();
        }
    }

    pub(super) fn class_of(&self, channel: &str) -> Class {
        if self.priority_channels.contains(channel) { Class::Priority } else { Class::Ordinary }
    }

    /// The batch that takes readings of this class now.
    pub(super) fn open(&mut self, class: Class) -> &mut Open {
        match (&mut self.unset, &mut self.priority, class) {
            (Some(unset), ..) => unset,
            (None, Some(priority), Class::Priority) => priority,
            _ => &mut self.ordinary,
        }
    }

    /// The class whose batch is the oldest, and since when it is open; `None`: all are empty.
    pub(super) fn oldest(&mut self) -> Option<(Instant, Class)> {
        Class::BOTH.into_iter().filter_map(|class| Some((self.open(class).since?, class))).min()
    }

    /// The clock is set: the machine booted at this time.
    pub(super) fn clock_is_set(&mut self, booted_ms: i64) {
        self.unset = None;
        for class in Class::BOTH {
            self.open(class).booted_ms = Some(booted_ms);
        }
    }
}

/// A batch of a run of its own, beside the gateway's: so no run's count of frames has holes. With its boot.
pub(super) fn run_of_its_own(gateway: &str, state_dir: &Path) -> Option<(Open, u64)> {
    let boot = clock::next_boot(state_dir).unwrap_or_else(|error| {
        tracing::warn!(%error, "a run of its own got a number by chance");
        fastrand::u64(..=i64::MAX.unsigned_abs())
    });
    // The name is good: the gateway's other batch bears it.
    Some((Open::new(gateway, boot).ok()?, boot))
}
