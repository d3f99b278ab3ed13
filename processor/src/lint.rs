//! `contract lint`: everything that is wrong with a contract's text, each with its line.
//!
//! What [`Contract::parse`] refuses, then what only the engine can tell: a check's SQL, a gold query's
//! SQL; then what runs but is hardly meant: a reference that no check reads, personal data that gold shows.

use std::collections::BTreeSet;
use std::path::Path;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;

use crate::check::{CheckError, Checker};
use crate::contract::{Contract, GoldQuery, Problem, Problems, Read, Redact};
use crate::{dataset_check, latest, session, silver};

/// Every problem of the contract, in the order of its lines; none if it is fit for use.
///
/// `folder` is where the contract stands, and the files that it names.
pub async fn lint(text: &str, folder: Option<&Path>) -> Vec<Problem> {
    let Read { contract, columns_are_sound, mut problems } = Contract::read(text, folder);
    match contract {
        Some(contract) if columns_are_sound => judge(&contract, &mut problems).await,
        Some(_) => {
            let next = "columns: the SQL of checks and gold queries is judged once they are sound";
            problems.at("schema.0.properties").push(next.to_owned());
        }
        None => {}
    }
    problems.finish()
}

/// What only the engine can tell, and what is hardly meant.
async fn judge(contract: &Contract, problems: &mut Problems) {
    checks(contract, problems);
    dataset_checks(contract, problems).await;
    references(contract, problems);
    personal_columns(contract, problems);
    if let Err(error) = latest::plan(contract).await {
        let problem = format!("latestBy: {}", error.strip_backtrace());
        problems.at("customProperties.latestBy").push(problem);
    }
    gold(contract, problems).await;
}

fn checks(contract: &Contract, problems: &mut Problems) {
    for check in contract.checks.iter().filter(|check| !check.predicate.trim().is_empty()) {
        let alone = Contract { checks: vec![check.clone()], ..contract.clone() };
        problems.at(format!("schema.0.quality.{}.implementation", check.id));
        match Checker::new(&alone) {
            Ok(_) => {}
            Err(CheckError::Predicate { problem, .. } | CheckError::Evaluate { problem, .. }) => {
                problems.push(format!("check {}: {problem}", check.id));
            }
            Err(CheckError::Schema { problem, .. }) => {
                return problems.at("customProperties.references").push(problem);
            }
        }
    }
}

async fn dataset_checks(contract: &Contract, problems: &mut Problems) {
    for check in contract.dataset_checks.iter().filter(|check| !check.sql.is_empty()) {
        if let Err(error) = dataset_check::plan(contract, check).await {
            problems.at(format!("schema.0.quality.{}.query", check.id)).push(format!(
                "check {}: {}",
                check.id,
                error.strip_backtrace()
            ));
        }
    }
}

