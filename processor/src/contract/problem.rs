//! What is wrong with a contract, and where.

use std::fmt;

use serde::Serialize;

use super::outline::Node;

/// A place in a contract's file. Both count from 1; 0 is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What, and what is allowed.
    pub problem: String,
}

/// Everything that is wrong with a contract.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct ContractErrors {
    /// In the order of the file.
    pub problems: Vec<Problem>,
}

/// Problems as they are found: each stands at the place that was named last.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    outline: Node,
    here: Place,
    found: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(outline: Node) -> Self {
        Self { here: outline.place, outline, found: Vec::new() }
    }

    /// What follows concerns the value at `path`, see [`Node::place_of`].
    pub(crate) fn at(&mut self, path: impl AsRef<str>) -> &mut Self {
        self.here = self.outline.place_of(path.as_ref());
        self
    }

    /// What follows stands at `place`.
    pub(super) fn at_place(&mut self, place: Place) -> &mut Self {
        self.here = place;
        self
    }

    /// The place that was named last.
    pub(super) fn here(&self) -> Place {
        self.here
    }

    /// Notes a problem.
    pub(crate) fn push(&mut self, problem: String) {
        // The engine's word may have lines of its own; a problem is one.
        let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
        self.found.push(Problem { place: self.here, problem });
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    /// All of them, in the order of the file.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| problem.place);
        self.found.dedup();
        self.found
    }

    pub(super) fn outline(&self) -> &Node {
        &self.outline
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place { line: 0, .. } => f.write_str(&self.problem),
            Place { line, column } => write!(f, "{line}:{column}: {}", self.problem),
        }
    }
}

impl fmt::Display for ContractErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the contract has {} problem(s):", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
