//! Trace: from a cell of gold to the silver rows behind it, their bronze objects, and the gateway's batches.
//!
//! Counts are of everything; rows and objects are listed up to a limit. A gold cell's rows are found by the
//! gold query's own grouping ([`crate::origin`]), in silver as it is now. Nothing is written.

mod objects;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, Operator, binary_expr, col, ident};
use datafusion::prelude::{DataFrame, SessionContext};
use serde::Serialize;
use serde_json::Value;

use crate::contract::{Contract, GoldQuery};
use crate::lake::{Lake, LakeError};
use crate::ledger::LedgerError;
use crate::table::{Table, TableError};
use crate::{gold, origin, session};

pub use objects::{TracedBatch, TracedObject};

/// What is traced.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The gold table.
    pub gold: String,
    /// SQL over its columns that selects the cell, or several.
    pub predicate: String,
    /// Most silver rows that are listed.
    pub rows_max: usize,
    /// Most bronze objects that are listed.
    pub objects_max: usize,
}

/// Where a gold cell comes from.
#[derive(Debug, Serialize)]
pub struct Trace {
    /// The gold table.
    pub gold: String,
    /// The dataset whose silver it sums up.
    pub dataset: String,
    /// Rows of gold that the condition selects.
    pub cells: u64,
    /// Some of them.
    pub cells_listed: Vec<Value>,
    /// Silver rows behind them.
    pub silver_rows: u64,
    /// Some of these, with their bronze object and place.
    pub silver_rows_listed: Vec<Value>,
    /// Bronze objects that hold these rows.
    pub objects: u64,
    /// Some of these, those with most rows first.
    pub objects_listed: Vec<TracedObject>,
}

/// The trace could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// No contract makes this gold table.
    #[error("no contract has a gold table {name}; there are: {there}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names there are.
        there: String,
    },
    /// It was not computed yet.
    #[error("gold {name} is not there yet; run the processor first")]
    Missing {
        /// The gold table.
        name: String,
    },
    /// The condition is not SQL over gold's columns.
    #[error("--where {predicate:?}: {problem}")]
    Predicate {
        /// What was given.
        predicate: String,
        /// The planner's word.
        problem: String,
    },
    /// The gold query does not keep silver's rows apart.
    #[error(
        "the query of gold {name} joins or unites tables, or groups by something that it does not select, so its cells cannot be followed to single rows"
    )]
    Opaque {
        /// The gold table.
        name: String,
    },
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A query.
    #[error("tracing: {0}")]
    Query(#[from] DataFusionError),
}

/// Follows cells of gold down to the gateway's batches.
pub async fn trace(lake: &Lake, contracts: &[Contract], cell: &Cell) -> Result<Trace, TraceError> {
    let (contract, query) = find(contracts, &cell.gold)?;
    let missing = || TraceError::Missing { name: cell.gold.clone() };
    let golden = Table::open(lake, &gold::path(&query.name)).await?.ok_or_else(missing)?;
    let silver = Table::open(lake, &format!("silver/{}", contract.dataset)).await?.ok_or_else(missing)?;

    let context = session::context();
    let cells = cells(&context, cell, &golden).await?;
    let plan = origin::planned(&context, query, silver.provider().await?).await?;
    let origin = origin::rows(&plan).ok_or_else(|| TraceError::Opaque { name: query.name.clone() })?;
    if is_grouped_by_more(&plan, &origin) {
        return Err(TraceError::Opaque { name: query.name.clone() });
    }
    let rows = behind(&context, origin, cells.clone())?;
    context.register_table("behind", rows.into_view())?;

    let listed = context.sql(&format!("SELECT * FROM behind LIMIT {}", cell.rows_max)).await?;
    let objects = objects::objects(lake, contract, &context, cell.objects_max).await?;
    Ok(Trace {
        gold: query.name.clone(),
        dataset: contract.dataset.clone(),
        cells: cells.clone().count().await? as u64,
        cells_listed: json(&cells.limit(0, Some(cell.rows_max))?.collect().await?)?,
        silver_rows: number(&context, "SELECT count(*) FROM behind").await?,
        silver_rows_listed: json(&listed.collect().await?)?,
        objects: number(
            &context,
            "SELECT count(*) FROM (SELECT DISTINCT bronze_key, bronze_etag FROM behind)",
        )
        .await?,
        objects_listed: objects,
    })
}

