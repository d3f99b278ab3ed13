//! Bronze as it is listed against the ledger: what was never processed, and what is gone.

use super::books::Books;
use super::{AuditError, Balance};
use crate::bronze::BronzeKey;
use crate::lake::BronzeObject;
use crate::quoted;

/// Objects that a report names; the rest is counted.
const NAMED_MAX: usize = 100;
/// Objects handed on at once by [`requeue`].
const REQUEUED_AT_ONCE: usize = 1_000;

/// Listed, ours, and in this state neither in the ledger nor in quarantine.
const PENDING: &str = "SELECT b.* FROM bronze b
    LEFT ANTI JOIN ledger l ON b.bronze_key = l.bronze_key AND b.bronze_etag = l.bronze_etag
    LEFT ANTI JOIN set_aside s ON b.bronze_key = s.bronze_key AND b.bronze_etag = s.bronze_etag
    WHERE b.dataset IS NOT NULL";
/// Listed, ours, and set aside by a check.
const HELD: &str = "SELECT b.* FROM bronze b
    LEFT ANTI JOIN ledger l ON b.bronze_key = l.bronze_key AND b.bronze_etag = l.bronze_etag
    LEFT SEMI JOIN set_aside s ON b.bronze_key = s.bronze_key AND b.bronze_etag = s.bronze_etag
    WHERE b.dataset IS NOT NULL";

pub(super) async fn balance(
    balance: &mut Balance,
    books: &Books,
    lost_before_ms: i64,
) -> Result<(), AuditError> {
    let counts =
        format!("SELECT count(*), count(*) FILTER (WHERE modified_ms < {lost_before_ms}) FROM ({PENDING})");
    books
        .each_row(&counts, |row| {
            balance.in_flight_objects = row.count(0);
            balance.unprocessed_objects = row.count(1);
            Ok(())
        })
        .await?;
    books
        .each_row(&format!("SELECT count(*) FROM ({HELD})"), |row| {
            balance.quarantined_objects = row.count(0);
            Ok(())
        })
        .await?;
    misnamed(balance, books, lost_before_ms).await?;
    if balance.unprocessed_objects > 0 {
        balance.finding(format!(
            "{} objects are in bronze for long and were never processed; `audit --requeue` or the next run takes them",
            balance.unprocessed_objects
        ));
        let named = format!(
            "SELECT bronze_key FROM ({PENDING}) WHERE modified_ms < {lost_before_ms} ORDER BY 1 LIMIT {NAMED_MAX}"
        );
        books
            .each_row(&named, |row| {
                balance.unprocessed.push(row.text(0).to_owned());
                Ok(())
            })
            .await?;
    }
    const GONE: &str = "SELECT l.bronze_key, l.bronze_etag FROM ledger l LEFT ANTI JOIN bronze b
        ON l.bronze_key = b.bronze_key AND l.bronze_etag = b.bronze_etag";
    let of_expired = "JOIN (SELECT * FROM expired WHERE tier = 'bronze') e
        ON g.bronze_key = e.bronze_key AND g.bronze_etag = e.bronze_etag";
    books
        .each_row(&format!("SELECT count(*) FROM ({GONE}) g LEFT SEMI {of_expired}"), |row| {
            balance.expired_objects = row.count(0);
            Ok(())
        })
        .await?;
    let gone = &format!("SELECT g.bronze_key FROM ({GONE}) g LEFT ANTI {of_expired} ORDER BY 1");
    books
        .each_row(gone, |row| {
            balance
                .finding(format!("{}: the ledger has it, bronze no longer does in that state", row.text(0)));
            Ok(())
        })
        .await
}

/// Those that are there for long: a younger one may yet get its name.
async fn misnamed(balance: &mut Balance, books: &Books, lost_before_ms: i64) -> Result<(), AuditError> {
    let sql = "SELECT bronze_key, modified_ms FROM bronze WHERE misnamed ORDER BY 1";
    books
        .each_row(sql, |row| {
            balance.misnamed_objects += 1;
            if row.number(1) < lost_before_ms
                && let Err(skip) = BronzeKey::parse(row.text(0), |_| true)
            {
                balance.finding(skip.to_string());
            }
            Ok(())
        })
        .await
}

/// Hands every object that was never processed and is older than `lost_before_ms` to `send`, some at a
/// time; how many they were. Locally nothing has to be sent: the next run lists bronze itself.
pub(super) async fn requeue<E: From<AuditError>>(
    books: &Books,
    lost_before_ms: i64,
    mut send: impl AsyncFnMut(&[BronzeObject]) -> Result<(), E>,
) -> Result<u64, E> {
    let mut after = String::new();
    let mut sent = 0;
    loop {
        let sql = format!(
            "SELECT bronze_key, bronze_etag, bytes, modified_ms FROM ({PENDING})
             WHERE modified_ms < {lost_before_ms} AND bronze_key > {}
             ORDER BY 1 LIMIT {REQUEUED_AT_ONCE}",
            quoted::text(&after)
        );
        let mut page = Vec::new();
        books
            .each_row(&sql, |row| {
                page.push(BronzeObject {
                    key: row.text(0).to_owned(),
                    etag: row.text(1).to_owned(),
                    bytes: row.count(2),
                    modified_ms: row.number(3),
                });
                Ok(())
            })
            .await?;
        let Some(last) = page.last() else { return Ok(sent) };
        after.clone_from(&last.key);
        send(&page).await?;
        sent += page.len() as u64;
    }
}
