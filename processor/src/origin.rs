//! Where the columns of a gold query come from: which silver rows make a row of gold, and which silver
//! columns make a column.
//!
//! Read from the query's plan, so any SELECT is understood that groups, filters, renames and computes. What
//! lies below the grouping must keep silver's rows as they are; a query that joins or unites is named as one
//! that cannot be traced by row. Its columns still can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Column, DataFusionError};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::prelude::SessionContext;

use crate::contract::{Contract, GoldQuery};
use crate::{session, silver};

/// A gold row's key: the expressions over silver that are equal for all rows behind it.
#[derive(Debug)]
pub struct RowOrigin {
    /// The rows that the query sums up, before it does.
    pub rows: LogicalPlan,
    /// A column of gold, and what it is of a silver row.
    pub keys: Vec<(String, Expr)>,
}

/// How silver's columns make a column of gold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnOrigin {
    /// Silver's columns that its values are made of.
    pub columns: BTreeSet<String>,
    /// Whether it is the one column, unchanged.
    pub unchanged: bool,
    /// Whether rows are summed up in it.
    pub summed: bool,
}

/// The rows behind a row of gold; `None` where the plan does not keep silver's rows apart.
pub fn rows(plan: &LogicalPlan) -> Option<RowOrigin> {
    let (plan, names) = output(plan)?;
    let (rows, expressions) = match plan {
        LogicalPlan::Aggregate(aggregate) => (aggregate.input.as_ref(), &aggregate.group_expr),
        LogicalPlan::Projection(projection) => (projection.input.as_ref(), &projection.expr),
        _ => return None,
    };
    if !keeps_rows(rows) {
        return None;
    }
    let keys = names
        .into_iter()
        .filter_map(|(name, at)| Some((name, unaliased(expressions.get(at)?).clone())))
        .collect();
    Some(RowOrigin { rows: rows.clone(), keys })
}

/// The node that makes the output, and where each named column stands in it.
fn output(plan: &LogicalPlan) -> Option<(&LogicalPlan, Vec<(String, usize)>)> {
    match plan {
        LogicalPlan::Sort(sort) => output(&sort.input),
        LogicalPlan::SubqueryAlias(alias) => output(&alias.input),
        LogicalPlan::Filter(filter) => output(&filter.input),
        LogicalPlan::Aggregate(_) => Some((plan, named(plan))),
        LogicalPlan::Projection(projection) => {
            let mut below = projection.input.as_ref();
            // HAVING stands between the two.
            while let LogicalPlan::Filter(filter) = below {
                below = &filter.input;
            }
            let LogicalPlan::Aggregate(aggregate) = below else { return Some((plan, named(plan))) };
            let place = |expr: &Expr| match unaliased(expr) {
                Expr::Column(column) => aggregate.schema.maybe_index_of_column(column),
                _ => None,
            };
            let names = projection.schema.fields().iter().zip(&projection.expr);
            let names = names.filter_map(|(field, expr)| Some((field.name().clone(), place(expr)?)));
            Some((below, names.collect()))
        }
        _ => None,
    }
}

fn named(plan: &LogicalPlan) -> Vec<(String, usize)> {
    let fields = plan.schema().fields().iter().enumerate();
    fields.map(|(at, field)| (field.name().clone(), at)).collect()
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        expr => expr,
    }
}

/// Whether each row of the plan is one row of silver, with all of its columns.
fn keeps_rows(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::Filter(filter) => keeps_rows(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => keeps_rows(&alias.input),
        _ => false,
    }
}

/// The plan of a contract's gold query over an empty silver.
pub async fn plan(contract: &Contract, query: &GoldQuery) -> Result<LogicalPlan, DataFusionError> {
    let context = session::context();
    let empty = context.read_batch(RecordBatch::new_empty(silver::schema(contract)))?;
    planned(&context, query, empty.into_view()).await
}

/// The plan of a gold query over the given silver.
pub async fn planned(
    context: &SessionContext,
    query: &GoldQuery,
    silver: Arc<dyn datafusion::catalog::TableProvider>,
) -> Result<LogicalPlan, DataFusionError> {
    context.register_table("silver", silver)?;
    Ok(context.sql(&query.sql).await?.logical_plan().clone())
}

