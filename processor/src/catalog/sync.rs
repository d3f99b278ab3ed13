//! Making the catalog as it should be: again and again, by anybody, with nothing to do where it already is.
//!
//! A table is changed only in the version that was read; whoever comes second looks again. Views are made by Athena
//! itself, which then knows their types; the table that a view reads remembers, in a parameter, by which
//! statement it was made. Tables and views of others are never touched, and nothing is ever dropped.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::Catalog;
use super::entry::{Entry, NotOurs, VIEW, view_mark};
use super::view::View;
use crate::aws::athena::{StatementError, Workgroup};
use crate::aws::error::CallError;
use crate::aws::glue::Database;

/// Looks at one table that others change at the same time.
pub const CONFLICTS_MAX: u32 = 5;
/// Stands in place of a fingerprint while a view is being made, so that a half-made one is known as Ingot's.
const MAKING: &str = "making";

/// What was, or would be, done to one table or view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The table or view.
    pub name: String,
    /// Whether it was made or changed.
    pub done: Done,
    /// What of it was changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<String>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Nothing, it is as it should be.
    Unchanged,
    /// It was not there.
    Created,
    /// It was otherwise.
    Changed,
    /// It is a view, and there is no workgroup to make views in.
    Left,
}

/// What a sync did, or would do.
#[derive(Debug, Default, Serialize)]
pub struct Synced {
    /// The database.
    pub database: String,
    /// Whether the database was made.
    pub database_created: bool,
    /// The tables.
    pub tables: Vec<Change>,
    /// The views.
    pub views: Vec<Change>,
    /// Tables that the lake does not have yet.
    pub absent: Vec<String>,
    /// What could not be done, by name.
    pub failed: BTreeMap<String, String>,
    /// How much was, or would be, changed: database, tables and views.
    pub changes: usize,
}

/// A table or view could not be made.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Statement(#[from] StatementError),
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
    #[error("{name} was changed by others {CONFLICTS_MAX} times in a row; try again")]
    Contended { name: String },
    #[error(
        "{name} is in the catalog and is not Ingot's view; drop or rename it there, or choose another --database"
    )]
    Taken { name: String },
    #[error("{base} is not in the catalog, so the view cannot be made")]
    NoBase { base: String },
}

/// Makes the database as `catalog` says, or with `dry_run` finds out what that would change. Without a workgroup views
/// are left. `progress` is told how many tables and views are done.
///
/// # Errors
/// The database cannot be looked at or made; a table or view that fails is in the report, and the rest is done.
pub async fn sync(
    catalog: &Catalog,
    database: &Database,
    workgroup: Option<&Workgroup>,
    dry_run: bool,
    progress: impl Fn(usize),
) -> Result<Synced, CallError> {
    let mut synced =
        Synced { database: database.name().to_owned(), absent: catalog.absent.clone(), ..Synced::default() };
    if database.get().await?.is_none() {
        synced.database_created = true;
        if !dry_run {
            match database.create("The lake's tables, kept by ingot-processor catalog sync").await {
                Err(error) if !error.is("AlreadyExistsException") => return Err(error),
                _ => {}
            }
        }
    }
    let is_there = !(dry_run && synced.database_created);
    let mut done = 0;
    for entry in &catalog.tables {
        let change = match is_there {
            true => put(entry, database, dry_run).await,
            false => Ok(change(&entry.name, Done::Created, Vec::new())),
        };
        match change {
            Ok(change) => synced.tables.push(change),
            Err(error) => drop(synced.failed.insert(entry.name.clone(), error.to_string())),
        }
        done += 1;
        progress(done);
    }
    let there = if is_there { database.tables().await? } else { Vec::new() };
    for view in &catalog.views {
        let change = match workgroup {
            Some(workgroup) => make(view, &there, database, workgroup, dry_run).await,
            None => Ok(change(&view.name, Done::Left, Vec::new())),
        };
        match change {
            Ok(change) => synced.views.push(change),
            Err(error) => drop(synced.failed.insert(view.name.clone(), error.to_string())),
        }
        done += 1;
        progress(done);
    }
    let all = synced.tables.iter().chain(&synced.views);
    let changed = all.filter(|change| matches!(change.done, Done::Created | Done::Changed)).count();
    synced.changes = changed + usize::from(synced.database_created);
    Ok(synced)
}

fn change(name: &str, done: Done, what: Vec<String>) -> Change {
    Change { name: name.to_owned(), done, what }
}

/// Makes one table as it should be.
async fn put(entry: &Entry, database: &Database, dry_run: bool) -> Result<Change, SyncError> {
    for _ in 0..CONFLICTS_MAX {
        let Some(found) = database.table(&entry.name).await? else {
            let made = if dry_run { Ok(()) } else { database.create_table(&entry.input()).await };
            match made {
                Err(error) if error.is("AlreadyExistsException") => continue,
                made => made?,
            }
            return Ok(change(&entry.name, Done::Created, Vec::new()));
        };
        let Some((input, what)) = entry.update_of(&found)? else {
            return Ok(change(&entry.name, Done::Unchanged, Vec::new()));
        };
        if dry_run || update(database, &input, &found).await? {
            return Ok(change(&entry.name, Done::Changed, what));
        }
    }
    Err(SyncError::Contended { name: entry.name.clone() })
}

