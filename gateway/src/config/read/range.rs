//! The table `[range]`: which contract gives the ranges, and what happens outside them.

use std::fs;

use super::Keys;
use crate::contract_update::UpdatesConfig;
use crate::range::{DEFAULT_CONTRACT, OutOfRange, RangePolicy, RangeTable};
use crate::uplink::limits;

pub(super) fn read(mut keys: Keys<'_>) -> (Option<RangeTable>, RangePolicy, Option<UpdatesConfig>) {
    let contract = match keys.text("contract") {
        None => Ok(DEFAULT_CONTRACT.to_owned()),
        Some(path) => fs::read_to_string(&path).map_err(|error| format!("{path} cannot be read: {error}")),
    };
    let policy = RangePolicy {
        otherwise: keys.choice(
            "out_of_range",
            OutOfRange::Keep,
            &[("keep", OutOfRange::Keep), ("drop", OutOfRange::Drop)],
        ),
        drop_channels: keys.texts("drop_channels"),
    };
    let table = contract.and_then(|text| {
        RangeTable::from_contract(&text, policy.otherwise).map_err(|error| error.to_string())
    });
    let table = match table {
        Ok(mut table) => {
            for channel in &policy.drop_channels {
                if !table.drop_out_of_range(channel) {
                    keys.problem("drop_channels", format!("{channel:?} is not a channel of the contract"));
                }
            }
            Some(table)
        }
        Err(problem) => {
            keys.problem("contract", problem);
            None
        }
    };
    let topic = keys.text("contract_topic");
    let trial_ms = keys.number("contract_trial_ms", 600_000, 0..=86_400_000);
    if let Some(topic) = &topic {
        if topic.is_empty() || topic.contains(['+', '#', '\0']) {
            keys.problem("contract_topic", "wants a topic, without + and #");
        }
        if let Some(problem) = limits::topic_problem(topic) {
            keys.problem("contract_topic", format!("is refused by AWS IoT Core: {problem}"));
        }
    }
    keys.end();
    (table, policy, topic.map(|topic| UpdatesConfig { topic, trial_ms }))
}