/// Each column of the plan's output.
pub fn columns(plan: &LogicalPlan) -> BTreeMap<String, ColumnOrigin> {
    let fields = plan.schema().iter();
    fields
        .map(|(relation, field)| {
            let column = Column::new(relation.cloned(), field.name());
            (field.name().clone(), column_origin(plan, &column))
        })
        .collect()
}

fn column_origin(plan: &LogicalPlan, column: &Column) -> ColumnOrigin {
    match plan {
        LogicalPlan::TableScan(_) => {
            ColumnOrigin { columns: BTreeSet::from([column.name.clone()]), unchanged: true, summed: false }
        }
        LogicalPlan::Projection(projection) => {
            let place = projection.schema.maybe_index_of_column(column);
            place.map_or_else(ColumnOrigin::default, |at| {
                of_expression(&projection.input, &projection.expr[at], false)
            })
        }
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate, column),
        other => {
            let inputs = other.inputs();
            let from = inputs.iter().filter_map(|input| {
                let at = input.schema().maybe_index_of_column(column).or_else(|| {
                    input.schema().fields().iter().position(|field| field.name() == &column.name)
                })?;
                let (relation, field) = input.schema().qualified_field(at);
                Some(column_origin(input, &Column::new(relation.cloned(), field.name())))
            });
            from.reduce(merged).unwrap_or_default()
        }
    }
}

fn of_aggregate(aggregate: &Aggregate, column: &Column) -> ColumnOrigin {
    let groups = aggregate.group_expr.len();
    match aggregate.schema.maybe_index_of_column(column) {
        Some(at) if at < groups => of_expression(&aggregate.input, &aggregate.group_expr[at], false),
        Some(at) => aggregate
            .aggr_expr
            .get(at - groups)
            .map_or_else(ColumnOrigin::default, |expr| of_expression(&aggregate.input, expr, true)),
        None => ColumnOrigin::default(),
    }
}

fn of_expression(input: &LogicalPlan, expr: &Expr, summed: bool) -> ColumnOrigin {
    let refers = expr.column_refs();
    let from = refers.into_iter().map(|column| column_origin(input, column));
    let mut origin = from.reduce(merged).unwrap_or_default();
    origin.unchanged &= matches!(unaliased(expr), Expr::Column(_));
    origin.summed |= summed;
    origin
}

fn merged(mut one: ColumnOrigin, other: ColumnOrigin) -> ColumnOrigin {
    one.columns.extend(other.columns);
    one.unchanged = false;
    one.summed |= other.summed;
    one
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn of(dataset: &str, sql: &str) -> LogicalPlan {
        let contract = Contract::embedded().into_iter().find(|found| found.dataset == dataset).unwrap();
        let query = GoldQuery { sql: sql.to_owned(), ..contract.gold[0].clone() };
        plan(&contract, &query).await.unwrap()
    }

    #[tokio::test]
    async fn every_gold_query_that_ingot_brings_can_be_traced() {
        for contract in Contract::embedded() {
            for query in &contract.gold {
                let plan = plan(&contract, query).await.unwrap();
                let origin = rows(&plan).unwrap();
                assert!(!origin.keys.is_empty(), "{}", query.name);
                let columns = columns(&plan);
                assert_eq!(columns.len(), plan.schema().fields().len());
            }
        }
    }

    #[tokio::test]
    async fn a_column_is_known_through_names_and_sums() {
        let plan = of(
            "sensor_readings",
            "SELECT device AS which, date_trunc('day', at) AS day, max(value) - min(seq) AS odd, count(*) AS n
             FROM (SELECT * FROM silver) s WHERE quality = 0 GROUP BY device, date_trunc('day', at)",
        )
        .await;
        let columns = columns(&plan);
        let names = |column: &str| columns[column].columns.iter().cloned().collect::<Vec<_>>();
        assert_eq!((names("which"), columns["which"].unchanged), (vec!["device".to_owned()], true));
        assert_eq!((names("day"), columns["day"].unchanged), (vec!["at".to_owned()], false));
        assert_eq!((names("odd"), columns["odd"].summed), (vec!["seq".to_owned(), "value".to_owned()], true));
        assert!(names("n").is_empty());
    }

    #[tokio::test]
    async fn a_union_is_not_traced_by_row() {
        let plan = of("orders", "SELECT status FROM silver UNION ALL SELECT status FROM silver").await;
        assert!(rows(&plan).is_none());
    }
}