/// Changes the version of the table that was found; false if it is another by now.
async fn update(database: &Database, input: &Value, found: &Value) -> Result<bool, CallError> {
    match database.update_table(input, found["VersionId"].as_str()).await {
        Ok(()) => Ok(true),
        Err(error)
            if ["ConcurrentModificationException", "VersionMismatchException"]
                .iter()
                .any(|code| error.is(code)) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Makes one view, unless the one that is there was made by the same statement.
async fn make(
    view: &View,
    there: &[Value],
    database: &Database,
    workgroup: &Workgroup,
    dry_run: bool,
) -> Result<Change, SyncError> {
    let listed = there.iter().find(|table| table["Name"] == view.name.as_str());
    let base = there.iter().find(|table| table["Name"] == view.base.as_str());
    let mark = base.and_then(|base| view_mark(base, &view.name));
    if listed.is_some_and(|found| mark.is_none() || found["TableType"] != "VIRTUAL_VIEW") {
        return Err(SyncError::Taken { name: view.name.clone() });
    }
    let fingerprint = view.fingerprint();
    if listed.is_some() && mark == Some(fingerprint.as_str()) {
        return Ok(change(&view.name, Done::Unchanged, Vec::new()));
    }
    if !dry_run {
        remember(database, view, MAKING).await?;
        let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        workgroup.run(database.name(), &view.statement, &token).await?;
        remember(database, view, &fingerprint).await?;
    }
    let done = if listed.is_some() { Done::Changed } else { Done::Created };
    Ok(change(&view.name, done, Vec::new()))
}

/// Notes with the table that the view reads by which statement the view is made.
async fn remember(database: &Database, view: &View, mark: &str) -> Result<(), SyncError> {
    for _ in 0..CONFLICTS_MAX {
        let found = database.table(&view.base).await?;
        let found = found.ok_or_else(|| SyncError::NoBase { base: view.base.clone() })?;
        if view_mark(&found, &view.name) == Some(mark) {
            return Ok(());
        }
        let mut input = as_input(&found);
        input["Parameters"][format!("{VIEW}{}", view.name)] = mark.into();
        if update(database, &input, &found).await? {
            return Ok(());
        }
    }
    Err(SyncError::Contended { name: view.base.clone() })
}

/// What Glue says of a table, as it wants to be told it.
fn as_input(found: &Value) -> Value {
    const KEPT: [&str; 12] = [
        "Name",
        "Description",
        "Owner",
        "LastAccessTime",
        "LastAnalyzedTime",
        "Retention",
        "StorageDescriptor",
        "PartitionKeys",
        "ViewOriginalText",
        "ViewExpandedText",
        "TableType",
        "Parameters",
    ];
    let kept: BTreeSet<&str> = KEPT.into();
    let fields = found.as_object().into_iter().flatten();
    fields
        .filter(|(name, value)| kept.contains(name.as_str()) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::aws::client::tests::scripted;
    use crate::contract::Contract;

    fn orders() -> Entry {
        let contract = Contract::embedded().remove(1);
        let schema = crate::silver::schema(&contract);
        let columns = super::super::comment::of_silver(&contract, &schema);
        Entry::silver(&contract, "silver/orders", "s3://lake", columns)
    }

    fn stored(entry: &Entry, version: &str, description: &str) -> String {
        let mut table = entry.input();
        table["VersionId"] = version.into();
        table["Description"] = description.into();
        serde_json::json!({"Table": table}).to_string()
    }

    #[tokio::test]
    async fn who_comes_second_looks_again_and_changes_the_newer_version() {
        let entry = orders();
        let conflict = r#"{"__type":"ConcurrentModificationException","Message":"version"}"#;
        let (first, second) = (stored(&entry, "1", "old"), stored(&entry, "2", "older"));
        let (client, served) = scripted(&[(200, &first), (400, conflict), (200, &second), (200, "")]).await;
        let changed = put(&entry, &Database::new(client, "lake"), false).await.unwrap();
        assert_eq!((changed.done, changed.what), (Done::Changed, vec!["the description".to_owned()]));
        let requests = served.await.unwrap();
        assert!(requests[1].contains(r#""VersionId":"1""#), "{}", requests[1]);
        assert!(requests[3].contains(r#""VersionId":"2""#), "{}", requests[3]);
    }

    #[tokio::test]
    async fn a_table_that_is_always_changed_by_others_is_given_up() {
        let entry = orders();
        let found = stored(&entry, "1", "old");
        let conflict = r#"{"__type":"ConcurrentModificationException","Message":"version"}"#;
        let answers = [(200, found.as_str()), (400, conflict)].repeat(CONFLICTS_MAX as usize);
        let (client, served) = scripted(&answers).await;
        let error = put(&entry, &Database::new(client, "lake"), false).await.unwrap_err();
        assert!(matches!(error, SyncError::Contended { .. }), "{error}");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn somebody_elses_view_of_the_name_is_not_replaced() {
        let (client, _) = scripted(&[]).await;
        let view = View {
            name: "orders_daily".to_owned(),
            base: "gold_orders_daily".to_owned(),
            description: String::new(),
            select: String::new(),
            statement: String::new(),
        };
        let there = [
            serde_json::json!({"Name": "gold_orders_daily", "Parameters": {}}),
            serde_json::json!({"Name": "orders_daily", "TableType": "VIRTUAL_VIEW"}),
        ];
        let workgroup = Workgroup::new(client.clone(), "w", None);
        let error = make(&view, &there, &Database::new(client, "lake"), &workgroup, false).await.unwrap_err();
        assert!(matches!(error, SyncError::Taken { .. }), "{error}");
    }
}
