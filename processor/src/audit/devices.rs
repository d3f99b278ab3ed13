//! Every device's sequence of readings: how many are there, which are missing, and who answers for them.
//!
//! A dataset whose key is (device, boot, seq) counts its readings, so a hole between the first and the
//! last that were seen is a reading that is nowhere. Silver and discard are searched together. A hole is
//! answered for by the drops that its gateway's headers report, by discard rows that cannot be read as
//! readings (a line that is no JSON hides one, a damaged frame hides many), and, while objects wait to be
//! processed, by those. What is left is lost, and a finding.
//!
//! What lies before a sequence's first reading is counted apart: retention may have removed it, or the
//! device counted before anyone listened. A drop's header names the gateway, not the device; so holes
//! are held against drops by gateway, those of devices heard through several gateways against what is left.

use serde::Serialize;

use super::books::{Books, GATEWAY_SQL};
use super::{AuditError, Balance};
use crate::contract::Contract;
use crate::decode::{FORGOTTEN, HIDING};
use crate::discard::DUPLICATE;
use crate::quoted;

/// The key that makes a dataset's rows a device's sequence.
const KEY: [&str; 3] = ["device", "boot", "seq"];
/// Incomplete sequences that a report names, the worst first.
const NAMED_MAX: usize = 20;

/// All sequences of one dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Devices {
    /// Runs of devices: pairs of (device, boot).
    pub sequences: u64,
    /// Different readings in silver or discard.
    pub seen: u64,
    /// Readings that came in an object processed after one with later readings of the device.
    pub late: u64,
    /// Copies of readings that were there already.
    pub duplicates: u64,
    /// Numbers before a sequence's first reading.
    pub before_first: u64,
    /// Holes between a sequence's first and last reading.
    pub gaps: u64,
    /// Readings in these holes.
    pub missing: u64,
    /// Of these, held against drops that gateways report.
    pub dropped: u64,
    /// Of these, held against discard rows that name no reading.
    pub unreadable: u64,
    /// Of these, perhaps in objects that are not processed yet.
    pub awaited: u64,
    /// Of these, answered for by nobody.
    pub lost: u64,
    /// Some incomplete sequences, the worst first.
    pub incomplete: Vec<Sequence>,
}

/// An incomplete sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sequence {
    /// The device.
    pub device: String,
    /// Its run.
    pub boot: i64,
    /// The gateway that it is heard through; empty for several or none.
    pub gateway: String,
    /// Different readings that are there.
    pub seen: u64,
    /// The first number seen.
    pub first: i64,
    /// The last number seen.
    pub last: i64,
    /// Holes.
    pub gaps: u64,
    /// Readings in them.
    pub missing: u64,
    /// The first number that is missing.
    pub first_missing: i64,
}

/// Balances the sequences of every dataset that has them.
pub(super) async fn balance(
    balance: &mut Balance,
    books: &Books,
    contracts: &[Contract],
) -> Result<(), AuditError> {
    for contract in contracts.iter().filter(|contract| contract.key == KEY) {
        let Some(silver) = books.silver.get(&contract.dataset) else { continue };
        let query = Query { dataset: &contract.dataset, silver };
        let mut found = Devices::default();
        query.seen(books, &mut found).await?;
        if found.sequences == 0 {
            continue;
        }
        query.late_and_twice(books, &mut found).await?;
        if found.missing > 0 {
            query.gaps(books, &mut found).await?;
            query.answered_for(books, balance, &mut found).await?;
        }
        balance.devices.insert(contract.dataset.clone(), found);
    }
    Ok(())
}

struct Query<'a> {
    dataset: &'a str,
    silver: &'a str,
}

