//! Contracts that come over a retained topic: judged before use, tried before they are kept.
//!
//! A pushed contract stands above the configured one, over restarts too, until an empty message takes it
//! away. A document with any problem changes nothing. A good one is on trial first: its ranges flag and
//! never drop, and when they put readings out of range that the former ones did not ([`trial`]), the
//! former contract is back and this document is not taken again. A trial that a restart cuts begins anew.
//!
//! The state machine takes bytes and time as arguments; [`task`] is its shell.

mod stored;
mod task;
pub mod trial;

use std::path::PathBuf;
use std::time::Instant;

use crate::health::ContractSnapshot;
use crate::range::{RangePolicy, RangeTable};
use stored::Stored;
use trial::{TrialCount, Verdict};

pub(crate) use task::keep;

/// Longest document that is taken, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 65_536;

/// Longest reason that is kept and shown, in characters.
const REASON_CHARS_MAX: usize = 300;

/// Where pushed contracts come from and how long one is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatesConfig {
    /// The retained topic.
    pub topic: String,
    /// Shortest trial, in milliseconds.
    pub trial_ms: u64,
}

/// What the settings say; a reload may change it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// None: pushed contracts are neither heard nor used.
    pub updates: Option<UpdatesConfig>,
    /// The ranges of the configured contract.
    pub configured: RangeTable,
    /// What happens outside the ranges of any contract.
    pub policy: RangePolicy,
}

/// The ranges in force.
#[derive(Clone, Debug)]
pub struct Ranges {
    /// What readings are judged by.
    pub range: RangeTable,
    /// While `range` is on trial: the trial.
    pub trial: Option<Trial>,
}

/// What a contract on trial is held against.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Counts from 1 in each run.
    pub number: u64,
    /// The ranges before it.
    pub former: RangeTable,
}

/// What became of a message or a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing changes.
    Nothing,
    /// The document is in force, on trial.
    OnTrial,
    /// The trial is over, the document is kept.
    Confirmed,
    /// The pushed contract was taken away.
    Removed,
    /// The document is not used, and why.
    Refused(String),
    /// The trial went wrong, and why; the former contract is back.
    RolledBack(String),
}

/// Pushed contracts and what is in force.
pub struct Updates {
    file: PathBuf,
    settings: Settings,
    stored: Stored,
    /// The running trial: its number and its start.
    trial: Option<(u64, Instant)>,
    trials: u64,
    /// So that the same one, sent again at each connect, is told of once.
    last_refused: Option<Vec<u8>>,
    status: ContractSnapshot,
}

impl Updates {
    /// With what an earlier run stored in the spool's directory. A stored contract that cannot be used is
    /// given up with a warning.
    pub fn open(dir: &std::path::Path, settings: Settings, now: Instant) -> Self {
        let mut updates = Self {
            file: dir.join(stored::FILE),
            settings,
            stored: Stored::default(),
            trial: None,
            trials: 0,
            last_refused: None,
            status: ContractSnapshot::default(),
        };
        if updates.settings.updates.is_some() {
            updates.stored = stored::read(&updates.file).unwrap_or_else(|problem| {
                tracing::warn!(problem, "the stored contract is given up; the configured one is used");
                Stored::default()
            });
            updates.check_stored();
            updates.try_anew(now);
        }
        updates
    }

    /// Takes new settings; a pushed contract that they make unusable is given up with a warning.
    pub fn reconfigure(&mut self, settings: Settings, now: Instant) {
        if settings.updates.is_none() {
            self.stored = Stored::default();
            self.trial = None;
        } else if self.settings.updates.is_none() {
            *self = Self { status: self.status.clone(), ..Self::open(self.dir(), settings, now) };
            return;
        }
        self.settings = settings;
        self.check_stored();
    }

    /// What readings are to be judged by.
    pub fn ranges(&self) -> Ranges {
        let Some(pushed) = &self.stored.pushed else {
            return Ranges { range: self.settings.configured.clone(), trial: None };
        };
        match self.trial {
            None => Ranges { range: self.table(Some(pushed), &self.settings.policy), trial: None },
            Some((number, _)) => Ranges {
                range: self.table(Some(pushed), &RangePolicy::default()),
                trial: Some(Trial {
                    number,
                    former: self.table(self.stored.before.as_deref(), &self.settings.policy),
                }),
            },
        }
    }

