//! `trace`: from a gold cell down to the gateway's batch.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use ingot_processor::lake::Lake;
use ingot_processor::trace::{self, Cell, Trace, TraceError, TracedObject};
use serde_json::Value;

use super::{Usage, WORK_FAILED, contracts_of, print, spinner};
use crate::cli::{Cli, Place};

/// `trace`.
#[derive(Args)]
pub struct TraceArgs {
    /// The lake and its contracts.
    #[command(flatten)]
    place: Place,
    /// The gold table
    #[arg(long, value_name = "NAME")]
    gold: String,
    /// Which cell: SQL over the gold table's columns
    #[arg(long = "where", value_name = "SQL")]
    predicate: String,
    /// Most silver rows listed
    #[arg(long, value_name = "N", default_value_t = 10)]
    rows_max: usize,
    /// Most bronze objects listed
    #[arg(long, value_name = "N", default_value_t = 10)]
    objects_max: usize,
}

/// `trace`.
pub async fn trace(cli: &Cli, args: &TraceArgs) -> Result<ExitCode> {
    let contracts = contracts_of(&args.place)?;
    let cell = Cell {
        gold: args.gold.clone(),
        predicate: args.predicate.clone(),
        rows_max: args.rows_max,
        objects_max: args.objects_max,
    };
    let lake = Lake::open(&args.place.lake)?;
    let spinner = spinner(cli, "tracing");
    let traced = trace::trace(&lake, &contracts, &cell).await;
    spinner.finish_and_clear();
    let traced = match traced {
        Err(error @ (TraceError::Unknown { .. } | TraceError::Predicate { .. })) => {
            bail!(Usage(error.to_string()))
        }
        traced => traced?,
    };
    print(cli, &traced, || text(&traced))?;
    Ok(if traced.cells > 0 { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
}

fn text(traced: &Trace) -> String {
    let mut text = format!("gold.{}: {} cells", traced.gold, traced.cells);
    traced.cells_listed.iter().for_each(|cell| text += &format!("\n  {}", fields(cell)));
    text += &rest(traced.cells, traced.cells_listed.len());
    text += &format!("\nmade of {} rows of silver.{}", traced.silver_rows, traced.dataset);
    traced.silver_rows_listed.iter().for_each(|row| text += &format!("\n  {}", fields(row)));
    text += &rest(traced.silver_rows, traced.silver_rows_listed.len());
    text += &format!("\nfrom {} bronze objects", traced.objects);
    traced.objects_listed.iter().for_each(|object| text += &object_text(object));
    text += &rest(traced.objects, traced.objects_listed.len());
    text
}

fn object_text(object: &TracedObject) -> String {
    let mut text = format!("\n  {}: {} rows", object.key, object.rows);
    if let (Some(rows), Some(at), Some(version)) =
        (object.rows_in, &object.processed_at, &object.contract_version)
    {
        text += &format!(" of {rows}, processed {at} by contract {version}");
    }
    if !object.in_bronze {
        text += ", no longer in bronze in that state";
    }
    for batch in &object.batches {
        text += &format!("\n    gateway {}, boot {}, batch {}", batch.gateway, batch.boot, batch.seq);
        text += &format!(", sealed {}", batch.sealed_at);
        if let (Some(rows), Some(offset), Some(len)) = (batch.rows, batch.byte_offset, batch.byte_len) {
            text += &format!(": {rows} of {} readings, bytes {offset}..{}", batch.readings, offset + len);
        }
    }
    text
}

/// A row as `name=value` pairs, in the order of its names.
fn fields(row: &Value) -> String {
    let Some(row) = row.as_object() else { return row.to_string() };
    let fields = row.iter().filter(|(name, _)| *name != "bronze_etag").map(|(name, value)| match value {
        Value::String(value) => format!("{name}={value}"),
        value => format!("{name}={value}"),
    });
    fields.collect::<Vec<_>>().join(" ")
}

fn rest(count: u64, listed: usize) -> String {
    match count.saturating_sub(listed as u64) {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    }
}
