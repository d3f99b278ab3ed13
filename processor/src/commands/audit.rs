//! `audit`: the balance of the lake, and the objects that the cloud forgot.

use std::process::ExitCode;

use anyhow::{Result, bail};
use chrono::Utc;
use clap::Args;
use ingot_processor::audit::{self, Balance, Devices, UNPROCESSED_AFTER_S, audit_before, lost_before_ms};
use ingot_processor::aws::client::Client;
use ingot_processor::aws::notice;
use ingot_processor::aws::queue::Queue;
use ingot_processor::aws::s3::S3Place;
use ingot_processor::contract::Contract;
use ingot_processor::lake::Lake;
use serde::Serialize;

use super::{Usage, WORK_FAILED, contracts_of, print, progress_bar, superseded};
use crate::cli::{Cli, Place};

/// `audit`.
#[derive(Args)]
pub struct AuditArgs {
    /// The lake and its contracts.
    #[command(flatten)]
    place: Place,
    /// Seconds after which an object in bronze that is not processed counts as forgotten, and so do rows that gold does
    /// not show
    #[arg(long, value_name = "S", default_value_t = UNPROCESSED_AFTER_S)]
    unprocessed_after_s: u64,
    /// Hand forgotten objects on again: to the queue, if there is one. Without, that is to count them: the next run lists
    /// bronze and takes them
    #[arg(long)]
    requeue: bool,
    /// The queue of SQS that the processor reads: each forgotten object is sent there as S3 would
    #[arg(long, value_name = "URL", env = "INGOT_QUEUE_URL")]
    queue_url: Option<String>,
}

impl AuditArgs {
    /// The queue, and where the lake's objects are in S3; what is wrong is told before anything is done.
    fn queue(&self) -> Result<Option<(Queue, S3Place)>> {
        let Some(url) = self.queue_url.as_ref().filter(|_| self.requeue) else { return Ok(None) };
        let Some(place) = S3Place::parse(&self.place.lake) else {
            bail!(Usage(format!(
                "--queue-url is for lakes in S3, and {} is none; without it, the next run takes what was forgotten",
                self.place.lake
            )));
        };
        Ok(Some((queue_at(url)?, place)))
    }
}

/// The queue at the URL.
pub(super) fn queue_at(url: &str) -> Result<Queue> {
    let queue = Client::from_env().and_then(|client| Queue::new(client, url));
    Ok(queue.map_err(|error| Usage(error.to_string()))?)
}

/// What the audit found.
#[derive(Serialize)]
pub(super) struct Audited {
    #[serde(flatten)]
    pub balance: Balance,
    /// Objects that were handed on again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requeued: Option<u64>,
}

/// `audit`.
pub async fn audit(cli: &Cli, args: &AuditArgs) -> Result<ExitCode> {
    let contracts = contracts_of(&args.place)?;
    let queue = args.queue()?;
    let lake = Lake::open(&args.place.lake)?;
    let bar = progress_bar(cli, "auditing", "steps")?;
    let audited =
        held(&lake, &contracts, args.unprocessed_after_s, args.requeue, queue.as_ref(), |done, steps| {
            bar.set_length(steps);
            bar.set_position(done);
        })
        .await;
    bar.finish_and_clear();
    let audited = audited?;
    print(cli, &audited, || text(&audited))?;
    Ok(if audited.balance.is_balanced() { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
}

/// Holds the audit, and hands on what the cloud forgot where that is wanted.
pub(super) async fn held(
    lake: &Lake,
    contracts: &[Contract],
    unprocessed_after_s: u64,
    requeue: bool,
    queue: Option<&(Queue, S3Place)>,
    progress: impl Fn(u64, u64),
) -> Result<Audited> {
    let before_ms = lost_before_ms(Utc::now().timestamp_millis(), unprocessed_after_s);
    let balance = audit_before(lake, contracts, before_ms, progress).await?;
    let requeued = match requeue {
        false => None,
        true => {
            let send = async |objects: &[_]| match queue {
                Some((queue, place)) => Ok(notice::send(queue, place, objects).await?),
                // The next run finds them by itself.
                None => Ok::<(), anyhow::Error>(()),
            };
            Some(audit::requeue(lake, contracts, before_ms, send).await?)
        }
    };
    Ok(Audited { balance, requeued })
}

fn text(Audited { balance, requeued }: &Audited) -> String {
    let mut text = format!(
        "{} objects, {} rows in = {} silver + {} discarded + {} duplicates{}; {} objects in flight, {} in quarantine; dropped at the edge: {}",
        balance.objects,
        balance.rows_in,
        balance.silver,
        balance.discarded,
        balance.duplicates,
        superseded(balance.superseded) + &waiting(balance.waiting),
        balance.in_flight_objects,
        balance.quarantined_objects,
        balance.dropped.values().sum::<u64>(),
    );
    for (dataset, devices) in &balance.devices {
        text += &devices_text(dataset, devices);
    }
    if balance.misnamed_objects > 0 {
        text += &format!("\n  never processed, by their names: {} objects", balance.misnamed_objects);
    }
    if !balance.gold_behind.is_empty() {
        text += &format!("\n  behind silver: gold {}", balance.gold_behind.join(", "));
    }
    for key in &balance.unprocessed {
        text += &format!("\n  never processed: {key}");
    }
    if let Some(requeued) = requeued {
        text += &format!("\n  requeued: {requeued} objects; the next run processes them");
    }
    for finding in &balance.findings {
        text += &format!("\n  {finding}");
    }
    if balance.findings_count > balance.findings.len() as u64 {
        text += &format!("\n  … {} findings in all", balance.findings_count);
    }
    text += if balance.is_balanced() { "\nbalanced" } else { "\nNOT balanced" };
    text
}

fn waiting(rows: i64) -> String {
    if rows == 0 { String::new() } else { format!(" + {rows} not shown yet") }
}

fn devices_text(dataset: &str, devices: &Devices) -> String {
    let mut text = format!(
        "\n{dataset}: {} device sequences, {} readings seen, {} late, {} duplicates",
        devices.sequences, devices.seen, devices.late, devices.duplicates
    );
    if devices.missing > 0 {
        text += &format!(
            "; {} missing in {} gaps = {} dropped + {} unreadable + {} awaited + {} lost",
            devices.missing, devices.gaps, devices.dropped, devices.unreadable, devices.awaited, devices.lost
        );
    }
    for sequence in &devices.incomplete {
        text += &format!(
            "\n  {} boot {}: {} of {} missing in {} gaps, the first is {}",
            sequence.device,
            sequence.boot,
            sequence.missing,
            sequence.last - sequence.first + 1,
            sequence.gaps,
            sequence.first_missing
        );
    }
    text
}
