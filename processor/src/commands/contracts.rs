//! The contracts of a command: the files that are named, those of a folder, or the built-in ones.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ingot_processor::contract::Contract;

use super::Usage;
use crate::cli::Place;

/// Where a function of Lambda has its files.
const FUNCTION_VARIABLE: &str = "LAMBDA_TASK_ROOT";

/// The contracts that rule a lake: the files that are named, else the folder, else the folder `contracts` beside a function
/// of Lambda, else the built-in ones.
pub(super) fn contracts_of(place: &Place) -> Result<Vec<Contract>> {
    let beside_function = || {
        let folder = Path::new(&env::var_os(FUNCTION_VARIABLE)?).join("contracts");
        folder.is_dir().then_some(folder)
    };
    let found = match (place.contracts.as_slice(), place.contracts_folder.clone().or_else(beside_function)) {
        ([], Some(folder)) => contracts(&files_in(&folder)?),
        (files, _) => contracts(files),
    };
    apart(found?)
}

/// The contracts in the files, or the built-in ones; the problems of all files at once.
pub(super) fn contracts(files: &[PathBuf]) -> Result<Vec<Contract>> {
    if files.is_empty() {
        return Ok(Contract::embedded());
    }
    let mut contracts = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match std::fs::read_to_string(file) {
            Ok(text) => match Contract::parse_beside(&text, file.parent().unwrap_or(Path::new(""))) {
                Ok(contract) => contracts.push(contract),
                Err(errors) => problems.push(format!("{}: {errors}", file.display())),
            },
            Err(error) => problems.push(format!("{}: {error}", file.display())),
        }
    }
    if problems.is_empty() { Ok(contracts) } else { bail!(Usage(problems.join("\n"))) }
}

/// Contracts of one lake, which may not write into each other's tables.
fn apart(contracts: Vec<Contract>) -> Result<Vec<Contract>> {
    let mut problems = Vec::new();
    for (place, contract) in contracts.iter().enumerate() {
        for other in &contracts[..place] {
            if other.dataset == contract.dataset {
                problems.push(format!("two contracts are of the dataset {}; give one", other.dataset));
                continue;
            }
            for query in &contract.gold {
                if other.gold.iter().any(|theirs| theirs.name == query.name) {
                    problems.push(format!(
                        "the contracts of {} and {} have both a gold table {}; name one of them otherwise",
                        other.dataset, contract.dataset, query.name
                    ));
                }
            }
        }
    }
    if problems.is_empty() { Ok(contracts) } else { bail!(Usage(problems.join("\n"))) }
}

/// The folder's contracts, by name; none is a mistake.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = || folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let files =
        listed().or_else(|error| bail!(Usage(format!("--contracts {}: {error}", folder.display()))))?;
    let is_contract = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "yaml");
    let mut files: Vec<PathBuf> = files.into_iter().filter(is_contract).collect();
    if files.is_empty() {
        bail!(Usage(format!("--contracts {}: there is no contract (*.yaml) in it", folder.display())));
    }
    files.sort();
    Ok(files)
}
