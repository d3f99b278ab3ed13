//! Every gateway run's batch numbers, which must leave no hole; and what the edge gave up.
//!
//! A batch is there if the ledger has it or an object in bronze that is not processed yet bears its
//! number. A hole is a finding unless the gateway reports readings given up because its spool was full.

use super::books::Books;
use super::{AuditError, Balance};

/// The drop that costs whole batches.
const SPOOL_FULL: &str = "spool_full";

pub(super) async fn balance(balance: &mut Balance, books: &Books) -> Result<(), AuditError> {
    // A batch may lie in two objects; it counts once.
    let dropped = "SELECT cause, sum(readings) FROM
        (SELECT gateway, boot, seq, cause, max(readings) AS readings FROM drops GROUP BY gateway, boot, seq, cause)
        GROUP BY cause ORDER BY cause";
    books
        .each_row(dropped, |row| {
            balance.dropped.insert(row.text(0).to_owned(), row.count(1));
            Ok(())
        })
        .await?;
    let holes = format!(
        "WITH there AS (
           SELECT DISTINCT gateway, boot, seq FROM
             (SELECT gateway, boot, seq FROM batches
              UNION ALL SELECT gateway, boot, seq FROM bronze WHERE gateway <> '' AND boot IS NOT NULL)),
         steps AS (
           SELECT gateway, boot, seq,
                  seq - coalesce(lag(seq) OVER (PARTITION BY gateway, boot ORDER BY seq), -1) - 1 AS hole
           FROM there),
         runs AS (
           SELECT gateway, boot, count(*) AS batches, max(seq) AS newest, sum(hole) AS missing,
                  min(seq - hole) FILTER (WHERE hole > 0) AS first_missing
           FROM steps GROUP BY gateway, boot)
         SELECT r.gateway, r.boot, r.missing, r.newest + 1, r.first_missing, d.readings
         FROM runs r LEFT JOIN
           (SELECT gateway, sum(readings) AS readings FROM drops WHERE cause = '{SPOOL_FULL}' GROUP BY gateway) d
           ON r.gateway = d.gateway
         WHERE r.missing > 0 ORDER BY 1, 2"
    );
    books
        .each_row(&holes, |row| {
            balance.batches_missing += row.count(2);
            // Frames that a full spool gave up leave a hole, and their readings are counted as dropped.
            if row.number(5) == 0 {
                balance.finding(format!(
                    "gateway {}, boot {}: {} of {} batches are not in the lake, the first is {}",
                    row.text(0),
                    row.text(1),
                    row.number(2),
                    row.number(3),
                    row.number(4)
                ));
            }
            Ok(())
        })
        .await
}
