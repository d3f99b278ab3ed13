//! Mutants of a contract: the contract with one small mistake in one of its rules.
//!
//! A rule whose every mutant is told from it by an example says what its author meant. Mistakes are made
//! in the SQL of checks ([`sql`]), in the cells and rows of references that checks read, in what is
//! required, and in patterns. Constants inside function calls are not touched.

pub mod sql;

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};

use crate::contract::{Check, Contract, LogicalType, Reference};

/// A contract with a mistake in it.
pub struct Mutant {
    /// The rule with the mistake: a check, `required.<column>` or `type.<column>`.
    pub rule: String,
    /// The mistake: the check's SQL as it is now, or in words.
    pub mistake: String,
    /// All of it.
    pub contract: Contract,
}

/// Every mutant of the contract, rule by rule. Some may not plan: those are no contracts.
pub fn mutants(contract: &Contract) -> Vec<Mutant> {
    let columns = (0..contract.columns.len()).flat_map(|place| of_column(contract, place));
    let checks = (0..contract.checks.len()).flat_map(|place| of_check(contract, place));
    let references = (0..contract.references.len()).flat_map(|place| of_reference(contract, place));
    columns.chain(checks).chain(references).collect()
}

fn of_column(contract: &Contract, place: usize) -> Vec<Mutant> {
    let column = &contract.columns[place];
    let mut flipped = contract.clone();
    flipped.columns[place].required = !column.required;
    let mut mutants = vec![Mutant {
        rule: format!("required.{}", column.name),
        mistake: format!("{} is {}", column.name, if column.required { "not required" } else { "required" }),
        contract: flipped,
    }];
    if column.pattern.is_some() {
        let mut free = contract.clone();
        free.columns[place].pattern = None;
        mutants.push(Mutant {
            rule: format!("type.{}", column.name),
            mistake: format!("{} has no pattern", column.name),
            contract: free,
        });
    }
    mutants
}

fn of_check(contract: &Contract, place: usize) -> Vec<Mutant> {
    let check = &contract.checks[place];
    sql::variants(&check.predicate, |column| decimals(contract, column))
        .into_iter()
        .map(|predicate| {
            let mut mutant = contract.clone();
            mutant.checks[place] = Check { predicate: predicate.clone(), ..check.clone() };
            Mutant { rule: check.id.clone(), mistake: predicate, contract: mutant }
        })
        .collect()
}

/// Digits after the point that the column's values have, if its type fixes them.
fn decimals(contract: &Contract, column: &str) -> Option<usize> {
    match contract.columns.iter().find(|known| known.name == column)?.logical_type {
        LogicalType::Integer => Some(0),
        LogicalType::Decimal { scale, .. } => Some(usize::from(scale)),
        _ => None,
    }
}

fn of_reference(contract: &Contract, place: usize) -> Vec<Mutant> {
    let reference = &contract.references[place];
    let name = &reference.name;
    let with = |rule: &Check, mistake: String, changed: Reference| {
        let mut mutant = contract.clone();
        mutant.references[place] = changed;
        Mutant { rule: rule.id.clone(), mistake, contract: mutant }
    };
    let mut keys: Vec<(&String, u32)> = reference.places.iter().map(|(key, row)| (key, *row)).collect();
    keys.sort_by_key(|(_, row)| *row);
    let mut mutants = Vec::new();
    let mut reads_any = None;
    for (at, field) in reference.rows.schema().fields().iter().enumerate() {
        let read = format!("{name}.{}", field.name());
        let Some(check) = contract.checks.iter().find(|check| sql::reads(&check.predicate, &read)) else {
            continue;
        };
        reads_any = reads_any.or(Some(check));
        for (key, row) in &keys {
            for (value, cells) in shifted_cells(reference.rows.column(at), *row as usize) {
                let mut columns = reference.rows.columns().to_vec();
                columns[at] = cells;
                if let Ok(rows) = RecordBatch::try_new(reference.rows.schema(), columns) {
                    let mistake = format!("{read} of {key} is {value}");
                    mutants.push(with(check, mistake, Reference { rows, ..reference.clone() }));
                }
            }
        }
    }
    for (key, _) in reads_any.iter().flat_map(|_| &keys) {
        let mut shorter = reference.clone();
        shorter.places.remove(*key);
        if let Some(check) = reads_any {
            mutants.push(with(check, format!("{name} has no {key}"), shorter));
        }
    }
    mutants
}

/// The column with one number a step lower, and with it a step higher; nothing for other types.
fn shifted_cells(values: &ArrayRef, row: usize) -> Vec<(String, ArrayRef)> {
    if values.is_null(row) {
        return Vec::new();
    }
    if let Some(numbers) = values.as_primitive_opt::<Float64Type>() {
        let cells = |text: &str| -> Option<ArrayRef> {
            let value: f64 = text.parse().ok()?;
            let changed = numbers.iter().enumerate();
            Some(Arc::new(
                changed.map(|(at, old)| if at == row { Some(value) } else { old }).collect::<Float64Array>(),
            ))
        };
        let steps = sql::steps(&format!("{:?}", numbers.value(row)), None);
        return steps.into_iter().filter_map(|text| cells(&text).map(|cells| (text, cells))).collect();
    }
    let Some(numbers) = values.as_primitive_opt::<Int64Type>() else { return Vec::new() };
    [-1, 1]
        .into_iter()
        .filter_map(|step| numbers.value(row).checked_add(step))
        .map(|value| {
            let changed = numbers.iter().enumerate();
            let cells: Int64Array =
                changed.map(|(at, old)| if at == row { Some(value) } else { old }).collect();
            (value.to_string(), Arc::new(cells) as ArrayRef)
        })
        .collect()
}
