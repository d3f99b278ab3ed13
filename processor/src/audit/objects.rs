//! Each object: its ledger row against itself, and against the rows that silver and discard really have.

use super::books::Books;
use super::{AuditError, Balance};
use crate::decode::HIDING;
use crate::discard::DUPLICATE;

/// Sums the ledger up and holds it against the rows that are there. Rows without an entry are those of an object that is
/// being worked on, if that was written not before `lost_before_ms`.
pub(super) async fn balance(
    balance: &mut Balance,
    books: &Books,
    lost_before_ms: i64,
) -> Result<(), AuditError> {
    let sums =
        "SELECT count(*), sum(rows_in), sum(bytes), sum(silver), sum(discarded), sum(duplicates) FROM ledger";
    books
        .each_row(sums, |row| {
            balance.objects = row.count(0);
            balance.rows_in = row.number(1);
            balance.bytes = row.number(2);
            balance.silver = row.number(3);
            balance.discarded = row.number(4);
            balance.duplicates = row.number(5);
            Ok(())
        })
        .await?;
    against_itself(balance, books).await?;
    against_the_rows(balance, books, lost_before_ms).await
}

async fn against_itself(balance: &mut Balance, books: &Books) -> Result<(), AuditError> {
    let twice =
        "SELECT bronze_key FROM ledger GROUP BY bronze_key, bronze_etag HAVING count(*) > 1 ORDER BY 1";
    books
        .each_row(twice, |row| {
            balance.finding(format!("{}: the ledger has it more than once", row.text(0)));
            Ok(())
        })
        .await?;
    let uneven = "SELECT bronze_key, rows_in, silver, discarded, duplicates FROM ledger
        WHERE rows_in <> silver + discarded + duplicates ORDER BY 1";
    books
        .each_row(uneven, |row| {
            let [rows, silver, discarded, duplicates] = [1, 2, 3, 4].map(|column| row.number(column));
            balance.finding(format!(
                "{}: {rows} rows in, but {silver} in silver + {discarded} discarded + {duplicates} duplicates",
                row.text(0)
            ));
            Ok(())
        })
        .await?;
    // An object with a damaged frame, or cut short, has other rows than its headers say.
    let is_whole = HIDING.map(|rule| format!(r#"l.rules NOT LIKE '%"{rule}":%'"#)).join(" AND ");
    let unsealed = format!(
        "SELECT l.bronze_key, b.sealed, l.rows_in FROM ledger l
        JOIN (SELECT bronze_key, sum(readings) AS sealed FROM batches GROUP BY bronze_key) b
          ON l.bronze_key = b.bronze_key
        WHERE b.sealed <> l.rows_in AND {is_whole}
        ORDER BY 1"
    );
    books
        .each_row(&unsealed, |row| {
            balance.finding(format!(
                "{}: its gateway sealed {} readings, the ledger says {} rows in",
                row.text(0),
                row.number(1),
                row.number(2)
            ));
            Ok(())
        })
        .await
}

async fn against_the_rows(
    balance: &mut Balance,
    books: &Books,
    lost_before_ms: i64,
) -> Result<(), AuditError> {
    let mut parts = vec![format!(
        "SELECT bronze_key, bronze_etag, 0 AS silver,
            count(*) FILTER (WHERE rule <> '{DUPLICATE}') AS discarded,
            count(*) FILTER (WHERE rule = '{DUPLICATE}') AS duplicates
         FROM discard GROUP BY bronze_key, bronze_etag"
    )];
    parts.extend(books.silver.values().map(|table| {
        format!(
            "SELECT bronze_key, bronze_etag, count(*), 0, 0 FROM {table} GROUP BY bronze_key, bronze_etag"
        )
    }));
    let sql = format!(
        "WITH there AS (
           SELECT bronze_key, bronze_etag, sum(silver) AS silver, sum(discarded) AS discarded,
                  sum(duplicates) AS duplicates
           FROM ({}) GROUP BY bronze_key, bronze_etag),
         gone AS (
           SELECT bronze_key, bronze_etag, sum(rows) FILTER (WHERE tier = 'silver') AS silver,
                  sum(rows) FILTER (WHERE tier = 'discard') AS discarded,
                  sum(rows) FILTER (WHERE tier = 'duplicate') AS duplicates
           FROM expired GROUP BY bronze_key, bronze_etag)
         SELECT coalesce(l.bronze_key, t.bronze_key) AS bronze_key, l.bronze_key IS NULL AS unknown,
                l.silver, t.silver, l.discarded, t.discarded, l.duplicates, t.duplicates
         FROM ledger l FULL JOIN there t ON l.bronze_key = t.bronze_key AND l.bronze_etag = t.bronze_etag
           LEFT JOIN gone e ON l.bronze_key = e.bronze_key AND l.bronze_etag = e.bronze_etag
           LEFT JOIN (SELECT bronze_key, bronze_etag FROM bronze WHERE modified_ms >= {lost_before_ms}) y
             ON t.bronze_key = y.bronze_key AND t.bronze_etag = y.bronze_etag
         WHERE (l.bronze_key IS NULL AND y.bronze_key IS NULL)
            OR coalesce(t.silver, 0) NOT BETWEEN l.silver - coalesce(e.silver, 0) AND l.silver
            OR coalesce(t.discarded, 0) NOT BETWEEN l.discarded - coalesce(e.discarded, 0) AND l.discarded
            OR coalesce(t.duplicates, 0) NOT BETWEEN l.duplicates - coalesce(e.duplicates, 0) AND l.duplicates
         ORDER BY 1",
        parts.join(" UNION ALL ")
    );
    books
        .each_row(&sql, |row| {
            let key = row.text(0);
            if row.text(1) == "true" {
                balance.finding(format!(
                    "{key}: its rows are in the lake, but not in the ledger; run the processor again"
                ));
                return Ok(());
            }
            for (place, said) in [("silver", 2), ("discard", 4), ("discard as duplicates", 6)] {
                let (said, there) = (row.number(said), row.number(said + 1));
                if said != there {
                    balance
                        .finding(format!("{key}: the ledger says {said} rows in {place}, there are {there}"));
                }
            }
            Ok(())
        })
        .await
}
