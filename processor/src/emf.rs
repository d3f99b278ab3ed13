//! Metrics for CloudWatch, in its Embedded Metric Format: lines of JSON on stdout, which Lambda's log makes metrics of.
//!
//! A line carries one value per dimension, so there is one for each dataset and one for each of its rules. A
//! device or a gateway is never a dimension: each would cost a metric of its own. CloudWatch may count a line
//! twice; what is true stands in the ledger.

use serde_json::{Map, Value, json};

use crate::run::RunReport;

/// The namespace of all metrics.
pub const NAMESPACE: &str = "Ingot";

/// What a run did: `RowsIn`, `RowsSilver`, `RowsDiscarded` and `RowsDuplicate` by `dataset`, and `RowsDiscarded` by
/// `dataset` and `rule`. Datasets without objects have no line. `now_ms` is since 1970-01-01 UTC.
pub fn of_run(report: &RunReport, now_ms: i64) -> Vec<String> {
    let mut lines = Vec::new();
    for (dataset, sums) in &report.datasets {
        let rows = [
            ("RowsIn", sums.rows_in),
            ("RowsSilver", sums.silver),
            ("RowsDiscarded", sums.discarded),
            ("RowsDuplicate", sums.duplicates),
        ];
        lines.push(line(now_ms, &[("dataset", dataset)], &rows));
        for (rule, rows) in &sums.rules {
            let rows = i64::try_from(*rows).unwrap_or(i64::MAX);
            lines.push(line(now_ms, &[("dataset", dataset), ("rule", rule)], &[("RowsDiscarded", rows)]));
        }
    }
    lines
}

/// What an audit found, `AuditFindings`, and how many lost objects it sent again, `ObjectsRequeued`; without dimension.
pub fn of_audit(findings: u64, requeued: u64, now_ms: i64) -> String {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    line(now_ms, &[], &[("AuditFindings", count(findings)), ("ObjectsRequeued", count(requeued))])
}

fn line(now_ms: i64, dimensions: &[(&str, &str)], metrics: &[(&str, i64)]) -> String {
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    let described: Vec<Value> =
        metrics.iter().map(|(name, _)| json!({"Name": name, "Unit": "Count"})).collect();
    let directive = json!({"Namespace": NAMESPACE, "Dimensions": [names], "Metrics": described});
    let mut line = Map::new();
    line.insert("_aws".to_owned(), json!({"Timestamp": now_ms, "CloudWatchMetrics": [directive]}));
    line.extend(dimensions.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
    line.extend(metrics.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
    Value::Object(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Sums;

    #[test]
    fn a_run_is_a_line_per_dataset_and_rule() {
        let mut report = RunReport::default();
        let rules = [("bad_status".to_owned(), 2)].into();
        let orders =
            Sums { rows_in: 10, silver: 7, discarded: 2, duplicates: 1, rules, ..Default::default() };
        report.datasets.insert("orders".to_owned(), orders);
        assert_eq!(
            of_run(&report, 1_767_225_600_000),
            [
                concat!(
                    r#"{"RowsDiscarded":2,"RowsDuplicate":1,"RowsIn":10,"RowsSilver":7,"#,
                    r#""_aws":{"CloudWatchMetrics":[{"Dimensions":[["dataset"]],"Metrics":[{"Name":"RowsIn","Unit":"Count"},"#,
                    r#"{"Name":"RowsSilver","Unit":"Count"},{"Name":"RowsDiscarded","Unit":"Count"},"#,
                    r#"{"Name":"RowsDuplicate","Unit":"Count"}],"Namespace":"Ingot"}],"Timestamp":1767225600000},"dataset":"orders"}"#
                ),
                concat!(
                    r#"{"RowsDiscarded":2,"_aws":{"CloudWatchMetrics":[{"Dimensions":[["dataset","rule"]],"#,
                    r#""Metrics":[{"Name":"RowsDiscarded","Unit":"Count"}],"Namespace":"Ingot"}],"#,
                    r#""Timestamp":1767225600000},"dataset":"orders","rule":"bad_status"}"#
                ),
            ]
        );
    }

    #[test]
    fn an_audit_is_one_line_and_zero_is_a_value() {
        assert_eq!(
            of_audit(0, 3, 1),
            concat!(
                r#"{"AuditFindings":0,"ObjectsRequeued":3,"_aws":{"CloudWatchMetrics":[{"Dimensions":[[]],"#,
                r#""Metrics":[{"Name":"AuditFindings","Unit":"Count"},{"Name":"ObjectsRequeued","Unit":"Count"}],"#,
                r#""Namespace":"Ingot"}],"Timestamp":1}}"#
            )
        );
    }
}