impl Query<'_> {
    /// Table expressions: `seen`, each reading once, and `sequences`, each with its sums.
    fn tables(&self) -> String {
        let (dataset, silver) = (self.dataset, self.silver);
        format!(
            "WITH elsewhere AS (
               SELECT d.device, d.boot, d.seq, min(d.gateway) AS gateway
               FROM (SELECT * FROM discarded WHERE dataset = '{dataset}' AND rule <> '{DUPLICATE}' AND device IS NOT NULL) d
               LEFT ANTI JOIN {silver} s ON d.device = s.device AND d.boot = s.boot AND d.seq = s.seq
               GROUP BY d.device, d.boot, d.seq),
             seen AS (
               SELECT device, boot, seq, {GATEWAY_SQL} AS gateway FROM {silver}
               UNION ALL SELECT device, boot, seq, gateway FROM elsewhere),
             sequences AS (
               SELECT device, boot, count(*) AS seen, min(seq) AS first, max(seq) AS last,
                      max(seq) - min(seq) + 1 - count(*) AS missing,
                      CASE WHEN min(gateway) < max(gateway) THEN '' ELSE min(gateway) END AS gateway
               FROM seen GROUP BY device, boot)"
        )
    }

    async fn seen(&self, books: &Books, found: &mut Devices) -> Result<(), AuditError> {
        let sql =
            format!("{} SELECT count(*), sum(seen), sum(first), sum(missing) FROM sequences", self.tables());
        books
            .each_row(&sql, |row| {
                found.sequences = row.count(0);
                found.seen = row.count(1);
                found.before_first = row.count(2);
                found.missing = row.count(3);
                Ok(())
            })
            .await
    }

    async fn late_and_twice(&self, books: &Books, found: &mut Devices) -> Result<(), AuditError> {
        let twice = format!(
            "SELECT count(*) FROM discarded WHERE dataset = '{}' AND rule = '{DUPLICATE}' AND device IS NOT NULL",
            self.dataset
        );
        books
            .each_row(&twice, |row| {
                found.duplicates = row.count(0);
                Ok(())
            })
            .await?;
        // By object, not by reading: an object's readings were processed at one moment. As a number, since a
        // sort-merge join does not compare moments with a time zone.
        let late = format!(
            "WITH parts AS (
               SELECT s.device, s.boot, CAST(l.processed_at AS BIGINT) AS processed, s.bronze_key, count(*) AS readings, max(s.seq) AS last
               FROM {silver} s JOIN ledger l ON s.bronze_key = l.bronze_key AND s.bronze_etag = l.bronze_etag
               GROUP BY s.device, s.boot, l.processed_at, s.bronze_key),
             moments AS (
               SELECT device, boot, processed, max(max(last)) OVER (
                        PARTITION BY device, boot ORDER BY processed
                        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
               FROM parts GROUP BY device, boot, processed)
             SELECT sum(p.readings) FROM parts p JOIN moments m
               ON p.device = m.device AND p.boot = m.boot AND p.processed = m.processed
             WHERE p.last < m.before",
            silver = self.silver
        );
        books
            .each_row(&late, |row| {
                found.late = row.count(0);
                Ok(())
            })
            .await
    }

    /// The holes one by one, of incomplete sequences alone.
    async fn gaps(&self, books: &Books, found: &mut Devices) -> Result<(), AuditError> {
        let holes = format!(
            "{}, steps AS (
               SELECT r.device, r.boot, r.seq,
                      r.seq - lag(r.seq) OVER (PARTITION BY r.device, r.boot ORDER BY r.seq) - 1 AS hole
               FROM seen r LEFT SEMI JOIN (SELECT device, boot FROM sequences WHERE missing > 0) i
                 ON r.device = i.device AND r.boot = i.boot),
             holes AS (
               SELECT device, boot, count(*) AS gaps, min(seq - hole) AS first_missing
               FROM steps WHERE hole > 0 GROUP BY device, boot)",
            self.tables()
        );
        let sum = format!("{holes} SELECT sum(gaps) FROM holes");
        books
            .each_row(&sum, |row| {
                found.gaps = row.count(0);
                Ok(())
            })
            .await?;
        let worst = format!(
            "{holes} SELECT q.device, q.boot, q.gateway, q.seen, q.first, q.last, h.gaps, q.missing, h.first_missing
             FROM sequences q JOIN holes h ON q.device = h.device AND q.boot = h.boot
             ORDER BY q.missing DESC, q.device, q.boot LIMIT {NAMED_MAX}"
        );
        books
            .each_row(&worst, |row| {
                found.incomplete.push(Sequence {
                    device: row.text(0).to_owned(),
                    boot: row.number(1),
                    gateway: row.text(2).to_owned(),
                    seen: row.count(3),
                    first: row.number(4),
                    last: row.number(5),
                    gaps: row.count(6),
                    missing: row.count(7),
                    first_missing: row.number(8),
                });
                Ok(())
            })
            .await
    }

    /// Holds each gateway's holes against what answers for them.
    async fn answered_for(
        &self,
        books: &Books,
        balance: &mut Balance,
        found: &mut Devices,
    ) -> Result<(), AuditError> {
        let sql = format!(
            "{tables}, holes AS (SELECT gateway, sum(missing) AS missing FROM sequences GROUP BY gateway),
             given_up AS (
               SELECT gateway, sum(readings) AS readings FROM
                 (SELECT gateway, boot, seq, cause, max(readings) AS readings FROM drops GROUP BY gateway, boot, seq, cause)
               GROUP BY gateway),
             hidden AS (
               SELECT gateway, sum(rows) AS rows_hidden, sum(damaged) AS damaged FROM (
                 SELECT gateway, 1 AS rows, CASE WHEN rule IN ({hiding}) THEN 1 ELSE 0 END AS damaged
                 FROM discarded WHERE dataset = '{dataset}' AND device IS NULL AND rule <> '{FORGOTTEN}'
                 UNION ALL SELECT {GATEWAY_SQL}, rows, 0 FROM expired WHERE dataset = '{dataset}' AND tier = 'discard')
               GROUP BY gateway),
             waiting AS (
               SELECT b.gateway, count(*) AS objects
               FROM bronze b LEFT ANTI JOIN ledger l ON b.bronze_key = l.bronze_key AND b.bronze_etag = l.bronze_etag
               WHERE b.dataset = '{dataset}' GROUP BY b.gateway),
             names AS (
               SELECT gateway FROM holes UNION SELECT gateway FROM given_up
               UNION SELECT gateway FROM hidden UNION SELECT gateway FROM waiting)
             SELECT n.gateway, h.missing, g.readings, d.rows_hidden, d.damaged, w.objects
             FROM names n LEFT JOIN holes h ON n.gateway = h.gateway LEFT JOIN given_up g ON n.gateway = g.gateway
               LEFT JOIN hidden d ON n.gateway = d.gateway LEFT JOIN waiting w ON n.gateway = w.gateway
             ORDER BY n.gateway DESC",
            tables = self.tables(),
            dataset = self.dataset,
            hiding = quoted::texts(HIDING)
        );
        // '' sorts last: devices of several gateways may use what the others leave.
        let mut left = Answers::default();
        books
            .each_row(&sql, |row| {
                let gateway = row.text(0);
                let mut answers = Answers {
                    dropped: row.count(2),
                    unreadable: row.count(3),
                    damaged: row.count(4),
                    waiting: row.count(5),
                };
                if gateway.is_empty() {
                    answers.add(&left);
                }
                let lost = answers.take(row.count(1), found);
                left.add(&answers);
                if lost > 0 {
                    found.lost += lost;
                    balance.finding(match gateway {
                        "" => format!(
                            "{}: {lost} readings were never seen and nobody counted them as dropped; `incomplete` names the devices",
                            self.dataset
                        ),
                        _ => format!(
                            "{}, gateway {gateway}: {lost} readings of its devices were never seen and it did not count them as dropped; `incomplete` names the devices",
                            self.dataset
                        ),
                    });
                }
                Ok(())
            })
            .await
    }
}

