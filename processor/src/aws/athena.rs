//! Athena: a statement, run to its end within a bounded time.

use std::time::Duration;

use serde_json::{Value, json};

use super::access::Service;
use super::client::{Call, Client};
use super::error::CallError;

/// Longest wait for one statement; those of this program only define things.
pub const STATEMENT_MAX: Duration = Duration::from_secs(120);
/// The pause between two looks at a statement.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A workgroup, and where results go if it does not say so itself.
#[derive(Clone, Debug)]
pub struct Workgroup {
    client: Client,
    name: String,
    output: Option<String>,
}

/// A statement did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// A call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It failed or was cancelled.
    #[error("the statement {id} {state} in workgroup {workgroup}: {reason}")]
    Failed {
        /// Athena's id of it.
        id: String,
        /// `FAILED` or `CANCELLED`.
        state: String,
        /// The workgroup.
        workgroup: String,
        /// Athena's words.
        reason: String,
    },
    /// It takes too long.
    #[error("the statement {id} has not ended after {} s in workgroup {workgroup}; look at it in Athena", STATEMENT_MAX.as_secs())]
    Slow {
        /// Athena's id of it.
        id: String,
        /// The workgroup.
        workgroup: String,
    },
}

impl Workgroup {
    /// The workgroup of the name; `output` is an `s3://` URL for results.
    pub fn new(client: Client, name: &str, output: Option<&str>) -> Self {
        Self { client, name: name.to_owned(), output: output.map(str::to_owned) }
    }

    /// Runs a statement in a database. `token` makes it the same statement when a try is repeated: 32 to 128
    /// characters.
    pub async fn run(&self, database: &str, sql: &str, token: &str) -> Result<(), StatementError> {
        let mut input = json!({
            "QueryString": sql,
            "ClientRequestToken": token,
            "QueryExecutionContext": {"Database": database},
            "WorkGroup": self.name,
        });
        if let Some(output) = &self.output {
            input["ResultConfiguration"] = json!({"OutputLocation": output});
        }
        let started = self.call("StartQueryExecution", input).await?;
        let id = started["QueryExecutionId"].as_str().unwrap_or_default().to_owned();
        let looks = STATEMENT_MAX.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..looks {
            let found = self.call("GetQueryExecution", json!({"QueryExecutionId": id})).await?;
            let status = &found["QueryExecution"]["Status"];
            match status["State"].as_str() {
                Some("SUCCEEDED") => return Ok(()),
                Some(state @ ("FAILED" | "CANCELLED")) => {
                    return Err(StatementError::Failed {
                        id,
                        state: state.to_owned(),
                        workgroup: self.name.clone(),
                        reason: status["StateChangeReason"].as_str().unwrap_or("no reason").to_owned(),
                    });
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
        Err(StatementError::Slow { id, workgroup: self.name.clone() })
    }

    async fn call(&self, action: &'static str, input: Value) -> Result<Value, CallError> {
        let resource = format!("arn:aws:athena:{}:*:workgroup/{}", self.client.region(), self.name);
        let call = Call {
            service: Service::Athena,
            action,
            resource: &resource,
            content_type: "application/x-amz-json-1.1",
            target: Some("AmazonAthena"),
            body: input.to_string(),
        };
        self.client.call_json(&call).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::client::tests::scripted;
    use super::*;

    #[tokio::test]
    async fn a_statement_is_waited_for_and_its_failure_told() {
        let started = r#"{"QueryExecutionId":"q1"}"#;
        let running = r#"{"QueryExecution":{"Status":{"State":"RUNNING"}}}"#;
        let done = r#"{"QueryExecution":{"Status":{"State":"SUCCEEDED"}}}"#;
        let failed = r#"{"QueryExecution":{"Status":{"State":"FAILED","StateChangeReason":"line 1: mismatched input"}}}"#;
        let answers = [(200, started), (200, running), (200, done), (200, started), (200, failed)];
        let (client, served) = scripted(&answers).await;
        let workgroup = Workgroup::new(client, "ingot", Some("s3://results/"));
        workgroup.run("lake", "SELECT 1", "t").await.unwrap();
        let error = workgroup.run("lake", "SELEC", "t").await.unwrap_err().to_string();
        assert_eq!(error, "the statement q1 FAILED in workgroup ingot: line 1: mismatched input");
        assert!(served.await.unwrap()[0].contains(r#""OutputLocation":"s3://results/""#));
    }
}
