//! Where the subject may be named besides its rows: the results of dataset checks, and alerts.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{col, lit};
use serde_json::{Map, Value};

use super::object::has_word;
use super::search::shown;
use super::{ForgetError, Subject, insisting};
use crate::contract::Contract;
use crate::dataset_check::record;
use crate::lake::Lake;
use crate::pseudonym::PseudonymKey;
use crate::quoted;
use crate::session;
use crate::table::Table;

/// The table of results of dataset checks.
pub(super) const CHECKS: &str = record::PATH;
/// The alerts' state.
const ALERTS: &str = "alerts";
/// What stands for the subject where a text named it.
const NOBODY: &str = "[FORGOTTEN]";

/// Takes the subject's name out of checks and alerts.
pub(super) async fn erase(
    lake: &Lake,
    contract: &Contract,
    key: &PseudonymKey,
    subject: &Subject,
) -> Result<(), ForgetError> {
    let mut names = vec![subject.value.clone()];
    names.extend(shown(contract, key, subject).filter(|shown| *shown != subject.value));
    insisting(async || in_checks(lake, contract, &names).await).await?;
    in_alerts(lake, &names).await
}

async fn in_checks(lake: &Lake, contract: &Contract, names: &[String]) -> Result<(), ForgetError> {
    let Some(mut table) = Table::open(lake, CHECKS).await? else { return Ok(()) };
    let context = session::context();
    context.register_table("checks", table.provider().await?)?;
    let schema = record::schema();
    let columns: Vec<String> = schema.fields().iter().map(|field| quoted::name(field.name())).collect();
    let sql = format!(
        "SELECT {} FROM checks WHERE dataset = {}",
        columns.join(", "),
        quoted::text(&contract.dataset)
    );
    let mut rows = Vec::new();
    let mut changed = false;
    for batch in context.sql(&sql).await?.collect().await? {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()));
        let mut columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let places: BTreeMap<&str, usize> =
            schema.fields().iter().enumerate().map(|(at, field)| (field.name().as_str(), at)).collect();
        let (subjects, more, problem) = (places["subjects"], places["subjects_more"], places["problem"]);
        let mut texts = Vec::with_capacity(batch.num_rows());
        let mut mores = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let text = columns[subjects].as_string::<i32>().value(row);
            let listed: Vec<String> = serde_json::from_str(text).unwrap_or_default();
            let (gone, kept): (Vec<String>, Vec<String>) = listed
                .into_iter()
                .partition(|listed| names.iter().any(|name| has_word(listed.as_bytes(), name.as_bytes())));
            changed |= !gone.is_empty();
            texts.push(serde_json::to_string(&kept).map_err(ForgetError::Plan)?);
            mores.push(columns[more].as_primitive::<Int64Type>().value(row) + gone.len() as i64);
        }
        let problems: StringArray = columns[problem]
            .as_string::<i32>()
            .iter()
            .map(|text| {
                text.map(|text| {
                    let without = without(text, names);
                    changed |= without != text;
                    without
                })
            })
            .collect();
        columns[subjects] = Arc::new(StringArray::from(texts));
        columns[more] = Arc::new(Int64Array::from(mores));
        columns[problem] = Arc::new(problems);
        rows.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
    }
    if changed {
        let rows = concat_batches(&schema, &rows)?;
        let predicate = col("dataset").eq(lit(contract.dataset.as_str()));
        table.replace_where(rows, predicate).await?;
    }
    Ok(())
}

async fn in_alerts(lake: &Lake, names: &[String]) -> Result<(), ForgetError> {
    loop {
        let Some((version, bytes)) = lake.newest_document(ALERTS).await? else { return Ok(()) };
        let done = match alerts_without(&bytes, names).map_err(ForgetError::Plan)? {
            Some(clean) => lake.put_document(ALERTS, version + 1, clean).await?,
            None => true,
        };
        if done {
            return Ok(lake.drop_documents(ALERTS, false).await?);
        }
    }
}

