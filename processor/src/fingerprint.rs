//! A table's fingerprint: its rows counted and hashed, in whatever order and files they lie.
//!
//! Each row's cells are hashed as text and the rows' hashes are added, so equal tables have equal
//! fingerprints and a single other cell shows. It finds differences, it does not resist forgery. Floats that were summed
//! up in another order differ in their last digits; where asked for, they are hashed to six digits.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::DataFusionError;
use futures::TryStreamExt;
use serde::Serialize;

use crate::session;
use crate::table::{Table, TableError};

/// How floats are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floats {
    /// Every bit.
    Exact,
    /// To six digits.
    Summed,
}

/// A table's rows in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// Rows.
    pub rows: u64,
    /// The sum of their hashes, in hex.
    pub hash: String,
}

/// A table could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    /// The table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A query.
    #[error("hashing rows: {0}")]
    Query(#[from] DataFusionError),
}

/// The fingerprint of a table without the columns in `except`; columns count by name, in order of names.
pub async fn fingerprint(
    table: &Table,
    except: &[&str],
    floats: Floats,
) -> Result<Fingerprint, FingerprintError> {
    let rows = session::context().read_table(table.provider().await?)?;
    let mut names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    names.retain(|name| !except.contains(&name.as_str()));
    names.sort();
    let mut rows = rows.execute_stream().await?;
    let (mut count, mut sum) = (0, 0_u128);
    while let Some(batch) = rows.try_next().await? {
        let mut cells = Vec::with_capacity(names.len());
        for name in &names {
            let column = batch.column_by_name(name).ok_or_else(|| {
                DataFusionError::Internal(format!("the column {name} is planned and not there"))
            })?;
            cells.push(texts(column, floats)?);
        }
        for row in 0..batch.num_rows() {
            sum = sum.wrapping_add(row_hash(&cells, row));
        }
        count += batch.num_rows() as u64;
    }
    Ok(Fingerprint { rows: count, hash: format!("{sum:032x}") })
}

fn texts(column: &ArrayRef, floats: Floats) -> Result<StringArray, DataFusionError> {
    if let (Some(numbers), Floats::Summed) = (column.as_primitive_opt::<Float64Type>(), floats) {
        return Ok(numbers.iter().map(|number| number.map(|number| format!("{number:.5e}"))).collect());
    }
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// FNV-1a over the row's cells, each with its length before it; null is no cell.
fn row_hash(cells: &[StringArray], row: usize) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash = OFFSET;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    };
    for column in cells {
        if column.is_null(row) {
            take(&u64::MAX.to_le_bytes());
        } else {
            let cell = column.value(row).as_bytes();
            take(&(cell.len() as u64).to_le_bytes());
            take(cell);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_the_empty_text_and_other_borders_are_told_apart() {
        let row = |cells: [Option<&str>; 2]| {
            row_hash(&cells.map(|cell| [cell].into_iter().collect::<StringArray>()), 0)
        };
        let rows = [[Some("ab"), Some("c")], [Some("a"), Some("bc")], [None, Some("")], [Some(""), None]];
        let hashes: Vec<u128> = rows.map(row).to_vec();
        assert!(hashes.iter().enumerate().all(|(at, hash)| !hashes[..at].contains(hash)));
        assert_eq!(row(rows[0]), row(rows[0]));
    }
}
