//! Verification: the ground truth held against the lake, reading for reading.
//!
//! Every reading that was produced must be in silver, bit for bit, or in discard, and in the one that the
//! contract says; what the edge gave up is a count in the lake's own balance. Nothing else may be there.
//! The verdict expected is that of the edge's half of the contract, so the two tiers check each other.
//! Memory: about 200 bytes a reading of the truth.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use ingot_agent::Quality;
use ingot_gateway::range::{ContractError, DEFAULT_CONTRACT, OutOfRange, RangeTable};
use ingot_processor::arrow::array::AsArray;
use ingot_processor::arrow::compute::cast;
use ingot_processor::arrow::datatypes::{DataType, Float64Type, Int64Type};
use ingot_processor::arrow::error::ArrowError;
use ingot_processor::contract::Contract;
use ingot_processor::lake::Lake;
use ingot_processor::query::{QueryError, query};
use serde::{Deserialize, Serialize};

use crate::Sample;
use crate::truth::TruthError;

/// Differences that a report names; the rest is counted.
const NAMED_MAX: usize = 20;
/// How far ahead of the clock the contract lets a reading be.
const AHEAD_MS_MAX: i64 = 5 * 60 * 1_000;

/// What the comparison found.
#[derive(Debug, Default, Serialize)]
pub struct Verification {
    /// Readings in the truth.
    pub produced: u64,
    /// Of these in silver, bit for bit.
    pub silver: u64,
    /// Of these in discard, as the contract says.
    pub discarded: u64,
    /// Discarded readings that came again and were discarded again; not counted in `discarded`.
    pub discarded_again: u64,
    /// Of what was produced in neither: on the way, or given up at the edge and counted there.
    pub elsewhere: u64,
    /// Of these elsewhere, readings that the contract accepts: only a full spool may have them.
    pub elsewhere_good: u64,
    /// Readings in the lake that are altered, misjudged, there twice, or that nobody produced.
    pub wrong: u64,
    /// Some of them, in words.
    pub wrong_named: Vec<String>,
}

/// Verification could not be held.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The truth cannot be read.
    #[error(transparent)]
    Truth(#[from] TruthError),
    /// The edge cannot read the contract.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The lake could not be asked.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The answer could not be read.
    #[error("reading the lake's rows: {0}")]
    Rows(#[from] ArrowError),
}

type Id = (String, u64, u64);

/// Holds the truth against the lake's `sensor_readings`. `now_ms` is a time after all processing.
pub async fn verify(
    truth: impl Iterator<Item = Result<Sample, TruthError>>,
    lake: &Lake,
    now_ms: i64,
) -> Result<Verification, VerifyError> {
    let mut found = Verification::default();
    let mut open: HashMap<Id, Sample> = HashMap::new();
    for sample in truth {
        let sample = sample?;
        found.produced += 1;
        open.insert((sample.device.to_string(), sample.boot, sample.seq), sample);
    }
    let ranges = RangeTable::from_contract(DEFAULT_CONTRACT, OutOfRange::Keep)?;
    let good = |sample: &Sample| is_good(&ranges, sample, now_ms);
    silver(lake, &mut open, &mut found, good).await?;
    discarded(lake, &mut open, &mut found, good).await?;
    found.elsewhere = open.len() as u64;
    found.elsewhere_good = open.values().filter(|sample| good(sample)).count() as u64;
    Ok(found)
}

/// Whether the contract accepts the reading.
fn is_good(ranges: &RangeTable, sample: &Sample, now_ms: i64) -> bool {
    let Some(value) = sample.value else { return false };
    let Some((spec, _)) = ranges.get(&sample.channel) else { return false };
    let quality = ingot_agent::range::check(&spec, None, value);
    sample.at_ms <= now_ms + AHEAD_MS_MAX && !quality.contains(Quality::OUT_OF_RANGE)
}

async fn silver(
    lake: &Lake,
    open: &mut HashMap<Id, Sample>,
    found: &mut Verification,
    good: impl Fn(&Sample) -> bool,
) -> Result<(), VerifyError> {
    let sql = "SELECT device, channel, boot, seq, CAST(CAST(at AS TIMESTAMP) AS BIGINT) / 1000000 AS at_ms, value FROM silver.sensor_readings";
    for batch in query(lake, &Contract::embedded(), sql).await? {
        let text = |column: usize| cast(batch.column(column), &DataType::Utf8);
        let (device, channel) = (text(0)?, text(1)?);
        let (device, channel) = (device.as_string::<i32>(), channel.as_string::<i32>());
        let number = |column: usize| batch.column(column).as_primitive::<Int64Type>();
        let (boot, seq, at_ms) = (number(2), number(3), number(4));
        let value = batch.column(5).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let id = (device.value(row).to_owned(), boot.value(row) as u64, seq.value(row) as u64);
            let there = (channel.value(row), at_ms.value(row), value.value(row).to_bits());
            match open.entry(id) {
                Entry::Occupied(truth) => {
                    let truth = truth.remove();
                    let expected = (&*truth.channel, truth.at_ms, truth.value_bits().unwrap_or_default());
                    if there != expected {
                        found.wrong(format!("altered in silver: {truth:?} is there as {there:?}"));
                    } else if !good(&truth) {
                        found.wrong(format!("in silver, but the contract discards it: {truth:?}"));
                    } else {
                        found.silver += 1;
                    }
                }
                Entry::Vacant(id) => {
                    found.wrong(format!("in silver twice, or nobody produced it: {:?}", id.key()));
                }
            }
        }
    }
    Ok(())
}