/// The alerts' state without the names in what it tells in words; `None` where they are not in it. Its numbers and
/// names of fields stay, whatever the subject is called, and what cannot be read stays as a whole: loading it says so.
fn alerts_without(bytes: &[u8], names: &[String]) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let Ok(mut state) = serde_json::from_slice::<Value>(bytes) else { return Ok(None) };
    let mut texts: Vec<&mut String> = Vec::new();
    for (field, value) in alerts(&mut state).into_iter().flatten() {
        match (field.as_str(), value) {
            ("summary", Value::String(text)) => texts.push(text),
            ("common", Value::Object(common)) => {
                texts.extend(common.values_mut().filter_map(|value| match value {
                    Value::String(text) => Some(text),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    let mut changed = false;
    for text in texts {
        let clean = without(text, names);
        changed |= clean != *text;
        *text = clean;
    }
    changed.then(|| serde_json::to_vec(&state)).transpose()
}

/// The open alerts and the events, which hold an alert as it opened.
fn alerts(state: &mut Value) -> Vec<&mut Map<String, Value>> {
    let Value::Object(state) = state else { return Vec::new() };
    let lists = state.iter_mut().filter(|(name, _)| ["open", "events"].contains(&name.as_str()));
    let mut alerts = Vec::new();
    for (_, list) in lists {
        match list {
            Value::Object(open) => alerts.extend(open.values_mut().filter_map(Value::as_object_mut)),
            Value::Array(events) => alerts.extend(events.iter_mut().filter_map(Value::as_object_mut)),
            _ => {}
        }
    }
    alerts
}

/// The text with something else in place of each name that stands in it as a word.
fn without(text: &str, names: &[String]) -> String {
    let mut text = text.to_owned();
    for name in names {
        let mut from = 0;
        while let Some(at) = text[from..].find(name.as_str()).map(|at| from + at) {
            let end = at + name.len();
            let letter = |sign: Option<char>| sign.is_some_and(|sign| sign.is_ascii_alphanumeric());
            if letter(text[..at].chars().next_back()) || letter(text[end..].chars().next()) {
                from = end;
            } else {
                text.replace_range(at..end, NOBODY);
                from = at + NOBODY.len();
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::alert::store::State;

    #[test]
    fn a_name_goes_and_longer_ones_stay() {
        let names = ["d1".to_owned()];
        assert_eq!(without("d1 d10 \"d1\" ad1", &names), "[FORGOTTEN] d10 \"[FORGOTTEN]\" ad1");
    }

    #[test]
    fn a_name_goes_from_the_alerts_words_and_never_from_numbers_or_fields() {
        let alert = r#""dataset":"d","alert":"lost","rule":"rule","since_ms":7,"value":0.0,"summary":"7 given up by gw-1; rule 0","common":{"gateway":"gw-1","value":"0"}"#;
        let text = format!(
            r#"{{"open":{{"d/lost":{{{alert}}}}},"next":7,"events":[{{"id":"d/lost@7/open","kind":"open","at_ms":7,"value_now":0.0,{alert}}}],"targets":{{"log":{{"next":0,"claimed_until_ms":7}}}},"untold":0}}"#
        );
        let before: State = serde_json::from_str(&text).unwrap();
        for (name, summary, gateway) in [
            ("0", "7 given up by gw-1; rule [FORGOTTEN]", "gw-1"),
            ("7", "[FORGOTTEN] given up by gw-1; rule 0", "gw-1"),
            ("rule", "7 given up by gw-1; [FORGOTTEN] 0", "gw-1"),
            ("gw-1", "7 given up by [FORGOTTEN]; rule 0", NOBODY),
        ] {
            let clean = alerts_without(text.as_bytes(), &[name.to_owned()]).unwrap().unwrap();
            let mut after: State = serde_json::from_slice(&clean).unwrap();
            let open = after.open.get_mut("d/lost").unwrap();
            assert_eq!(
                (open.summary.as_str(), open.common["gateway"].as_str()),
                (summary, gateway),
                "{name}"
            );
            let told = String::from_utf8(clean).unwrap();
            assert_eq!(told.matches(summary).count(), 2, "the event, too: {told}");
            open.clone_from(&before.open["d/lost"]);
            let rest = |state: &State| {
                let mut state = serde_json::to_value(state).unwrap();
                state["events"][0]["summary"].take();
                state["events"][0]["common"].take();
                state
            };
            assert_eq!(rest(&after), rest(&before), "nothing else");
        }
        for text in [text.as_str(), "no JSON, gw-2", "[]"] {
            assert_eq!(alerts_without(text.as_bytes(), &["gw-2".to_owned()]).unwrap(), None);
        }
    }
}
