//! The contract's checks: SQL predicates, planned once, evaluated over a batch in one pass.
//!
//! A predicate reads the row's columns by name (or as `rows.<column>`, where a reference has a column
//! of that name too) and a reference's as `<reference>.<column>`; they are NULL where the row's value
//! is not in the list. TRUE marks a bad row; NULL does not; a row for which it cannot be computed (a cast of text that is
//! no number, a division by zero) is bad, and costs itself alone. `now()` is the time that the caller gives,
//! so that the same object gets the same verdict on any clock. A predicate sees one row: aggregates,
//! windows, subqueries and volatile functions are refused when the checker is made.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array,
};
use datafusion::arrow::compute::{prep_null_mask_filter, take};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, DFSchemaRef, TableReference};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::prelude::SessionContext;

use crate::contract::{Contract, Reference};
use crate::forgotten::Forgotten;
use crate::redact::Redactor;

/// A contract's check that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The predicate is not SQL over this contract's columns.
    #[error("contract {dataset}, check {check}: {problem}; correct its `implementation`")]
    Predicate {
        /// The contract.
        dataset: String,
        /// The check.
        check: String,
        /// What the planner said.
        problem: String,
    },
    /// The columns and references cannot stand beside each other.
    #[error("contract {dataset}: {problem}")]
    Schema {
        /// The contract.
        dataset: String,
        /// What is wrong.
        problem: String,
    },
    /// The predicate was planned, and fails without any row.
    #[error("contract {dataset}, check {check}, over {rows} rows: {problem}")]
    Evaluate {
        /// The contract.
        dataset: String,
        /// The check.
        check: String,
        /// Rows in the batch.
        rows: usize,
        /// What the engine said; it never holds a row's values.
        problem: String,
    },
}

/// A contract whose checks are planned; made once, used for every object of the dataset.
pub struct Checker {
    contract: Contract,
    redactor: Redactor,
    forgotten: Forgotten,
    predicates: Vec<Predicate>,
    planned: DFSchemaRef,
    joined: SchemaRef,
}

/// A check's predicate.
enum Predicate {
    /// Ready to run.
    Planned(Arc<dyn PhysicalExpr>),
    /// Asks for the time, which is put in before each run.
    Timed(Expr),
}

/// For each check of the contract, in order: the rows that fail it, without NULLs.
pub struct Verdicts(pub Vec<BooleanArray>);

impl Checker {
    /// Plans every check against the contract's columns and references.
    pub fn new(contract: &Contract) -> Result<Self, CheckError> {
        let dataset = &contract.dataset;
        let planned = Arc::new(plan_schema(contract).map_err(|error| CheckError::Schema {
            dataset: dataset.clone(),
            problem: error.strip_backtrace(),
        })?);
        let session = SessionContext::new();
        let predicates = contract
            .checks
            .iter()
            .map(|check| {
                plan(&session, &check.predicate, &planned).map_err(|problem| CheckError::Predicate {
                    dataset: dataset.clone(),
                    check: check.id.clone(),
                    problem,
                })
            })
            .collect::<Result<_, _>>()?;
        let joined = Arc::new(planned.as_arrow().clone());
        let checker = Self {
            contract: contract.clone(),
            redactor: Redactor::new(contract),
            forgotten: Forgotten::default(),
            predicates,
            planned,
            joined,
        };
        // What only shows at run time (a function without an implementation, a bad literal) shows now.
        checker.verdicts(&RecordBatch::new_empty(contract.unjudged_row_schema()), 0)?;
        Ok(checker)
    }

    /// Whose rows are discarded whatever they say.
    #[must_use]
    pub fn forgetting(self, forgotten: Forgotten) -> Self {
        Self { forgotten, ..self }
    }

    pub(crate) fn forgotten(&self) -> &Forgotten {
        &self.forgotten
    }