/// What can answer for holes, used up as it does.
#[derive(Default)]
struct Answers {
    dropped: u64,
    unreadable: u64,
    /// Frames or files cut or corrupt: each may hide any number.
    damaged: u64,
    /// Objects not processed yet: the same.
    waiting: u64,
}

impl Answers {
    fn add(&mut self, other: &Self) {
        self.dropped += other.dropped;
        self.unreadable += other.unreadable;
        self.damaged += other.damaged;
        self.waiting += other.waiting;
    }

    /// Takes what answers for `missing` readings; how many are left over.
    fn take(&mut self, missing: u64, found: &mut Devices) -> u64 {
        let dropped = missing.min(self.dropped);
        self.dropped -= dropped;
        found.dropped += dropped;
        let rest = missing - dropped;
        if rest > 0 && self.waiting > 0 {
            found.awaited += rest;
            return 0;
        }
        let unreadable = if self.damaged > 0 { rest } else { rest.min(self.unreadable) };
        self.unreadable = self.unreadable.saturating_sub(unreadable);
        found.unreadable += unreadable;
        rest - unreadable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_answered_for_once() {
        let mut found = Devices::default();
        let mut answers = Answers { dropped: 3, unreadable: 1, ..Answers::default() };
        assert_eq!(answers.take(2, &mut found), 0);
        assert_eq!(answers.take(4, &mut found), 2);
        assert_eq!((found.dropped, found.unreadable), (3, 1));
        let mut damaged = Answers { damaged: 1, ..Answers::default() };
        assert_eq!(damaged.take(500, &mut found), 0);
        let mut waiting = Answers { waiting: 1, ..Answers::default() };
        assert_eq!(waiting.take(5, &mut found), 0);
        assert_eq!(found.awaited, 5);
    }
}