fn references(contract: &Contract, problems: &mut Problems) {
    for reference in &contract.references {
        let read = |sql: &str| {
            let name = regex::escape(&reference.name);
            regex::Regex::new(&format!(r#"(?i)\b{name}"?\s*\."#)).is_ok_and(|read| read.is_match(sql))
        };
        if !contract.checks.iter().any(|check| read(&check.predicate)) {
            problems.at(format!("customProperties.references.value.{}", reference.name)).push(format!(
                "reference {0}: no check reads {0}.<column>; use it or remove it",
                reference.name
            ));
        }
    }
}

fn personal_columns(contract: &Contract, problems: &mut Problems) {
    for column in contract.columns.iter().filter(|column| column.personal && column.redact == Redact::None) {
        problems.at(format!("schema.0.properties.{}.classification", column.name)).push(format!(
            "column {}: it is classified as personal, but nothing redacts it; give it the custom property redact",
            column.name
        ));
    }
}

async fn gold(contract: &Contract, problems: &mut Problems) {
    for query in &contract.gold {
        problems.at(format!("customProperties.gold.value.{}.sql", query.name));
        match columns_read(contract, query).await {
            Ok(read) => {
                let hidden = |name: &str| {
                    contract.columns.iter().any(|column| {
                        column.name == name
                            && column.redact != Redact::Pseudonym
                            && (column.personal || matches!(column.redact, Redact::Mask | Redact::Drop))
                    })
                };
                for name in read.iter().filter(|name| hidden(name)) {
                    problems.push(format!(
                        "gold {}: it reads {name}, which is personal; a summary needs no person's data",
                        query.name
                    ));
                }
            }
            Err(error) => problems.push(format!("gold {}: {}", query.name, error.strip_backtrace())),
        }
    }
}

/// The columns of silver that the query needs for its answer.
async fn columns_read(contract: &Contract, query: &GoldQuery) -> Result<BTreeSet<String>, DataFusionError> {
    let context = session::context();
    context.register_batch("silver", RecordBatch::new_empty(silver::schema(contract)))?;
    let plan = context.sql(&query.sql).await?.into_optimized_plan()?;
    let mut read = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            read.extend(scan.projected_schema.fields().iter().map(|field| field.name().clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const ORDERS: &str = include_str!("../../contracts/orders.yaml");
    const READINGS: &str = include_str!("../../contracts/sensor_readings.yaml");

    /// The line that holds the text, counted from 1.
    fn line_of(text: &str, part: &str) -> u64 {
        text.lines().position(|line| line.contains(part)).unwrap() as u64 + 1
    }

    #[tokio::test]
    async fn the_shipped_contracts_have_no_problems() {
        for text in [ORDERS, READINGS, include_str!("../../contracts/examples/web_events.yaml")] {
            assert_eq!(lint(text, None).await, []);
        }
    }

    #[tokio::test]
    async fn sql_that_does_not_run_is_told_with_its_line_beside_all_else() {
        let text = ORDERS
            .replace("status NOT IN", "state NOT IN")
            .replace("amount <= 0 OR", "amount <= 0 ORR")
            .replace("GROUP BY status, currency", "GROUP BY state, currency")
            .replace("window: day", "window: week")
            .replace(
                "description: Not on the approved list; case",
                "descripton: Not on the approved list; case",
            );
        let problems = lint(&text, None).await;
        let expected = [
            (line_of(&text, "descripton:"), "did you mean description?"),
            (line_of(&text, "state NOT IN"), "state"),
            (line_of(&text, "amount <= 0 ORR"), "check amount_range"),
            (line_of(&text, "name: orders_by_status") + 3, "gold orders_by_status"),
            (line_of(&text, "window: week"), "window week is not day or all"),
        ];
        let found: Vec<u64> = problems.iter().map(|problem| problem.place.line).collect();
        assert_eq!(found, expected.map(|(line, _)| line), "{problems:#?}");
        for (problem, (_, part)) in problems.iter().zip(expected) {
            assert!(problem.problem.contains(part), "{problem}");
        }
    }

    #[tokio::test]
    async fn sql_that_nobody_looked_at_is_not_passed_over_in_silence() {
        let text = ORDERS
            .replacen("logicalType: timestamp", "logicalType: moment", 1)
            .replace("status NOT IN", "state NOT IN");
        let problems = lint(&text, None).await;
        let said: Vec<&str> = problems.iter().map(|problem| problem.problem.as_str()).collect();
        assert!(said.iter().any(|problem| problem.contains("is judged once they are sound")), "{said:?}");
        assert!(!said.iter().any(|problem| problem.contains("state")), "{said:?}");
    }

    #[tokio::test]
    async fn what_is_hardly_meant_is_told() {
        let unused = READINGS
            .replace("channels.channel IS NULL", "channel = ''")
            .replace("NOT (value >= channels.value_min AND value <= channels.value_max)", "value > 1");
        let problems = lint(&unused, None).await;
        assert!(
            problems.iter().any(|problem| problem.problem.contains("no check reads channels.")),
            "{problems:?}"
        );

        let personal = ORDERS.replacen(
            "SELECT status, currency, count(*)",
            "SELECT max(phone) AS p, status, currency, count(*)",
            1,
        );
        let problems = lint(&personal, None).await;
        assert!(problems[0].problem.contains("it reads phone, which is personal"), "{problems:?}");

        let bare = ORDERS.replacen(", customProperties: [{ property: redact, value: mask }] }", " }", 1);
        let problems = lint(&bare, None).await;
        assert_eq!(problems.len(), 1);
        assert!(problems[0].problem.contains("column customer_email: it is classified as personal"));
    }
}