/// What a discarded reading's record must say of it.
#[derive(Deserialize)]
struct Record {
    device: String,
    boot: u64,
    seq: u64,
    channel: String,
    value: Option<f64>,
}

async fn discarded(
    lake: &Lake,
    open: &mut HashMap<Id, Sample>,
    found: &mut Verification,
    good: impl Fn(&Sample) -> bool,
) -> Result<(), VerifyError> {
    let mut seen: HashMap<Id, Sample> = HashMap::new();
    let sql = "SELECT record FROM discard WHERE dataset = 'sensor_readings' AND rule <> 'duplicate'";
    for batch in query(lake, &Contract::embedded(), sql).await? {
        let records = cast(batch.column(0), &DataType::Utf8)?;
        for text in records.as_string::<i32>().iter().flatten() {
            let Ok(record) = serde_json::from_str::<Record>(text) else {
                found.wrong(format!("a discarded record is not a reading: {text}"));
                continue;
            };
            let id = (record.device, record.boot, record.seq);
            let again = seen.contains_key(&id);
            let Some(truth) = open.remove(&id).or_else(|| seen.remove(&id)) else {
                found.wrong(format!("in discard, but nobody produced it, or silver has it: {text}"));
                continue;
            };
            if good(&truth) {
                found.wrong(format!("discarded, but the contract accepts it: {truth:?}"));
            } else if *truth.channel != *record.channel || truth.value != record.value {
                found.wrong(format!("altered in discard: {truth:?} is there as {text}"));
            } else if again {
                found.discarded_again += 1;
            } else {
                found.discarded += 1;
            }
            seen.insert(id, truth);
        }
    }
    Ok(())
}

impl Verification {
    /// Whether nothing is wrong, and nothing is missing but what the edge counted as given up, by cause.
    /// A good reading can be given up by a full spool only.
    pub fn is_verified(&self, dropped: &BTreeMap<String, u64>) -> bool {
        let spool_full = dropped.get("spool_full").copied().unwrap_or_default();
        self.wrong == 0
            && self.elsewhere_good <= spool_full
            && self.elsewhere <= dropped.values().sum::<u64>()
    }

    fn wrong(&mut self, what: String) {
        self.wrong += 1;
        if self.wrong_named.len() < NAMED_MAX {
            self.wrong_named.push(what);
        }
    }
}
