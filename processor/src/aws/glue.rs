//! Glue's catalog: databases and tables, as the service's own JSON.
//!
//! `UpdateTable` names the version that was read, so that two at once do not undo each other.

use serde_json::{Value, json};

use super::access::Service;
use super::client::{Call, Client};
use super::error::CallError;

/// Pages of tables that a listing reads; a page has up to a hundred.
pub const PAGES_MAX: usize = 1_000;

/// A database of the catalog.
#[derive(Clone, Debug)]
pub struct Database {
    client: Client,
    name: String,
}

impl Database {
    /// The database of the name; it need not exist.
    pub fn new(client: Client, name: &str) -> Self {
        Self { client, name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database, or `None` if there is none.
    pub async fn get(&self) -> Result<Option<Value>, CallError> {
        let found = self.call("GetDatabase", &self.arn(), json!({"Name": self.name})).await;
        found_or_none(found, "Database")
    }

    /// Makes it.
    pub async fn create(&self, description: &str) -> Result<(), CallError> {
        let input = json!({"DatabaseInput": {"Name": self.name, "Description": description}});
        self.call("CreateDatabase", &self.arn(), input).await.map(drop)
    }

    /// A table, or `None` if there is none.
    pub async fn table(&self, name: &str) -> Result<Option<Value>, CallError> {
        let input = json!({"DatabaseName": self.name, "Name": name});
        found_or_none(self.call("GetTable", &self.table_arn(name), input).await, "Table")
    }

    /// Its tables and views.
    pub async fn tables(&self) -> Result<Vec<Value>, CallError> {
        let resource = self.table_arn("*");
        let mut tables = Vec::new();
        let mut next = Value::Null;
        for _ in 0..PAGES_MAX {
            let mut input = json!({"DatabaseName": self.name});
            if !next.is_null() {
                input["NextToken"] = next;
            }
            let mut page = self.call("GetTables", &resource, input).await?;
            if let Value::Array(found) = page["TableList"].take() {
                tables.extend(found);
            }
            next = page["NextToken"].take();
            if next.as_str().is_none_or(str::is_empty) {
                break;
            }
        }
        Ok(tables)
    }

    /// Makes a table of a `TableInput`.
    pub async fn create_table(&self, input: &Value) -> Result<(), CallError> {
        let name = input["Name"].as_str().unwrap_or_default();
        let body = json!({"DatabaseName": self.name, "TableInput": input});
        self.call("CreateTable", &self.table_arn(name), body).await.map(drop)
    }

    /// Changes a table, if it is still of the version `version_id`; the old version is not kept.
    pub async fn update_table(&self, input: &Value, version_id: Option<&str>) -> Result<(), CallError> {
        let name = input["Name"].as_str().unwrap_or_default();
        let mut body = json!({"DatabaseName": self.name, "TableInput": input, "SkipArchive": true});
        if let Some(version_id) = version_id {
            body["VersionId"] = version_id.into();
        }
        self.call("UpdateTable", &self.table_arn(name), body).await.map(drop)
    }

    fn arn(&self) -> String {
        format!("arn:aws:glue:{}:*:database/{}", self.client.region(), self.name)
    }

    fn table_arn(&self, table: &str) -> String {
        format!("arn:aws:glue:{}:*:table/{}/{table}", self.client.region(), self.name)
    }

    async fn call(&self, action: &'static str, resource: &str, input: Value) -> Result<Value, CallError> {
        let call = Call {
            service: Service::Glue,
            action,
            resource,
            content_type: "application/x-amz-json-1.1",
            target: Some("AWSGlue"),
            body: input.to_string(),
        };
        self.client.call_json(&call).await
    }
}

fn found_or_none(found: Result<Value, CallError>, name: &str) -> Result<Option<Value>, CallError> {
    match found {
        Ok(mut found) => Ok(Some(found[name].take())),
        Err(error) if error.is("EntityNotFoundException") => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::client::tests::scripted;
    use super::*;

    #[tokio::test]
    async fn what_is_not_there_is_none_and_what_is_denied_is_an_error() {
        let (client, served) = scripted(&[
            (400, r#"{"__type":"EntityNotFoundException","Message":"Table not found"}"#),
            (200, r#"{"Table":{"Name":"orders","VersionId":"3"}}"#),
            (400, r#"{"__type":"AccessDeniedException","Message":"no"}"#),
        ])
        .await;
        let database = Database::new(client, "lake");
        assert_eq!(database.table("orders").await.unwrap(), None);
        assert_eq!(database.table("orders").await.unwrap().unwrap()["VersionId"], "3");
        let error = database.table("orders").await.unwrap_err().to_string();
        assert!(
            error.ends_with("needs glue:GetTable on arn:aws:glue:eu-west-1:*:table/lake/orders"),
            "{error}"
        );
        served.await.unwrap();
    }

    #[tokio::test]
    async fn all_pages_are_read() {
        let (client, served) = scripted(&[
            (200, r#"{"TableList":[{"Name":"a"}],"NextToken":"t"}"#),
            (200, r#"{"TableList":[{"Name":"b"}]}"#),
        ])
        .await;
        assert_eq!(Database::new(client, "lake").tables().await.unwrap().len(), 2);
        assert!(served.await.unwrap()[1].ends_with(r#"{"DatabaseName":"lake","NextToken":"t"}"#));
    }
}
