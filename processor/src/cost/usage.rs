//! How readings came: messages, objects and bytes, counted from the ledger and the lake's tables.

use serde::Serialize;

use super::FRAME_OVERHEAD_BYTES;
use crate::contract::Contract;
use crate::gold;
use crate::lake::Lake;
use crate::ledger::{self, LedgerError};
use crate::table::{Table, TableError};

/// What one dataset's readings took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// Rows in all of its bronze objects.
    pub readings: f64,
    /// Frames of gateways; 0 for files.
    pub messages: f64,
    /// Bronze objects.
    pub objects: f64,
    /// Their bytes.
    pub bronze_bytes: f64,
    /// Bytes of its silver and gold tables, at their newest version.
    pub table_bytes: f64,
}

impl Usage {
    /// What the ledger says of a contract's dataset.
    pub async fn of(lake: &Lake, contract: &Contract) -> Result<Self, UsageError> {
        let dataset = &contract.dataset;
        let entries = match Table::open(lake, ledger::PATH).await? {
            Some(table) => ledger::entries_since(&table, dataset, 0).await?,
            None => Vec::new(),
        };
        let mut usage =
            Self { readings: 0.0, messages: 0.0, objects: 0.0, bronze_bytes: 0.0, table_bytes: 0.0 };
        for entry in &entries {
            usage.readings += entry.rows_in as f64;
            usage.messages += entry.batches.len() as f64;
            usage.objects += 1.0;
            usage.bronze_bytes += entry.bytes as f64;
        }
        if usage.readings == 0.0 {
            return Err(UsageError::Nothing { dataset: dataset.clone() });
        }
        let tables =
            contract.gold.iter().map(|gold| gold::path(&gold.name)).chain([format!("silver/{dataset}")]);
        for path in tables {
            if let Some(table) = Table::open(lake, &path).await? {
                usage.table_bytes += table.bytes()? as f64;
            }
        }
        Ok(usage)
    }

    /// Frames of this length with readings of this length in them, an object each.
    pub fn assumed(bytes_per_reading: f64, frame_bytes: f64) -> Self {
        let readings = (frame_bytes / bytes_per_reading).max(1.0);
        // A row of silver and its share of gold took some 10 bytes in our trials.
        Self {
            readings,
            messages: 1.0,
            objects: 1.0,
            bronze_bytes: frame_bytes,
            table_bytes: readings * 10.0,
        }
    }

    /// Mean length of a gateway's message; 0 without any.
    pub fn bytes_per_message(&self) -> f64 {
        if self.messages > 0.0 { self.bronze_bytes / self.messages } else { 0.0 }
    }

    /// What a reading adds to a frame, in bytes.
    pub fn body_bytes_per_reading(&self) -> f64 {
        let body = self.bronze_bytes - self.messages * FRAME_OVERHEAD_BYTES;
        (body / self.readings).max(0.1)
    }
}

/// Why the usage is not known.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is nothing to count.
    #[error(
        "the ledger has no rows of {dataset}: process some first, or give the load by --bytes-per-reading and --frame-bytes"
    )]
    Nothing {
        /// The dataset asked for.
        dataset: String,
    },
}