    /// The contract that is checked.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// What takes the contract's personal data out of rows and records.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Evaluates every check over `rows`: the contract's columns in order, all of them nullable.
    /// `now_ms` (milliseconds since 1970-01-01 UTC) is what `now()` gives.
    pub fn verdicts(&self, rows: &RecordBatch, now_ms: i64) -> Result<Verdicts, CheckError> {
        let failed = |check: usize, problem: String| CheckError::Evaluate {
            dataset: self.contract.dataset.clone(),
            check: self.contract.checks.get(check).map_or_else(String::new, |check| check.id.clone()),
            rows: rows.num_rows(),
            problem,
        };
        let joined = self.join(rows).map_err(|error| failed(0, error.to_string()))?;
        let mut verdicts = Vec::with_capacity(self.predicates.len());
        for (check, predicate) in self.predicates.iter().enumerate() {
            let predicate = self.ready(predicate, now_ms);
            let verdict = predicate.and_then(|predicate| bad_rows(predicate.as_ref(), &joined));
            verdicts.push(verdict.map_err(|error| failed(check, error.strip_backtrace()))?);
        }
        Ok(Verdicts(verdicts))
    }

    /// The rows with each reference's columns beside them: a left join, without moving a row.
    fn join(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for reference in &self.contract.references {
            let places = places(reference, rows.column_by_name(&reference.on));
            for column in reference.rows.columns() {
                columns.push(take(column, &places, None)?);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.joined), columns, &options)
    }

    fn ready(&self, predicate: &Predicate, now_ms: i64) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        match predicate {
            Predicate::Planned(predicate) => Ok(Arc::clone(predicate)),
            Predicate::Timed(predicate) => physical(predicate.clone(), &self.planned, Some(now_ms)),
        }
    }
}

/// The rows for which the predicate holds, and those for which it cannot be computed: text that is no number, a division
/// by zero. They are looked for by halves. What the engine says of them is left out, as it may hold their values.
fn bad_rows(predicate: &dyn PhysicalExpr, rows: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
    let count = rows.num_rows();
    match predicate.evaluate(rows).and_then(|value| value.into_array(count)) {
        Ok(verdict) if verdict.null_count() > 0 => Ok(prep_null_mask_filter(verdict.as_boolean())),
        Ok(verdict) => Ok(verdict.as_boolean().clone()),
        Err(error) if count == 0 => Err(error),
        Err(_) if count == 1 => Ok(BooleanArray::from(vec![true])),
        Err(_) => {
            let half = count / 2;
            let first = bad_rows(predicate, &rows.slice(0, half))?;
            let second = bad_rows(predicate, &rows.slice(half, count - half))?;
            Ok(first.iter().chain(second.iter()).collect())
        }
    }
}

/// The predicate ready to run, with the time in the place of `now()`.
fn physical(
    predicate: Expr,
    schema: &DFSchemaRef,
    now_ms: Option<i64>,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::clone(schema))
        .with_query_execution_start_time(now_ms.and_then(DateTime::<Utc>::from_timestamp_millis))
        .build();
    let predicate = ExprSimplifier::new(context).simplify(predicate)?;
    create_physical_expr(&predicate, schema, &ExecutionProps::new(), &Default::default())
}

fn plan_schema(contract: &Contract) -> Result<DFSchema, DataFusionError> {
    let mut schema = DFSchema::try_from_qualified_schema("rows", &contract.unjudged_row_schema())?;
    for reference in &contract.references {
        let columns = DFSchema::try_from_qualified_schema(
            TableReference::bare(reference.name.clone()),
            &reference.rows.schema(),
        )?;
        schema = schema.join(&columns)?;
    }
    Ok(schema)
}

fn plan(session: &SessionContext, sql: &str, schema: &DFSchemaRef) -> Result<Predicate, String> {
    let problem = |error: DataFusionError| error.strip_backtrace();
    let expr = session.parse_sql_expr(sql, schema).map_err(problem)?;
    if expr.is_volatile() {
        return Err("a volatile function gives another verdict on each reading of the same object".into());
    }
    let context = SimplifyContext::builder().with_schema(Arc::clone(schema)).build();
    let expr = ExprSimplifier::new(context).coerce(expr, schema).map_err(problem)?;
    match expr.get_type(schema.as_ref()).map_err(problem)? {
        DataType::Boolean if asks_the_time(&expr).map_err(problem)? => Ok(Predicate::Timed(expr)),
        DataType::Boolean => physical(expr, schema, None).map(Predicate::Planned).map_err(problem),
        other => Err(format!("it gives {other}, not TRUE or FALSE")),
    }
}

/// Whether a function in it is stable only within one query: `now()`, `current_date()` and their kin.
fn asks_the_time(expr: &Expr) -> Result<bool, DataFusionError> {
    expr.exists(|expr| {
        Ok(matches!(expr, Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Stable))
    })
}