    /// A message of the topic.
    pub fn receive(&mut self, payload: &[u8], now: Instant) -> News {
        if self.last_refused.as_deref() == Some(payload) {
            return News::Nothing;
        }
        if payload.is_empty() {
            let was = std::mem::take(&mut self.stored);
            self.trial = None;
            self.status.problem = None;
            return if was == Stored::default() { News::Nothing } else { News::Removed };
        }
        let text = match document(payload) {
            Ok(text) => text,
            Err(problem) => return self.refuse(payload, problem),
        };
        if self.stored.pushed.as_deref() == Some(text) {
            return News::Nothing;
        }
        if self.stored.rolled_back.as_deref() == Some(text) {
            let why = "it was rolled back before; push another one, or an empty message and then this one";
            return self.refuse(payload, why.to_owned());
        }
        if let Err(problems) = self.settings.policy.table(text) {
            return self.refuse(payload, problems.join("; "));
        }
        if self.trial.is_none() {
            self.stored.before = self.stored.pushed.take();
        }
        self.stored.pushed = Some(text.to_owned());
        self.stored.rolled_back = None;
        self.stored.on_trial = true;
        self.last_refused = None;
        self.status.accepted += 1;
        self.status.problem = None;
        self.try_anew(now);
        News::OnTrial
    }

    /// Looks at the trial, if there is one.
    pub fn look(&mut self, count: TrialCount, now: Instant) -> News {
        let (Some((number, since)), Some(updates)) = (self.trial, &self.settings.updates) else {
            return News::Nothing;
        };
        if count.trial != number {
            return News::Nothing;
        }
        match trial::verdict(count, now.saturating_duration_since(since), updates.trial_ms) {
            Verdict::GoesOn => News::Nothing,
            Verdict::Good => {
                self.trial = None;
                self.stored.on_trial = false;
                self.stored.before = None;
                News::Confirmed
            }
            Verdict::Bad(why) => {
                self.trial = None;
                self.stored = Stored {
                    pushed: self.stored.before.take(),
                    rolled_back: self.stored.pushed.take(),
                    ..Stored::default()
                };
                self.status.rolled_back += 1;
                self.status.problem = Some(why.clone());
                News::RolledBack(why)
            }
        }
    }

    /// How it stands, to be shown.
    pub fn status(&self) -> ContractSnapshot {
        ContractSnapshot {
            pushed: self.stored.pushed.is_some(),
            on_trial: self.trial.is_some(),
            ..self.status.clone()
        }
    }

    /// Stores what must outlive the run.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn store(&self) -> std::io::Result<()> {
        stored::write(&self.file, &self.stored)
    }

    fn refuse(&mut self, payload: &[u8], problem: String) -> News {
        let problem: String = problem.chars().take(REASON_CHARS_MAX).collect();
        self.last_refused = Some(payload.get(..=DOCUMENT_BYTES_MAX).unwrap_or(payload).to_vec());
        self.status.refused += 1;
        self.status.problem = Some(format!("refused: {problem}"));
        News::Refused(problem)
    }

    fn try_anew(&mut self, now: Instant) {
        self.trial = self.stored.on_trial.then(|| {
            self.trials += 1;
            (self.trials, now)
        });
    }

    /// Gives up what the settings' policy cannot be applied to.
    fn check_stored(&mut self) {
        let documents = [&self.stored.pushed, &self.stored.before];
        let problem = documents.into_iter().flatten().find_map(|text| self.settings.policy.table(text).err());
        if let Some(problems) = problem {
            let problem = problems.join("; ");
            tracing::warn!(problem, "the pushed contract is given up; the configured one is used");
            self.stored = Stored::default();
            self.trial = None;
        }
    }

    /// Ranges of a stored document, which was checked; none is the configured one.
    fn table(&self, text: Option<&str>, policy: &RangePolicy) -> RangeTable {
        let stored = text.and_then(|text| policy.table(text).ok());
        stored.unwrap_or_else(|| self.settings.configured.clone())
    }

    fn dir(&self) -> &std::path::Path {
        self.file.parent().unwrap_or(&self.file)
    }
}

fn document(payload: &[u8]) -> Result<&str, String> {
    if payload.len() > DOCUMENT_BYTES_MAX {
        return Err(format!("it has {} bytes; up to {DOCUMENT_BYTES_MAX} are taken", payload.len()));
    }
    std::str::from_utf8(payload)
        .map_err(|error| format!("it is not UTF-8 from byte {} on", error.valid_up_to()))
}

#[cfg(test)]
mod tests;
