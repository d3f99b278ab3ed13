//! What is open, and what opens and resolves by a measurement: pure, time and values are arguments.
//!
//! A cause opens above its upper threshold and resolves below its lower one; between them nothing changes.
//! Where a measurement has nothing to say (too few rows), nothing changes either.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What one cause measures at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signal {
    /// What tells this cause from others of the same alert: a rule's id, or nothing.
    pub rule: String,
    /// What was measured, in the alert's unit.
    pub value: f64,
    /// In words, without a value of any row.
    pub summary: String,
    /// What nearly all of its rows have in common, by name.
    pub common: BTreeMap<String, String>,
}

/// One alert of a contract, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The dataset.
    pub dataset: String,
    /// The alert's name.
    pub alert: String,
    /// It opens above this.
    pub open: f64,
    /// It resolves below this, or at zero.
    pub resolve: f64,
    /// Its causes; one that is not listed measures zero. `None`: nothing can be said.
    pub signals: Option<Vec<Signal>>,
}

/// An alert that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The dataset.
    pub dataset: String,
    /// The alert's name in the contract.
    pub alert: String,
    /// The rule, where there is one.
    pub rule: String,
    /// Since when: milliseconds since 1970-01-01 UTC.
    pub since_ms: i64,
    /// What was measured when it opened.
    pub value: f64,
    /// In words.
    pub summary: String,
    /// What nearly all of its rows had in common.
    pub common: BTreeMap<String, String>,
}

/// Whether an episode begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It begins.
    Open,
    /// It ends.
    Resolve,
}

/// An episode's begin or end; each has exactly one of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The same whenever this event is told: a receiver may drop what it has.
    pub id: String,
    /// Begin or end.
    pub kind: Kind,
    /// When: milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// What was measured at that moment, in the alert's unit.
    pub value_now: f64,
    /// The alert, as it opened.
    #[serde(flatten)]
    pub episode: Open,
}

/// The open alerts, by cause.
pub type OpenAlerts = BTreeMap<String, Open>;

/// Opens and resolves by what was measured. `datasets` are those whose contracts were measured: an open
/// alert of theirs that is no longer in the contract resolves, one of another dataset stays.
pub fn step(
    open: &mut OpenAlerts,
    measured: &[Measured],
    datasets: &BTreeSet<&str>,
    now_ms: i64,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut values: BTreeMap<String, f64> = BTreeMap::new();
    for one in measured {
        for signal in one.signals.iter().flatten() {
            let cause = cause(&one.dataset, &one.alert, &signal.rule);
            values.insert(cause.clone(), signal.value);
            if signal.value > one.open && !open.contains_key(&cause) {
                let episode = Open {
                    dataset: one.dataset.clone(),
                    alert: one.alert.clone(),
                    rule: signal.rule.clone(),
                    since_ms: now_ms,
                    value: signal.value,
                    summary: signal.summary.clone(),
                    common: signal.common.clone(),
                };
                open.insert(cause.clone(), episode.clone());
                events.push(event(&cause, Kind::Open, now_ms, signal.value, episode));
            }
        }
    }
    let ended: Vec<(String, f64)> = open
        .iter()
        .filter_map(|(cause, episode)| {
            let one =
                measured.iter().find(|one| (&one.dataset, &one.alert) == (&episode.dataset, &episode.alert));
            let value = values.get(cause).copied().unwrap_or_default();
            let over = match one {
                Some(one) => one.signals.is_some() && (value < one.resolve || value == 0.0),
                None => datasets.contains(episode.dataset.as_str()),
            };
            over.then(|| (cause.clone(), value))
        })
        .collect();
    for (cause, value) in ended {
        if let Some(episode) = open.remove(&cause) {
            events.push(event(&cause, Kind::Resolve, now_ms, value, episode));
        }
    }
    events
}

/// What tells one cause from another.
pub fn cause(dataset: &str, alert: &str, rule: &str) -> String {
    if rule.is_empty() { format!("{dataset}/{alert}") } else { format!("{dataset}/{alert}/{rule}") }
}

fn event(cause: &str, kind: Kind, at_ms: i64, value_now: f64, episode: Open) -> Event {
    let word = match kind {
        Kind::Open => "open",
        Kind::Resolve => "resolve",
    };
    Event { id: format!("{cause}@{}/{word}", episode.since_ms), kind, at_ms, value_now, episode }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: Option<f64>) -> Vec<Measured> {
        let signal = |value| vec![Signal { rule: "out_of_range".to_owned(), value, ..Signal::default() }];
        vec![Measured {
            dataset: "d".to_owned(),
            alert: "discards".to_owned(),
            open: 5.0,
            resolve: 2.0,
            signals: value.map(signal),
        }]
    }

    fn kinds(values: &[Option<f64>]) -> Vec<(usize, Kind)> {
        let mut open = OpenAlerts::new();
        let mut kinds = Vec::new();
        for (now, value) in values.iter().enumerate() {
            let events = step(&mut open, &at(*value), &BTreeSet::from(["d"]), now as i64);
            kinds.extend(events.iter().map(|event| (now, event.kind)));
        }
        kinds
    }

    #[test]
    fn a_value_that_wavers_between_the_thresholds_is_one_episode() {
        let values = [4.0, 6.0, 4.0, 6.0, 3.0, 5.5, 2.5, 1.0, 4.0, 2.1, 0.0].map(Some);
        assert_eq!(kinds(&values), [(1, Kind::Open), (7, Kind::Resolve)]);
    }

    #[test]
    fn silence_neither_opens_nor_resolves() {
        let values = [None, Some(9.0), None, None, Some(0.0), None];
        assert_eq!(kinds(&values), [(1, Kind::Open), (4, Kind::Resolve)]);
    }

    #[test]
    fn a_cause_that_is_not_seen_any_more_resolves() {
        let mut open = OpenAlerts::new();
        let datasets = BTreeSet::from(["d"]);
        step(&mut open, &at(Some(9.0)), &datasets, 1);
        let mut quiet = at(Some(9.0));
        quiet[0].signals = Some(Vec::new());
        let events = step(&mut open, &quiet, &datasets, 2);
        assert_eq!((events.len(), events[0].kind, events[0].episode.since_ms), (1, Kind::Resolve, 1));
        assert_eq!(events[0].id, "d/discards/out_of_range@1/resolve");
    }

    #[test]
    fn an_alert_that_the_contract_drops_resolves_and_another_datasets_stays() {
        let mut open = OpenAlerts::new();
        step(&mut open, &at(Some(9.0)), &BTreeSet::from(["d"]), 1);
        assert_eq!(step(&mut open, &[], &BTreeSet::from(["other"]), 2), []);
        assert_eq!(step(&mut open, &[], &BTreeSet::from(["d"]), 3).len(), 1);
    }
}