/// For each row its place in the reference's list, or NULL.
fn places(reference: &Reference, values: Option<&ArrayRef>) -> UInt32Array {
    let Some(values) = values.and_then(|values| values.as_any().downcast_ref::<StringArray>()) else {
        return UInt32Array::new_null(0);
    };
    values.iter().map(|value| value.and_then(|value| reference.places.get(value).copied())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::conform::Conformer;
    use crate::decode::Field;

    const READINGS: &str = include_str!("../../contracts/sensor_readings.yaml");

    fn with_check(sql: &str) -> Result<Checker, CheckError> {
        Checker::new(&Contract::parse(&READINGS.replace("value IS NULL", sql)).unwrap())
    }

    #[test]
    fn a_check_that_cannot_run_is_named_before_any_object() {
        for (sql, part) in [
            ("value >", "sensor_readings, check missing_value"),
            ("valeu IS NULL", "valeu"),
            ("value + 1", "it gives Float64, not TRUE or FALSE"),
            ("random() > 0.5", "volatile"),
            ("sum(value) > 1", "check missing_value"),
            ("value > (SELECT 1)", "check missing_value"),
            ("no_such(value)", "no_such"),
            ("regexp_like(device, '[')", "check missing_value"),
        ] {
            let error = with_check(sql).err().unwrap().to_string();
            assert!(error.contains(part), "{sql}: {error}");
        }
    }

    #[test]
    fn a_check_may_use_the_functions_of_the_engine() {
        for sql in [
            "regexp_like(device, '^x')",
            "rows.channel LIKE 'x%'",
            "at < now() - INTERVAL '10 years'",
            "1 = 1",
        ] {
            with_check(sql).unwrap();
        }
    }

    #[test]
    fn now_is_what_the_caller_says() {
        let contract = Contract::parse(READINGS).unwrap();
        let checker = Checker::new(&contract).unwrap();
        let mut rows = Conformer::new(&contract);
        let noon_ms = 1_767_268_800_000;
        rows.push(&[
            Field::Text("d1"),
            Field::Integer(1),
            Field::Integer(0),
            Field::Text("temperature"),
            Field::Integer(noon_ms),
            Field::Number(1.0),
            Field::Missing,
        ]);
        let rows = rows.finish().unwrap().rows;
        let place = contract.checks.iter().position(|check| check.id == "future_time").unwrap();
        let future = |now_ms| checker.verdicts(&rows, now_ms).unwrap().0[place].value(0);
        assert!(!future(noon_ms - 300_000));
        assert!(future(noon_ms - 300_001));
    }

    #[test]
    fn a_row_for_which_a_check_cannot_be_computed_is_bad_alone() {
        let contract =
            Contract::parse(&READINGS.replace("value IS NULL", "CAST(device AS BIGINT) / boot > 5")).unwrap();
        let checker = Checker::new(&contract).unwrap();
        let mut rows = Conformer::new(&contract);
        for (device, boot) in [("12", 1), ("ann", 1), ("3", 1), ("7", 0), ("4", 2)] {
            let [device, channel] = [device, "temperature"].map(Field::Text);
            let [boot, seq, at] = [boot, 0, 0].map(Field::Integer);
            rows.push(&[device, boot, seq, channel, at, Field::Number(1.0), Field::Missing]);
        }
        let verdicts = checker.verdicts(&rows.finish().unwrap().rows, 0).unwrap();
        let place = contract.checks.iter().position(|check| check.id == "missing_value").unwrap();
        let bad: Vec<bool> = verdicts.0[place].values().iter().collect();
        assert_eq!(bad, [true, true, false, true, false]);
    }

    #[test]
    fn a_predicate_that_is_null_is_not_failing() {
        let contract = Contract::parse(READINGS).unwrap();
        let mut rows = Conformer::new(&contract);
        rows.push(&[Field::Missing; 7]);
        let verdicts = Checker::new(&contract).unwrap().verdicts(&rows.finish().unwrap().rows, 0).unwrap();
        let failing: Vec<bool> = verdicts.0.iter().map(|verdict| verdict.value(0)).collect();
        assert_eq!(failing, [true, true, false, false, false, false]);
    }
}
