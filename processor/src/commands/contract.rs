//! `contract lint|test|diff`: rules are tried where they are written.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use ingot_processor::contract::{Contract, Problem};
use ingot_processor::lake::Lake;
use ingot_processor::lint;
use ingot_processor::trial::{Trial, TrialError, trial};
use ingot_processor::verdict_change::{self, DiffError, EXAMPLES_MAX, VerdictChange, Which};
use serde::Serialize;

use super::{USAGE, Usage, WORK_FAILED, contracts, print, progress_bar};
use crate::cli::Cli;

/// `contract`.
#[derive(Args)]
pub struct ContractArgs {
    #[command(subcommand)]
    command: ContractCommand,
}

#[derive(Subcommand)]
enum ContractCommand {
    /// Check contract files: all problems at once, with their lines; exit 2 if there are any
    #[command(after_help = "Example:\n  ingot-processor contract lint contracts/orders.yaml")]
    Lint(Lint),
    /// Try contracts on their examples, and the examples on mutants of the rules; exit 1 if one fails
    #[command(
        after_help = "Example:\n  ingot-processor contract test contracts/orders.yaml --survivors-max 0"
    )]
    Test(Test),
    /// List the rows of bronze that another version of a contract would judge otherwise; writes nothing
    #[command(
        after_help = "Example:\n  ingot-processor contract diff orders.yaml orders-2.yaml --lake file:///data/lake --last 100"
    )]
    Diff(Diff),
}

#[derive(Args)]
struct Lint {
    /// Contract files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Args)]
struct Test {
    /// Contract files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Fail if more mutants than this survive; without it they are only reported
    #[arg(long, value_name = "N")]
    survivors_max: Option<usize>,
}

#[derive(Args)]
struct Diff {
    /// The contract as it is
    old: PathBuf,
    /// The contract as it would be
    new: PathBuf,
    /// The lake, e.g. file:///data/lake
    #[arg(long, env = "INGOT_LAKE")]
    lake: String,
    /// Only objects whose keys begin so, e.g. bronze/orders/dt=2026-01
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    bronze: String,
    /// Only the newest so many objects
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Rows shown for each change of verdict
    #[arg(long, value_name = "N", default_value_t = EXAMPLES_MAX)]
    rows_max: usize,
}

/// `contract`.
pub async fn contract(cli: &Cli, args: &ContractArgs) -> Result<ExitCode> {
    match &args.command {
        ContractCommand::Lint(lint) => lint_files(cli, lint).await,
        ContractCommand::Test(test) => test_files(cli, test),
        ContractCommand::Diff(diff) => diff_files(cli, diff).await,
    }
}

/// A problem and its file.
#[derive(Serialize)]
struct FileProblem {
    file: String,
    #[serde(flatten)]
    problem: Problem,
}

async fn lint_files(cli: &Cli, lint: &Lint) -> Result<ExitCode> {
    let mut found = Vec::new();
    for file in &lint.files {
        let text = read(file)?;
        let problems = lint::lint(&text, file.parent()).await;
        let file = file.display().to_string();
        found.extend(problems.into_iter().map(|problem| FileProblem { file: file.clone(), problem }));
    }
    print(cli, &found, || match found.len() {
        0 => format!("no problems in {} file(s)", lint.files.len()),
        _ => {
            let lines: Vec<String> = found.iter().map(|at| format!("{}:{}", at.file, at.problem)).collect();
            lines.join("\n")
        }
    })?;
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(USAGE) })
}

fn test_files(cli: &Cli, test: &Test) -> Result<ExitCode> {
    let contracts = contracts(&test.files)?;
    let mut trials = Vec::new();
    for contract in &contracts {
        let bar = progress_bar(cli, "trying", "mutants")?;
        let tried = trial(contract, |done, found| {
            bar.set_length(found);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        trials.push(tried.map_err(|error| match error {
            TrialError::NoExamples { .. } | TrialError::Check(_) => Usage(error.to_string()).into(),
            TrialError::Examine(_) => anyhow::Error::from(error),
        })?);
    }
    print(cli, &trials, || trials.iter().map(trial_text).collect::<Vec<_>>().join("\n"))?;
    let failures: usize = trials.iter().map(|trial| trial.failures.len()).sum();
    let survivors: usize = trials.iter().map(|trial| trial.survivors.len()).sum();
    let too_many = test.survivors_max.is_some_and(|max| survivors > max);
    Ok(if failures > 0 || too_many { ExitCode::from(WORK_FAILED) } else { ExitCode::SUCCESS })
}

async fn diff_files(cli: &Cli, diff: &Diff) -> Result<ExitCode> {
    let [old, new] = <[Contract; 2]>::try_from(contracts(&[diff.old.clone(), diff.new.clone()])?)
        .map_err(|_| Usage("two contracts are compared".to_owned()))?;
    let lake = Lake::open(&diff.lake)?;
    let which = Which { prefix: diff.bronze.clone(), last: diff.last, examples_max: diff.rows_max };
    let bar = progress_bar(cli, "judging", "objects")?;
    let compared = verdict_change::compare(&lake, &old, &new, &which, |done, found| {
        bar.set_length(found);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    let change = compared.map_err(|error| match error {
        DiffError::Datasets { .. } | DiffError::Check(_) => Usage(error.to_string()).into(),
        DiffError::Lake(_) => anyhow::Error::from(error),
    })?;
    print(cli, &change, || change_text(&change))?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(error) => bail!(Usage(format!("{}: {error}", file.display()))),
    }
}

fn trial_text(trial: &Trial) -> String {
    let right = trial.examples - trial.failures.len();
    let mut text = format!("{}: {right} of {} examples end as they should", trial.dataset, trial.examples);
    for failure in &trial.failures {
        text += &format!(
            "\n  line {}: {}\n    expected {}, but it was {}",
            failure.line, failure.example, failure.expected, failure.happened
        );
    }
    if trial.failures.is_empty() {
        for (rule, score) in &trial.rules {
            text += &format!("\n  {rule}: {} of {} mutants killed", score.killed, score.mutants);
            if score.equivalent > 0 {
                text += &format!(", {} equivalent", score.equivalent);
            }
        }
    } else {
        text += "\n  no mutants tried while an example fails";
    }
    for survivor in &trial.survivors {
        text += &format!("\n  survivor of {}: {}", survivor.rule, survivor.mutant);
        text += &match &survivor.hint {
            Some(row) => format!("\n    this row would kill it: {row}"),
            None => "\n    no row was found that kills it".to_owned(),
        };
    }
    text
}

fn change_text(change: &VerdictChange) -> String {
    let mut text = format!(
        "{}: {} objects, {} rows, {} with another verdict",
        change.dataset, change.objects, change.rows, change.changed
    );
    for line in &change.schema {
        text += &format!("\n  contract: {line}");
    }
    for kind in &change.changes {
        text += &format!("\n  {} -> {}: {} rows", kind.old, kind.new, kind.rows);
        for row in &kind.examples {
            text += &format!("\n    {} row {}: {}", row.key, row.ordinal, row.record);
        }
    }
    for (check, [old, new]) in &change.warnings {
        text += &format!("\n  warned of by {check}: {old} -> {new} rows");
    }
    if change.failed > 0 {
        text += &format!("\n  {} objects could not be judged", change.failed);
    }
    for (key, reason) in &change.failed_keys {
        text += &format!("\n    {key}: {reason}");
    }
    text
}
