//! What a source says in the log: a change once, bad input at most once in [`LOG_EVERY`].

use std::time::{Duration, Instant};

/// Bad input is logged at most once in this time; it is always counted.
pub const LOG_EVERY: Duration = Duration::from_secs(10);

/// Input that was no reading, since the log last spoke of it.
#[derive(Debug, Default)]
pub struct BadInput {
    unsaid: u64,
    said: Option<Instant>,
}

impl BadInput {
    /// Notes one piece of bad input. `why` must not repeat its content.
    pub fn note(&mut self, source: &str, why: &str) {
        self.unsaid += 1;
        if self.said.is_none_or(|said| said.elapsed() >= LOG_EVERY) {
            tracing::warn!(
                source,
                times = self.unsaid,
                last = why,
                "input that is no reading was dropped and counted"
            );
            self.said = Some(Instant::now());
            self.unsaid = 0;
        }
    }
}

/// Whether what a source reads from is there.
#[derive(Debug)]
pub struct Link {
    source: String,
    /// `None` until the first try.
    there: Option<bool>,
}

impl Link {
    /// A link that was not tried yet.
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), there: None }
    }

    /// Whose link it is, for the log.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Notes that it works; logged if it did not before. Gives whether that is a change.
    pub fn up(&mut self) -> bool {
        let change = self.there != Some(true);
        if change {
            tracing::info!(source = self.source, "the source is there");
        }
        self.there = Some(true);
        change
    }

    /// Notes that it does not work; logged if it did before. Gives whether that is a change.
    pub fn down(&mut self, why: impl std::fmt::Display) -> bool {
        let change = self.there != Some(false);
        if change {
            tracing::warn!(source = self.source, %why, "the source is gone; it is tried again until it comes back");
        }
        self.there = Some(false);
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_said() {
        let mut link = Link::new("a port");
        let said = [
            link.down("no such file"),
            link.down("no such file"),
            link.up(),
            link.up(),
            link.down("unplugged"),
        ];
        assert_eq!(said, [true, false, true, false, true]);
    }

    #[test]
    fn bad_input_is_said_once_in_a_while_and_no_note_is_forgotten() {
        let mut bad = BadInput::default();
        for _ in 0..1_000 {
            bad.note("a port", "noise");
        }
        assert_eq!(bad.unsaid, 999, "the first was said at once, the others wait for the next time");
    }
}
