//! A table whose rows have got more columns since it was made.

use datafusion::arrow::datatypes::SchemaRef;
use deltalake::DeltaTableError;
use deltalake::kernel::StructField;

use super::write::carrying;
use super::{CONFLICTS_MAX, CommitError, Table, after_conflict, failed, kernel_schema};
use crate::lake::Lake;

impl Table {
    /// Opens or creates the table, and adds the columns that it lacks; they are empty in the rows that are there. What it has
    /// beyond `schema` stays, and rows without it are refused when they are written.
    pub async fn open_widened(
        lake: &Lake,
        path: &str,
        schema: &SchemaRef,
        partitions: &[&str],
    ) -> Result<Self, CommitError> {
        let mut table = Self::open_or_create(lake, path, schema, partitions).await?;
        for conflicts in 0..CONFLICTS_MAX {
            let lacking = table.lacking(schema).map_err(failed("adding columns to", path))?;
            if lacking.is_empty() {
                return Ok(table);
            }
            let added = table.delta.clone().add_columns().with_fields(lacking);
            match added.with_commit_properties(carrying(&[])).await.map_err(|error| table.refused(error)) {
                Ok(delta) => table.delta = delta,
                Err(CommitError::Conflict { .. }) => {
                    after_conflict(conflicts).await;
                    table.refresh().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(CommitError::Conflict { table: path.to_owned() })
    }

    fn lacking(&self, schema: &SchemaRef) -> Result<Vec<StructField>, DeltaTableError> {
        let has = self.delta.snapshot()?.snapshot().arrow_schema();
        if schema.fields().iter().all(|field| has.index_of(field.name()).is_ok()) {
            return Ok(Vec::new());
        }
        let wanted = kernel_schema(schema)?;
        let lacking = wanted.fields().filter(|field| has.index_of(field.name()).is_err());
        Ok(lacking.map(|field| StructField::nullable(field.name(), field.data_type().clone())).collect())
    }
}
