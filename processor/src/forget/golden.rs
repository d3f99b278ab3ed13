//! Gold of days that silver keeps no longer: it cannot be computed anew without the subject, so the subject's rows go.
//!
//! A row of gold is the subject's where a column that the query takes from the subject's column, as it is or made into another
//! text, has its name. What is summed up over many is nobody's, and stays. Limit: a name in another form (hashed, in capitals)
//! is not known.

use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::functions::expr_fn::strpos;
use datafusion::logical_expr::{Expr, cast, ident, lit};

use super::search::shown;
use super::{ForgetError, Subject, insisting};
use crate::contract::{Contract, GoldQuery, Window};
use crate::gold;
use crate::lake::Lake;
use crate::origin;
use crate::pseudonym::PseudonymKey;
use crate::retention::expired;
use crate::session;
use crate::silver::on_days;
use crate::table::Table;

/// Takes the subject's rows out of gold of the days of which silver went.
pub(super) async fn erase(
    lake: &Lake,
    contract: &Contract,
    key: &PseudonymKey,
    subject: &Subject,
) -> Result<(), ForgetError> {
    let Some(name) = shown(contract, key, subject) else { return Ok(()) };
    let days = expired::days_of_silver(lake, &contract.dataset).await?;
    if days.is_empty() {
        return Ok(());
    }
    for query in contract.gold.iter().filter(|query| query.window == Window::Day) {
        let Some(is_subjects) = is_subjects(contract, query, &subject.column, &name).await? else { continue };
        let these = on_days(&days).and(is_subjects);
        insisting(async || without(lake, &gold::path(&query.name), &these).await).await?;
    }
    Ok(())
}

async fn without(lake: &Lake, path: &str, these: &Expr) -> Result<(), ForgetError> {
    let Some(mut table) = Table::open(lake, path).await? else { return Ok(()) };
    let rows = session::context().read_table(table.provider().await?)?;
    let schema = rows.schema().inner().clone();
    if rows.filter(these.clone())?.count().await? > 0 {
        table.replace_where(RecordBatch::new_empty(schema), these.clone()).await?;
    }
    Ok(())
}

/// What says that a row of the query's table is the subject's; `None` where no column can.
async fn is_subjects(
    contract: &Contract,
    query: &GoldQuery,
    column: &str,
    name: &str,
) -> Result<Option<Expr>, DataFusionError> {
    let plan = origin::plan(contract, query).await?;
    let types = plan.schema().as_arrow().clone();
    let columns = origin::columns(&plan).into_iter().filter_map(|(made, from)| {
        let is_text = types.field_with_name(&made).is_ok_and(|field| field.data_type() == &DataType::Utf8);
        let text = cast(ident(&made), DataType::Utf8);
        match from.columns.contains(column) {
            true if from.unchanged => Some(text.eq(lit(name))),
            true if is_text => Some(strpos(text, lit(name)).gt(lit(0))),
            _ => None,
        }
    });
    Ok(columns.reduce(Expr::or))
}