fn find<'a>(contracts: &'a [Contract], name: &str) -> Result<(&'a Contract, &'a GoldQuery), TraceError> {
    let all =
        || contracts.iter().flat_map(|contract| contract.gold.iter().map(move |query| (contract, query)));
    let bare = name.strip_prefix("gold.").unwrap_or(name);
    all().find(|(_, query)| query.name == bare).ok_or_else(|| TraceError::Unknown {
        name: name.to_owned(),
        there: all().map(|(_, query)| query.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

async fn cells(context: &SessionContext, cell: &Cell, golden: &Table) -> Result<DataFrame, TraceError> {
    let table = context.read_table(golden.provider().await?)?;
    let wrong = |error: DataFusionError| TraceError::Predicate {
        predicate: cell.predicate.clone(),
        problem: error.strip_backtrace(),
    };
    let predicate = table.parse_sql_expr(&cell.predicate).map_err(wrong)?;
    table.filter(predicate).map_err(wrong)
}

/// Whether rows of gold differ in something that gold does not show; then a cell has no rows of its own.
fn is_grouped_by_more(plan: &LogicalPlan, origin: &origin::RowOrigin) -> bool {
    let mut grouped = 0;
    let mut node = Some(plan);
    while let Some(plan) = node {
        if let LogicalPlan::Aggregate(aggregate) = plan {
            grouped = aggregate.group_expr.len();
        }
        node = plan.inputs().first().copied();
    }
    origin.keys.len() < grouped
}

/// The silver rows whose key is a cell's.
fn behind(
    context: &SessionContext,
    origin: origin::RowOrigin,
    cells: DataFrame,
) -> Result<DataFrame, DataFusionError> {
    let rows = DataFrame::new(context.state(), origin.rows);
    let mut columns: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
    let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut cell_columns = Vec::new();
    let mut same: Vec<Expr> = Vec::new();
    for (at, (name, expr)) in origin.keys.into_iter().enumerate() {
        let (of_row, of_cell) = (format!("ingot_row_{at}"), format!("ingot_cell_{at}"));
        columns.push(expr.alias(&of_row));
        cell_columns.push(ident(name).alias(&of_cell));
        same.push(binary_expr(col(&of_row), Operator::IsNotDistinctFrom, col(&of_cell)));
    }
    let cells = cells.select(cell_columns)?.distinct()?;
    let joined = match same.is_empty() {
        true => rows.select(columns)?,
        false => rows.select(columns)?.join_on(cells, JoinType::LeftSemi, same)?,
    };
    joined.select(names.into_iter().map(ident).collect::<Vec<_>>())
}

async fn number(context: &SessionContext, sql: &str) -> Result<u64, DataFusionError> {
    let batches = context.sql(sql).await?.collect().await?;
    let value = batches.first().filter(|batch| batch.num_rows() > 0).map_or(0, |batch| {
        batch.column(0).as_primitive_opt::<Int64Type>().map_or(0, |column| column.value(0))
    });
    Ok(u64::try_from(value).unwrap_or_default())
}

/// Rows as JSON objects.
fn json(batches: &[RecordBatch]) -> Result<Vec<Value>, DataFusionError> {
    let mut text = Vec::new();
    LineDelimitedWriter::new(&mut text).write_batches(&batches.iter().collect::<Vec<_>>())?;
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).map_err(|error| DataFusionError::External(Box::new(error))))
        .collect()
}
