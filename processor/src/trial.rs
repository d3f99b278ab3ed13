//! `contract test`: a contract tried on its own examples, and its examples on mutants of it.
//!
//! Every example goes the way that a row of bronze goes ([`examine`]). If all end as they should, each
//! [`Mutant`] judges them too: one that changes no example's fate survives, which means that the rule
//! could be wrong in that way and nobody would see it.

mod hint;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Serialize;

use crate::bronze::{BronzeKey, Format, Packing};
use crate::check::{CheckError, Checker};
use crate::contract::{Case, Contract, Examples, Expect, Severity};
use crate::examine::{ExamineError, examine};
use crate::mutant::{Mutant, mutants};

/// How a contract did.
#[derive(Debug, Default, Serialize)]
pub struct Trial {
    /// The contract.
    pub dataset: String,
    /// Examples tried.
    pub examples: usize,
    /// Examples that ended otherwise than they should.
    pub failures: Vec<Failure>,
    /// Mutants by rule; empty while an example fails.
    pub rules: BTreeMap<String, Score>,
    /// Mutants that no example kills.
    pub survivors: Vec<Survivor>,
}

/// An example that ended otherwise.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// Its line in the contract.
    pub line: u64,
    /// Its name, or its row.
    pub example: String,
    /// What should become of it.
    pub expected: String,
    /// What became of it.
    pub happened: String,
}

/// How well the examples know a rule.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Score {
    /// Mutants made, without the equivalent ones.
    pub mutants: usize,
    /// Those that an example kills.
    pub killed: usize,
    /// Those that the contract declares equivalent to the rule, and no row says otherwise.
    pub equivalent: usize,
}

/// A mutant that judges all examples as the contract does.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Survivor {
    /// Its rule.
    pub rule: String,
    /// Its mistake.
    pub mutant: String,
    /// A row that would kill it, if one was found.
    pub hint: Option<String>,
}

/// A trial that could not be held.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// There is nothing to try it on.
    #[error(
        "the contract {dataset} has no examples; add the custom property `examples`, see docs/contracts.md"
    )]
    NoExamples {
        /// The contract.
        dataset: String,
    },
    /// Its checks do not run.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// An example could not be examined.
    #[error(transparent)]
    Examine(#[from] ExamineError),
}

/// Tries the contract. `progress` is told the mutants done and found.
pub fn trial(contract: &Contract, progress: impl Fn(u64, u64)) -> Result<Trial, TrialError> {
    let dataset = contract.dataset.clone();
    let Some(examples) = &contract.examples else {
        return Err(TrialError::NoExamples { dataset });
    };
    let checker = Checker::new(contract)?;
    let mut trial = Trial { dataset, examples: examples.cases.len(), ..Trial::default() };
    for case in &examples.cases {
        let (expect, rules) = fate(&checker, case, examples.now_ms)?;
        if (expect, &rules) != (case.expect, &case.rules) {
            trial.failures.push(Failure {
                line: case.at_line,
                example: case.name.clone(),
                expected: said(case.expect, &case.rules),
                happened: said(expect, &rules),
            });
        }
    }
    if trial.failures.is_empty() {
        try_mutants(contract, examples, &mut trial, progress)?;
    }
    Ok(trial)
}

fn try_mutants(
    contract: &Contract,
    examples: &Examples,
    trial: &mut Trial,
    progress: impl Fn(u64, u64),
) -> Result<(), TrialError> {
    let lines: Vec<&str> = examples.cases.iter().map(|case| case.row.as_str()).collect();
    let candidates = hint::candidates(contract, examples);
    let expected = failing(contract, &lines, examples.now_ms)?;
    let expected_of_candidates = failing(contract, &candidates, examples.now_ms)?;
    let mutants = mutants(contract);
    for (done, mutant) in mutants.iter().enumerate() {
        progress(done as u64, mutants.len() as u64);
        let Mutant { rule, mistake, contract } = mutant;
        // A mistake that the planner or the engine refuses could not be made.
        let Ok(judged) = failing(contract, &lines, examples.now_ms) else { continue };
        let score = trial.rules.entry(rule.clone()).or_default();
        if judged != expected {
            score.mutants += 1;
            score.killed += 1;
            continue;
        }
        let other = failing(contract, &candidates, examples.now_ms).unwrap_or_default();
        let differs = expected_of_candidates.iter().zip(&other).position(|(one, other)| one != other);
        let hint = differs.map(|place| candidates[place].clone());
        if hint.is_none() && examples.equivalent.contains(mistake) {
            score.equivalent += 1;
            continue;
        }
        score.mutants += 1;
        trial.survivors.push(Survivor { rule: rule.clone(), mutant: mistake.clone(), hint });
    }
    Ok(())
}

/// What becomes of an example, as of any object in bronze, and by which rules.
fn fate(checker: &Checker, case: &Case, now_ms: i64) -> Result<(Expect, BTreeSet<String>), ExamineError> {
    let examined = match examine(checker, &key(checker.contract()), Bytes::from(case.row.clone()), now_ms) {
        Ok(examined) => examined,
        Err(ExamineError::Failed { check, .. }) => return Ok((Expect::Fail, BTreeSet::from([check]))),
        Err(ExamineError::Quarantined { check, .. }) => {
            return Ok((Expect::Quarantine, BTreeSet::from([check])));
        }
        Err(error) => return Err(error),
    };
    Ok(match examined.discards.into_iter().next() {
        Some(row) => (Expect::Discard, row.rules.into_iter().collect()),
        None => (Expect::Accept, examined.warnings.into_keys().collect()),
    })
}

/// The rules that each of the lines fails, in one pass: as if every check discarded. A warning is left
/// out where a row is discarded anyway, as no report shows it.
fn failing(
    contract: &Contract,
    lines: &[impl AsRef<str>],
    now_ms: i64,
) -> Result<Vec<BTreeSet<String>>, TrialError> {
    let mut strict = contract.clone();
    strict.checks.iter_mut().for_each(|check| check.severity = Severity::Discard);
    let mut object = String::new();
    for line in lines {
        object.push_str(line.as_ref());
        object.push('\n');
    }
    let examined = examine(&Checker::new(&strict)?, &key(contract), Bytes::from(object), now_ms)?;
    let mut fates = vec![BTreeSet::new(); lines.len()];
    for row in examined.discards {
        let Some(fate) = usize::try_from(row.ordinal).ok().and_then(|place| fates.get_mut(place)) else {
            continue;
        };
        fate.extend(row.rules);
        let warns = |rule: &String| {
            contract.checks.iter().any(|check| check.id == *rule && check.severity == Severity::Warn)
        };
        if fate.iter().any(|rule| !warns(rule)) {
            fate.retain(|rule| !warns(rule));
        }
    }
    Ok(fates)
}

fn key(contract: &Contract) -> BronzeKey {
    BronzeKey {
        key: "the example".to_owned(),
        dataset: contract.dataset.clone(),
        format: Format::Ndjson,
        packing: Packing::Plain,
        dt: None,
        gateway: None,
        batch: None,
    }
}

fn said(expect: Expect, rules: &BTreeSet<String>) -> String {
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    if rules.is_empty() {
        expect.word().to_owned()
    } else {
        format!("{} by {}", expect.word(), rules.join(", "))
    }
}

#[cfg(test)]
mod tests;
